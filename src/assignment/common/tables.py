"""Tables and notices: what a notebook says about its results, readable on any page.

pandas' style blocks are left out, since code hosts strip them; in sample mode everything says so.
"""

import html
import inspect
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
import torch

from assignment.common.files import Source
from assignment.common.settings import SAMPLE_WARNING, Mode, device, mode, precision, version_of

MODE_MEANING = {
    Mode.RECORDED: "real data; long training runs are read from data/records/",
    Mode.TRAIN: "real data; everything is trained again on this machine",
    Mode.SAMPLE: f"{SAMPLE_WARNING}; everything is trained here, in seconds",
}


@dataclass(frozen=True)
class Table:
    """A captioned table that reads well in a notebook, on a code host and as plain text.

    Examples
    --------
    >>> print(Table(pd.DataFrame({"film": ["Toy Story"], "likes": [147]}), "Films"))
    Films
         film  likes
    Toy Story    147
    """

    frame: pd.DataFrame
    caption: str

    @property
    def title(self) -> str:
        """The caption, marked in sample mode."""
        return f"{self.caption} [{SAMPLE_WARNING}]" if mode() is Mode.SAMPLE else self.caption

    def __repr__(self) -> str:
        """Caption and columns, unbroken however wide."""
        return f"{self.title}\n{self.frame.to_string(index=False)}"

    def _repr_html_(self) -> str:
        # pandas' own rendering, without its style block: code hosts strip styles.
        with pd.option_context("display.max_colwidth", None):
            table = self.frame.to_html(index=False, border=0)
        caption = f"<caption>{html.escape(self.title)}</caption>"
        opening, rest = table.split(">", 1)
        return f"{opening}>\n  {caption}{rest}"


@dataclass(frozen=True)
class Description:
    """The two tables every notebook opens with: this machine, and what was read on it."""

    machine: Table
    sources: Table


@dataclass(frozen=True)
class Banner:
    """The first thing a reader sees: how the numbers below came about."""

    mode: Mode

    def __repr__(self) -> str:
        """One line."""
        return f"Mode: {self.mode} ({MODE_MEANING[self.mode]})"

    def _repr_html_(self) -> str:
        line = html.escape(repr(self))
        return f"<h2>{line}</h2>" if self.mode is Mode.SAMPLE else f"<p><em>{line}</em></p>"


@dataclass(frozen=True)
class Listing:
    """The source of a function, shown in a notebook so that what is read is what ran."""

    text: str

    def __repr__(self) -> str:
        """Return the source."""
        return self.text

    def _repr_markdown_(self) -> str:
        return f"```python\n{self.text}```"


def show_code(*functions: Callable[..., object]) -> Listing:
    """Return the source of functions or classes, highlighted where a page can."""
    return Listing("\n\n".join(inspect.getsource(function) for function in functions))


def banner() -> Banner:
    """State the mode in words."""
    return Banner(mode())


def describe_setup(*sources: Source, seed: int = 0) -> Description:
    """Describe this machine, and each dataset and the weights: official or not."""
    on = device()
    device_name = torch.cuda.get_device_name(on) if on.type == "cuda" else platform.machine()
    rows = {
        "mode": str(mode()),
        "device": f"{on} ({device_name})",
        "precision": str(precision(on)).removeprefix("torch."),
        "threads": str(torch.get_num_threads()),
        "system": f"{platform.system()} {platform.release()}",
        "Python": sys.version.split()[0],
        "seed (Python, numpy, torch)": str(seed),
    }
    rows |= {name: version_of(name) for name in ("torch", "torchvision", "numpy", "pandas")}
    machine = pd.DataFrame({"what": rows.keys(), "here": rows.values()})
    listed = pd.DataFrame(
        [(s.what, s.origin, s.detail, s.sha256[:16] or "-") for s in sources],
        columns=["what", "origin", "how we know", "SHA-256 begins"],
    )
    return Description(Table(machine, "This machine"), Table(listed, "Data and weights"))
