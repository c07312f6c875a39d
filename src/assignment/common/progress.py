"""One progress bar over all stages of a run, with the time that is left.

A run says at its start how much work all its stages are, in any unit that they share; each stage
tells what it has done. Outside of a run the same stages show nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from tqdm import tqdm

FORMAT = "{desc}: {percentage:3.0f} %|{bar}| {elapsed}, {remaining} left{postfix}"
_bar: ContextVar[tqdm | None] = ContextVar("bar", default=None)


@contextmanager
def bar(what: str, work: float) -> Iterator[None]:
    """Show one bar for so much work while the block runs."""
    with tqdm(total=work, desc=what, bar_format=FORMAT, smoothing=0, leave=False) as shown:
        before = _bar.set(None if shown.disable else shown)
        try:
            yield
        finally:
            _bar.reset(before)


def done(work: float, note: str = "") -> None:
    """Tell that some of it has been done."""
    if (shown := _bar.get()) is not None:
        if note:
            shown.set_postfix_str(note, refresh=False)
        shown.update(min(work, shown.total - shown.n))  # the work in all was an estimate


def skip(work: float = 0.0, share: float = 0.0) -> None:
    """Tell that so much, or a share of all, was done before: it does not count in the speed."""
    if (shown := _bar.get()) is not None:
        before = work + share * shown.total
        shown.initial += before
        shown.update(before)
