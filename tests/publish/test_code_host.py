"""What a code host makes of the notebooks: nothing that it would refuse, strip or leave blank."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from assignment.common import settings

NOTEBOOKS = sorted((settings.PROJECT / "notebooks").glob("*.ipynb"))
MOST_BYTES, MOST_LINES = 5_000_000, 40
A_MACHINE = re.compile(
    r"(?<![\w.])/(?:home|root|Users|tmp|work|private|content)/\w|[A-Z]:\\\\?Users"
)
STRIPPED = re.compile(r"<(?:style|script|iframe|link|svg)\b", re.IGNORECASE)
ELSEWHERE = re.compile(r"!\[[^\]]*\]\((?!figures/)|<img\b", re.IGNORECASE)


def faults(notebook: Any) -> Iterator[str]:
    """Name everything that a code host would refuse or strip, or a reader stumble over."""
    if "widgets" in notebook.metadata:
        yield "widgets are saved"
    if len(nbformat.writes(notebook).encode()) > MOST_BYTES:
        yield "it is too large to be rendered"
    for cell in notebook.cells:
        if A_MACHINE.search(cell.source):
            yield f"{cell.id}: names a place on one machine"
        if cell.cell_type == "markdown":
            yield from words_faults(cell.id, cell.source)
        else:
            yield from code_faults(cell)


def words_faults(name: str, text: str) -> Iterator[str]:
    if ELSEWHERE.search(text):
        yield f"{name}: an image from elsewhere"
    if STRIPPED.search(text):
        yield f"{name}: markup that is stripped"
    prose = re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL)
    if re.search(r"\\[(\[]|\\begin\{(?:align|equation)", prose):
        yield f"{name}: formulas in a dialect that code hosts do not read"
    blocks = re.findall(r"\$\$(.*?)\$\$", prose, re.DOTALL)
    if any(re.search(r"^\s*[-+*>#]\s", line) for block in blocks for line in block.splitlines()):
        yield f"{name}: a formula's line begins like a list"
    inline = re.sub(r"\$\$.*?\$\$", "", prose, flags=re.DOTALL)
    loose = [found for found in re.findall(r"\$([^$]*)\$", inline) if found != found.strip()]
    if inline.count("$") % 2 or loose:
        yield f"{name}: a dollar sign without its partner, or with a space inside"


def code_faults(cell: Any) -> Iterator[str]:
    if not cell.source.strip():
        yield f"{cell.id}: nothing in it"
    if len(cell.source.splitlines()) > MOST_LINES:
        yield f"{cell.id}: more than {MOST_LINES} lines"
    for output in cell.outputs:
        data = dict(output.get("data", {})) | ({"text": output.text} if "text" in output else {})
        if output.output_type == "error" or output.get("name") == "stderr":
            yield f"{cell.id}: an error or a warning is saved"
        if any("widget" in kind or "javascript" in kind for kind in data):
            yield f"{cell.id}: an output that does not render"
        if "image/png" in data and len(output.metadata["image/png"].get("alt", "")) < 40:
            yield f"{cell.id}: a figure without words"
        texts = [text for kind, text in data.items() if kind.startswith("text")]
        if any(A_MACHINE.search(text) for text in texts):
            yield f"{cell.id}: an output names a place on one machine"
        if any(STRIPPED.search(text) for text in texts):
            yield f"{cell.id}: an output with markup that is stripped"
        if any(len(text) > 4_000 for kind, text in data.items() if kind == "text"):
            yield f"{cell.id}: a wall of text"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_nothing_is_lost_on_a_code_host(path: Path) -> None:
    assert list(faults(nbformat.read(path, as_version=4))) == []


def code(source: str = "1", **output: Any) -> Any:
    made = nbformat.v4.new_code_cell(source)
    made.outputs = [nbformat.v4.new_output(**output)] if output else []
    return made


def shown(**data: Any) -> dict[str, Any]:
    kinds = {kind.replace("_", "/"): value for kind, value in data.items()}
    return {"output_type": "display_data", "data": kinds, "metadata": {"image/png": {}}}


def words(source: str) -> Any:
    return nbformat.v4.new_markdown_cell(source)


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (lambda: words("![a](https://example.org/a.png)"), "an image from elsewhere"),
        (lambda: words("<img src='a.png'>"), "an image from elsewhere"),
        (lambda: words("<style>p {}</style>"), "stripped"),
        (lambda: words(r"so \(x\)"), "dialect"),
        (lambda: words("$$\na\n- b\n$$"), "like a list"),
        (lambda: words("from $ x $ to y"), "dollar"),
        (lambda: words("it costs $5"), "dollar"),
        (lambda: words(f"see /{'home'}/me/data"), "one machine"),
        (lambda: code(""), "nothing in it"),
        (lambda: code("\n".join(["x"] * 41)), "more than 40"),
        (lambda: code(output_type="stream", name="stderr", text="careful"), "a warning"),
        (lambda: code(output_type="stream", name="stdout", text="x" * 4001), "wall"),
        (lambda: code(output_type="stream", name="stdout", text="in /tmp/run"), "one machine"),
        (lambda: code(**shown(image_png="x", text_plain="x")), "without words"),
        (lambda: code(**shown(text_html="<style></style>")), "stripped"),
        (lambda: code(**{"output_type": "error", "ename": "E", "evalue": ""}), "an error"),
        (
            lambda: code(output_type="display_data", data={"application/vnd.jupyter.widget": "x"}),
            "does not render",
        ),
    ],
)
def test_every_fault_is_named(cell: Callable[[], Any], expected: str) -> None:
    found = list(faults(nbformat.v4.new_notebook(cells=[cell()])))
    assert len(found) == 1
    assert expected in found[0]


def test_size_and_widgets_are_named() -> None:
    large = nbformat.v4.new_notebook(cells=[words("x" * (MOST_BYTES + 1))])
    large.metadata["widgets"] = {}
    assert list(faults(large)) == ["widgets are saved", "it is too large to be rendered"]


def test_what_is_right_is_left_alone() -> None:
    cells = [words("With $x$ and\n\n$$\nx + y\n$$\n\n`$5`, [a link](https://example.org).")]
    assert list(faults(nbformat.v4.new_notebook(cells=[*cells, code("print(1)")]))) == []
