"""Web pages and PDFs from the committed notebooks, through nbconvert, with nothing from outside.

The style is in the page, formulas are MathML, figures are embedded: a page opens from a disk and
without a network. The landing page is the README, its links turned to the pages.
"""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode
from pygments.formatters import HtmlFormatter

from assignment.common.settings import PROJECT, AssignmentError
from assignment.common.tables import anchor

TEMPLATES = Path(__file__).parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


class Renderer(IPythonRenderer):
    """Markdown with stable ids for headings and formulas as MathML."""

    def heading(self, text: str, level: int, **_: Any) -> str:
        """Give a heading the id of its words."""
        return f'<h{level} id="{anchor(_words(text))}">{text}</h{level}>\n'

    def inline_math(self, body: str) -> str:
        """Typeset a formula in a line."""
        return str(convert(body))

    def block_math(self, body: str) -> str:
        """Typeset a formula of its own."""
        return str(convert(body.strip(), display="block"))

    def table(self, text: str) -> str:
        """Let a wide table scroll by itself, not the page."""
        return _scrolling("Table", f"<table>\n{text}</table>")

    def block_code(self, code: str, info: str | None = None) -> str:
        """Let long lines of code scroll."""
        return _scrolling("Code", str(super().block_code(code, info)))


def to_html(source: str) -> str:
    """Turn Markdown into HTML."""
    return MarkdownWithMath(renderer=Renderer(escape=False)).render(source)


def build(folder: Path) -> list[Path]:
    """Write the landing page and a page per notebook; return their paths."""
    sources = _sources()
    titles = {file: _headings(source, "#")[0] for file, source in sources.items()}
    style = (TEMPLATES / "page_template" / "page.css").read_text(encoding="utf-8")
    exporter = HTMLExporter(
        template_name="page_template", extra_template_basedirs=[str(TEMPLATES)],
        filters={"markdown2html": to_html},
    )  # fmt: skip
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    for file, source in sources.items():
        page = {
            "file": file,
            "title": titles[file],
            "style": style + HtmlFormatter(style="default").get_style_defs(".highlight"),
            "pages": [{"file": name, "title": title} for name, title in titles.items()],
            "sections": [{"id": anchor(t), "title": t} for t in _headings(source, "##")],
        }
        html, _ = exporter.from_notebook_node(source, resources={"page": page})
        for figure in re.findall(r'src="(figures/[^"]+)"', html):
            shutil.copyfile(PROJECT / figure, folder / figure)
        (folder / file).write_text(html, encoding="utf-8")
    return [folder / file for file in sources]


def browser() -> str | None:
    """Return the path of Chromium or Chrome, where there is one."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def browser_options() -> list[str]:
    """Return the options of a browser without a window; as root it starts without its sandbox."""
    as_root = hasattr(os, "geteuid") and os.geteuid() == 0
    return ["--headless", "--disable-gpu", *(["--no-sandbox"] if as_root else [])]


def build_pdf(folder: Path) -> list[Path]:
    """Print every notebook's page with headless Chromium; return the paths."""
    if (program := browser()) is None:
        raise AssignmentError(
            "Printing to PDF needs Chromium (or Chrome), and none is installed. Install it (Debian "
            "and Ubuntu: apt install chromium), or print the pages of `make html` from a browser."
        )
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    with tempfile.TemporaryDirectory() as temporary:
        for page in build(Path(temporary))[1:]:
            made.append(folder / f"{page.stem}.pdf")
            options = [*browser_options(), "--no-pdf-header-footer", f"--print-to-pdf={made[-1]}"]
            run = subprocess.run([program, *options, page.as_uri()], capture_output=True, text=True)
            if run.returncode or not made[-1].is_file():
                reason = (run.stderr.strip().splitlines() or ["no reason given"])[-1]
                raise AssignmentError(f"{Path(program).name} could not print {page.name}: {reason}")
    return made


def _sources() -> dict[str, NotebookNode]:
    """Return what each page shows, by its file name; the README, as a notebook, comes first."""
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    # Links to notebooks become links to their pages, links to other files plain words.
    text = re.sub(r"\(notebooks/(\w+)\.ipynb", r"(\1.html", text)
    text = re.sub(r"\[([^\]]+)\]\((?!https?:|#|figures/|\w+\.html)[^)]+\)", r"\1", text)
    sources = {"index.html": nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text)])}
    notebooks = sorted((PROJECT / "notebooks").glob("*.ipynb"))
    return sources | {f"{path.stem}.html": nbformat.read(path, as_version=4) for path in notebooks}


def _headings(notebook: NotebookNode, level: str) -> list[str]:
    text = "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return [_words(h) for h in re.findall(rf"^{level} (.+)$", text, re.MULTILINE)]


def _words(heading: str) -> str:
    return re.sub(r"<[^>]+>|[`*]", "", heading).strip()


def _scrolling(what: str, html: str) -> str:
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{what}">{html}</div>\n'
