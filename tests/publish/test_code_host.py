"""What a code host makes of the notebooks: nothing that it would refuse, strip or leave blank."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tests.test_notebooks import each_notebook

MOST_BYTES, MOST_LINES, MOST_LETTERS = 5_000_000, 40, 4_000
A_MACHINE = re.compile(r"(?<![\w.])/(?:home|root|Users|tmp|work|content)/\w|[A-Z]:\\\\?Users")
STRIPPED = re.compile(r"<(?:style|script|iframe|link|svg)\b", re.IGNORECASE)
ELSEWHERE = re.compile(r"!\[[^\]]*\]\((?!figures/)|<img\b", re.IGNORECASE)


def faults(notebook: Any) -> Iterator[str]:
    """Name everything that a code host would refuse or strip, or a reader stumble over."""
    if "widgets" in notebook.metadata:
        yield "widgets are saved"
    if len(nbformat.writes(notebook).encode()) > MOST_BYTES:
        yield "it is too large to be rendered"
    for cell in notebook.cells:
        checks = [prose_checks(cell.source) if cell.cell_type == "markdown" else code_checks(cell)]
        for found in checks + [output_checks(output) for output in cell.get("outputs", [])]:
            yield from (f"{cell.id}: {fault}" for fault, is_so in found.items() if is_so)


def prose_checks(text: str) -> dict[str, Any]:
    prose = re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL)
    blocks = "\n".join(re.findall(r"\$\$(.*?)\$\$", prose, re.DOTALL))
    inline = re.sub(r"\$\$.*?\$\$", "", prose, flags=re.DOTALL)
    formulas = re.findall(r"\$([^$]*)\$", inline)
    return {
        "names a place on one machine": A_MACHINE.search(text),
        "an image from elsewhere": ELSEWHERE.search(text),
        "markup that is stripped": STRIPPED.search(text),
        "formulas in another dialect": re.search(r"\\[(\[]|\\begin\{(?:align|equation)", prose),
        "a formula's line begins like a list": re.search(r"^\s*[-+*>#]\s", blocks, re.MULTILINE),
        "a dollar sign without its partner": inline.count("$") % 2,
        "a formula with a space at its end": any(f != f.strip() for f in formulas),
    }


def code_checks(cell: Any) -> dict[str, Any]:
    return {
        "names a place on one machine": A_MACHINE.search(cell.source),
        "nothing in it": not cell.source.strip(),
        f"more than {MOST_LINES} lines": len(cell.source.splitlines()) > MOST_LINES,
    }


def output_checks(output: Any) -> dict[str, Any]:
    data, text = output.get("data", {}), output.get("text", "")
    texts = "\n".join([text, *(data[kind] for kind in data if kind.startswith("text"))])
    alt = output.get("metadata", {}).get("image/png", {}).get("alt", "")
    return {
        "an error or a warning": output.output_type == "error" or output.get("name") == "stderr",
        "an output that does not render": re.search("widget|javascript", " ".join(data)),
        "a figure without words": "image/png" in data and len(alt) < 40,
        "an output names a place on one machine": A_MACHINE.search(texts),
        "an output with markup that is stripped": STRIPPED.search(texts),
        "a wall of text": len(text) > MOST_LETTERS,
    }


@each_notebook
def test_nothing_is_lost_on_a_code_host(path: Path) -> None:
    assert list(faults(nbformat.read(path, as_version=4))) == []


def output(kind: str = "display_data", **fields: Any) -> Any:
    return new_code_cell("1", outputs=[new_output(kind, **fields)])


@pytest.mark.parametrize(("shown", "expected"), [
    (new_markdown_cell("With $x$ and\n\n$$\nx + y\n$$\n\n`$5`, [a](https://example.org)."), []),
    (new_markdown_cell("![a](https://example.org/a.png)"), ["an image from elsewhere"]),
    (new_markdown_cell("<style>p {}</style>"), ["markup that is stripped"]),
    (new_markdown_cell(r"so \(x\)"), ["formulas in another dialect"]),
    (new_markdown_cell("$$\na\n- b\n$$"), ["a formula's line begins like a list"]),
    (new_markdown_cell("from $ x$ to y"), ["a formula with a space at its end"]),
    (new_markdown_cell("it costs $5"), ["a dollar sign without its partner"]),
    (new_markdown_cell(f"see /{'home'}/me/data"), ["names a place on one machine"]),
    (new_code_cell(""), ["nothing in it"]),
    (new_code_cell("\n".join(["x"] * 41)), ["more than 40 lines"]),
    (output("stream", name="stderr", text="careful"), ["an error or a warning"]),
    (output("stream", name="stdout", text="x" * 4001), ["a wall of text"]),
    (output("stream", text="in /tmp/run"), ["an output names a place on one machine"]),
    (output(data={"image/png": "x"}), ["a figure without words"]),
    (output(data={"text/html": "<svg/>"}), ["an output with markup that is stripped"]),
    (output(data={"application/vnd.jupyter.widget": ""}), ["an output that does not render"]),
    (new_notebook(metadata={"widgets": {}}), ["widgets are saved"]),
    (new_markdown_cell("x" * MOST_BYTES), ["it is too large to be rendered"]),
])  # fmt: skip
def test_every_fault_is_named(shown: Any, expected: list[str]) -> None:
    notebook = shown if "cells" in shown else new_notebook(cells=[shown])
    assert [fault.rpartition(": ")[2] for fault in faults(notebook)] == expected
