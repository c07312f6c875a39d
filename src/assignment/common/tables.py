"""Tables and notices: what a notebook says about its results, readable on any page.

pandas' style blocks are left out, since code hosts strip them; in sample mode everything says so.
"""

import html
import inspect
import platform
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import torch

from assignment.common import runs
from assignment.common.files import Source
from assignment.common.settings import SAMPLE_WARNING, Mode, device, mode, precision, version_of

MODE_MEANING = {
    Mode.RECORDED: "real data; long training runs are read from data/records/",
    Mode.TRAIN: "real data; everything is trained again on this machine",
    Mode.SAMPLE: f"{SAMPLE_WARNING}; everything is trained here, in seconds",
}


@dataclass(frozen=True)
class Table:
    """A captioned table that reads well in a notebook, on a code host and as plain text."""

    frame: pd.DataFrame
    caption: str

    @property
    def title(self) -> str:
        """The caption, marked in sample mode."""
        return f"{self.caption} [{SAMPLE_WARNING}]" if mode() is Mode.SAMPLE else self.caption

    def __repr__(self) -> str:
        return f"{self.title}\n{self.frame.to_string(index=False)}"

    def _repr_html_(self) -> str:
        with pd.option_context("display.max_colwidth", None):
            table: str = self.frame.to_html(index=False, border=0)
        opening = f">\n  <caption>{html.escape(self.title)}</caption>"
        return table.replace(">", opening, 1)


class Summary(ABC):
    """A result: a line where it is printed, a small table where a page shows it."""

    @abstractmethod
    def summary(self) -> Mapping[str, object]:
        """Return what is told of it; whole numbers get their commas here."""

    def _table(self) -> Table:
        told = {k: f"{v:,}" if isinstance(v, int) else v for k, v in self.summary().items()}
        return Table(pd.DataFrame(told.items(), columns=["what", "value"]), type(self).__name__)

    def __repr__(self) -> str:
        table = self._table()
        told = (f"{what} {value}" for what, value in table.frame.itertuples(index=False))
        return f"{table.title}: {'; '.join(told)}"

    def _repr_html_(self) -> str:
        return self._table()._repr_html_()


@dataclass(frozen=True)
class Notice:
    """A text, and what a notebook shows in its place, by MIME type."""

    text: str
    shown: Mapping[str, str]

    def __repr__(self) -> str:
        return self.text

    def _repr_mimebundle_(self, **_: object) -> Mapping[str, str]:
        return self.shown


def show_code(*functions: Callable[..., object]) -> Notice:
    """Return the source of functions or classes, so that what is read is what ran."""
    text = "\n\n".join(inspect.getsource(function) for function in functions)
    return Notice(text, {"text/markdown": f"```python\n{text}```"})


def anchor(heading: str) -> str:
    """Return the id of a heading, the one that a code host's link to it ends with."""
    return re.sub(r"[^\w\s-]", "", heading).strip().replace(" ", "-")


def answers_table(rows: Mapping[str, Sequence[tuple[str, Callable[[], str]]]]) -> Notice:
    """Tabulate questions and answers by section heading; one that is not run yet says so."""
    lines = ["| | question | answer |", "| --- | --- | --- |"]
    for heading, asked in rows.items():
        number = heading.split()[0]
        for question, answer in asked:
            try:
                with runs.only_kept():
                    text = answer()
            except runs.NotRunError:
                text = f"not run yet, see {number}"
            lines.append(f"| [{number}](#{anchor(heading)}) | {question} | {text} |")
    return Notice("\n".join(lines), {"text/markdown": "\n".join(lines)})


def banner() -> Notice:
    """State in words how the numbers below come about; the sample's banner is a heading."""
    text = f"Mode: {mode()} ({MODE_MEANING[mode()]})"
    shown = "<h2>{}</h2>" if mode() is Mode.SAMPLE else "<p><em>{}</em></p>"
    return Notice(text, {"text/html": shown.format(html.escape(text))})


def sources_table(*sources: Source) -> Table:
    """Tabulate datasets and weights, and whether they are the official ones."""
    rows = [(s.what, s.origin, s.detail, s.sha256[:16] or "-") for s in sources]
    columns = ["what", "origin", "how we know", "SHA-256 begins"]
    return Table(pd.DataFrame(rows, columns=columns), "Data and weights")


def machine_table() -> Table:
    """Tabulate what this notebook runs on, and with."""
    on = device()
    device_name = torch.cuda.get_device_name(on) if on.type == "cuda" else platform.machine()
    rows = {
        "mode": str(mode()),
        "device": f"{on} ({device_name})",
        "precision of a network's products": str(precision(on)).removeprefix("torch."),
        "threads": str(torch.get_num_threads()),
        "system": f"{platform.system()} {platform.release()}",
        "Python": sys.version.split()[0],
        "seed (Python, numpy, torch)": str(torch.initial_seed()),
    }
    rows |= {name: version_of(name) for name in ("torch", "torchvision", "numpy", "pandas")}
    return Table(pd.DataFrame(rows.items(), columns=["what", "here"]), "This machine")
