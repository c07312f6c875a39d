"""Files: their checksums, and what is said of them."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from assignment.common.settings import PROJECT


@dataclass(frozen=True)
class Source:
    """Where something came from, and whether it is the official thing.

    Attributes
    ----------
    what : str
        Name of the dataset or of the weights.
    origin : str
        ``"official"``, ``"other"`` or ``"SAMPLE"``.
    detail : str
        One sentence: how that is known.
    sha256 : str
        Fingerprint, empty where there is nothing to fingerprint.
    """

    what: str
    origin: str
    detail: str
    sha256: str = ""


def fingerprint(files: Mapping[str, str]) -> str:
    """Combine the SHA-256 of several files into one, independent of their order.

    Parameters
    ----------
    files : mapping
        File name to SHA-256.
    """
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def shown(path: Path) -> str:
    """Write a path the way a page may show it: relative to the project, else its name alone."""
    try:
        return path.resolve().relative_to(PROJECT).as_posix()
    except ValueError:
        return path.name


def sha256(path: Path) -> str:
    """Checksum of a file, as lower-case hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
