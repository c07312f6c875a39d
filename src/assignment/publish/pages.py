"""Web pages and PDFs from the committed notebooks, through nbconvert, with nothing from outside.

The style is in the page, formulas are MathML, figures are embedded: a page opens from a disk and
without a network. The landing page has a card for each notebook; its answers are the README's.
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

from assignment.common.files import AnyPath
from assignment.common.settings import PROJECT, AssignmentError
from assignment.common.tables import anchor
from assignment.publish import readme

TEMPLATES = Path(__file__).parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


class Renderer(IPythonRenderer):
    """Markdown with stable ids for headings and formulas as MathML."""

    def heading(self, text: str, level: int, **_: Any) -> str:
        """Give a heading the id of its words."""
        return f'<h{level} id="{anchor(_words(text))}">{text}</h{level}>\n'

    def inline_math(self, body: str) -> str:
        """Typeset a formula in a line."""
        return _typeset(body, "inline")

    def block_math(self, body: str) -> str:
        """Typeset a formula of its own."""
        return _scrolling("Formula", _typeset(body.strip(), "block"))

    def table(self, text: str) -> str:
        """Let a wide table scroll by itself, not the page."""
        return _scrolling("Table", f"<table>\n{text}</table>")

    def block_code(self, code: str, info: str | None = None) -> str:
        """Let long lines of code scroll."""
        return _scrolling("Code", str(super().block_code(code, info)))


def to_html(source: str) -> str:
    """Turn Markdown into HTML."""
    return MarkdownWithMath(renderer=Renderer(escape=False)).render(source)


def build(folder: AnyPath) -> list[Path]:
    """Write the landing page and a page per notebook; return their paths."""
    folder = Path(folder)
    paths = sorted((PROJECT / "notebooks").glob("*.ipynb"))
    notebooks = {path.stem: nbformat.read(path, as_version=4) for path in paths}
    titles = {name: _headings(notebook, "#")[0] for name, notebook in notebooks.items()}
    exporter = HTMLExporter(
        template_name="page_template", extra_template_basedirs=[str(TEMPLATES)],
        filters={"markdown2html": to_html},
    )  # fmt: skip
    common = {
        "colours": lambda name: HtmlFormatter(style=name).get_style_defs(".highlight"),
        "titles": titles,
        "sections": {name: _headings(notebook, "##") for name, notebook in notebooks.items()},
        "anchor": anchor,
    }
    template = exporter.environment.get_template("landing.html.j2")
    printed = [name for name in titles if (folder.parent / "pdf" / f"{name}.pdf").is_file()]
    html = {"index": template.render(page=common, answers=readme.results(), printed=printed)}
    for name, notebook in notebooks.items():
        html[name], _ = exporter.from_notebook_node(notebook, {"page": {**common, "name": name}})
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    for figure in re.findall(r'src="(figures/[^"]+)"', "".join(html.values())):
        shutil.copyfile(PROJECT / figure, folder / figure)
    for name, text in html.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return [folder / f"{name}.html" for name in html]


def browser() -> str | None:
    """Return the path of Chromium or Chrome, where there is one."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def browser_options() -> list[str]:
    """Return the options of a browser without a window; as root it starts without its sandbox."""
    as_root = hasattr(os, "geteuid") and os.geteuid() == 0
    return ["--headless", "--disable-gpu", *(["--no-sandbox"] if as_root else [])]


def build_pdf(folder: AnyPath) -> list[Path]:
    """Print every notebook's page with headless Chromium; return the paths."""
    if (program := browser()) is None:
        raise AssignmentError(
            "Printing to PDF needs Chromium (or Chrome), and none is installed. Install it (Debian "
            "and Ubuntu: apt install chromium), or print the pages of `make html` from a browser."
        )
    folder, made = Path(folder), []
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        for page in build(Path(temporary))[1:]:
            made.append(folder / f"{page.stem}.pdf")
            options = [*browser_options(), "--no-pdf-header-footer", f"--print-to-pdf={made[-1]}"]
            run = subprocess.run([program, *options, page.as_uri()], capture_output=True, text=True)
            if run.returncode or not made[-1].is_file():
                reason = (run.stderr.strip().splitlines() or ["no reason given"])[-1]
                raise AssignmentError(f"{Path(program).name} could not print {page.name}: {reason}")
    return made


def _typeset(formula: str, display: str) -> str:
    # A norm's bars neither grow with what is beside them nor stand apart from it.
    bar = r"<mo[^>]*>(&#x02016;|&#x0007C;)"
    upright = r'<mo stretchy="false" lspace="0" rspace="0">\1'
    return re.sub(bar, upright, convert(formula, display=display))


def _headings(notebook: NotebookNode, level: str) -> list[str]:
    text = "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return [_words(h) for h in re.findall(rf"^{level} (.+)$", text, re.MULTILINE)]


def _words(heading: str) -> str:
    return re.sub(r"<[^>]+>|[`*]", "", heading).strip()


def _scrolling(what: str, html: str) -> str:
    return f'<div class="scroll" role="group" tabindex="0" aria-label="{what}">{html}</div>\n'
