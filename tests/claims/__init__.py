"""What the notebooks' prose claims, held to the numbers that their cells compute.

A claim is a row: words as they stand in the notebook, and a check on the variables of a kernel that
has run it on the real data. A row whose words are gone fails, too, so that no check outlives its
sentence.
"""

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

Claim = tuple[str, Callable[[Any], Any]]


def broken(claims: list[Claim], variables: Mapping[str, Any]) -> list[str]:
    """Return the words of the claims that do not hold."""
    notebook = SimpleNamespace(**variables)
    return [words for words, check in claims if not bool(check(notebook))]
