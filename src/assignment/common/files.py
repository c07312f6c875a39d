"""Files: written whole or not at all, their checksums, and how a page names them.

Whatever a run leaves behind (a record, a checkpoint, a piece of a cache) goes through
`write_whole`: an interruption leaves the old file or the new one, never half of one.
"""

import hashlib
import io
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch

from assignment.common.settings import PROJECT, AssignmentError, report

AnyPath = str | os.PathLike[str]


@dataclass(frozen=True)
class Source:
    """Where a dataset or weights came from, and whether they are the official ones."""

    what: str  # the name of the dataset or of the weights
    origin: str  # "official", "other" or "SAMPLE"
    detail: str  # one sentence: how that is known
    sha256: str = ""  # fingerprint, empty where there is nothing to fingerprint


def fingerprint(files: Mapping[str, str]) -> str:
    """Combine the SHA-256 of several files, by name, into one, independent of their order."""
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def find_path(path: AnyPath) -> Path:
    """Return the path that a reader names; one that is relative may lead from the project, too."""
    # The kernel of a notebook starts in notebooks/, a script often in the project's folder.
    try:
        named = Path(path).expanduser()
        return next((place for place in (named, PROJECT / named) if place.exists()), named)
    except (TypeError, ValueError, RuntimeError, OSError) as error:
        raise AssignmentError(
            f"The path is {path!r}, which leads nowhere ({error}). Write it out in full, as text."
        ) from None


def display_path(path: AnyPath) -> str:
    """Write a path the way a page may show it: relative to the project, else its name alone."""
    whole = Path(path).resolve()
    inside = whole.is_relative_to(PROJECT)
    return whole.relative_to(PROJECT).as_posix() if inside else Path(path).name


def sha256(path: AnyPath) -> str:
    """Checksum of a file, as lower-case hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_whole(path: AnyPath, content: bytes) -> None:
    """Write a file under a temporary name of its own, flush it to the disk, then rename it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{uuid4().hex}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)  # it is there only where one of these failed


def write_if_possible(path: AnyPath, content: bytes) -> bool:
    """Write a file whole; where the disk is full or the folder read-only, say so and go on."""
    try:
        write_whole(path, content)
    except OSError as error:
        report(f"{display_path(path)} could not be kept ({error.strerror or error}); going on.")
        return False
    return True


def save_tensors(path: Path, tensors: object) -> bool:
    """Write tensors behind a checksum of them and of the file's name; see `write_if_possible`."""
    torch.save(tensors, buffer := io.BytesIO())
    return write_if_possible(path, _sealed(path, buffer.getvalue()))


def load_tensors(path: Path, on: torch.device | None = None) -> Any:
    """Read what `save_tensors` wrote; None where there is no such file, or not as it was."""
    with suppress(OSError):
        stored = path.read_bytes()
        if stored == _sealed(path, stored[32:]):
            return torch.load(io.BytesIO(stored[32:]), on, weights_only=True)
    return None


def _sealed(path: Path, content: bytes) -> bytes:
    return hashlib.sha256(f"{path.parent.name}/{path.name}".encode() + content).digest() + content
