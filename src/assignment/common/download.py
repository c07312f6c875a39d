"""One file from the internet, whole or not at all; and the archives that datasets come in.

The pinned SHA-256 decides: an unknown mirror can cost time, never correctness. Bytes gather in
``NAME.part``, which an interruption leaves to be continued; only a verified file gets the name.
"""

import os
import re
import socket
import ssl
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPException, InvalidURL
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import HTTPHandler, HTTPSHandler, Request, build_opener

from filelock import FileLock, Timeout
from tqdm import tqdm

from assignment.common import settings
from assignment.common.files import AnyPath, Source, fingerprint, sha256, write_whole
from assignment.common.settings import AssignmentError, Mode

BACKOFF_SECONDS = 1.0
MEND = "For the official one, delete it and run `make data`."
PROBE_SECONDS = 6.0  # long enough to see a host's steady speed, short enough to wait for


class _SourceError(Exception):
    """One source cannot give the file, and asking it again will not help."""


@dataclass(frozen=True)
class RemoteFile:
    """A file, where it comes from, and the checksum that makes any source safe."""

    name: str
    urls: tuple[str, ...]  # official addresses, in the order to try
    sha256: str  # or its first digits, where no more of it is published
    size: int = 0  # bytes; 0: only the host knows

    def is_at(self, path: Path) -> bool:
        """Whether a file is this one, by its checksum."""
        return sha256(path).startswith(self.sha256)


@dataclass(frozen=True)
class Effort:
    """How hard to try."""

    patience: float = float("inf")  # seconds the rest may take, at the speed first seen
    attempts: int = 4  # in a row without one new byte
    timeout: float = 30.0  # seconds of silence after which a connection counts as dead


PATIENT = Effort()
BRIEF = Effort(patience=300.0, attempts=2, timeout=10.0)


def fetch(file: RemoteFile, folder: AnyPath, effort: Effort = PATIENT) -> Path:
    """Return the verified path of a file, downloading what is missing; else `AssignmentError`."""
    folder = Path(folder)
    path = folder / file.name
    with _disk_errors_in_words(file.name, folder):
        if _fault(file, path):
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{path}.lock", timeout=0):
                if fault := _fault(file, path):  # no other process has put it there meanwhile
                    _download(file, path, effort, fault)
    return path


def megabytes(size: float) -> str:
    """Write a size for readers, as in 170.5 MB."""
    return f"{size / 1e6:,.1f} MB" if size else "of unknown size"


def _fault(file: RemoteFile, path: Path) -> str:
    if not path.exists():
        return "no file"
    of = f" of {file.size:,}" if file.size else ""
    damaged = f"a damaged file ({_size(path):,}{of} bytes, its checksum differs)"
    return "" if file.is_at(path) else damaged


def _download(file: RemoteFile, path: Path, effort: Effort, fault: str) -> None:
    mirror = os.environ.get("ASSIGNMENT_MIRROR", "").strip().rstrip("/")
    part, reasons = path.with_name(f"{path.name}.part"), ""
    for url in (f"{mirror}/{file.name}",) if mirror else file.urls:
        try:
            _Transfer(file, url, part, effort).run()
            return os.replace(part, path)
        except _SourceError as error:
            reasons += f"  - {_harmless(url)}: {_harmless(str(error))}\n"
    raise AssignmentError(
        f"{file.name} ({megabytes(file.size)}) is needed, found {fault} in {path.parent}, "
        f"and no source gave it:\n{reasons}"
        f"What arrived so far is kept and continued next time. By hand: get it from "
        f"{file.urls[0]} and put it at {path} (its SHA-256 begins with {file.sha256})."
    )


@dataclass
class _Transfer:
    """One file from one source into `part`, by as many requests as it takes."""

    file: RemoteFile
    url: str
    part: Path
    effort: Effort
    received: int = 0
    began: float = field(default_factory=time.monotonic)

    def run(self) -> None:
        start = most = _size(self.part)
        idle = 0
        while True:
            try:
                return self.request(start)
            except _SourceError:
                if start == 0:
                    raise
                start = 0  # what it continues may be wrong: once more, from the beginning
            except ConnectionError as error:
                start = _size(self.part)
                idle = 0 if start > most else idle + 1
                most = max(most, start)
                if idle >= self.effort.attempts:
                    raise _SourceError(f"{error} ({idle} attempts)") from None
                time.sleep(BACKOFF_SECONDS * 2 ** max(idle - 1, 0))

    def request(self, start: int) -> None:
        if not self.file.size or start < self.file.size:  # else all of it is here from last time
            with _open(self.url, start, self.effort.timeout) as response:
                self.receive(response, start if response.status == 206 else 0)
        if not self.file.is_at(self.part):
            self.part.unlink()  # continuing wrong bytes can never give the right file
            raise _SourceError("what it sent has the wrong checksum and was thrown away")

    def receive(self, response: Any, start: int) -> None:
        file, announced = self.file, response.headers.get("Content-Length") or ""
        size = file.size or start + int(announced if announced.isdecimal() else 0)
        due, kind = size - start, response.headers.get_content_type()
        if announced != str(due) and (announced or kind == "text/html" or not file.size):
            wanted = f"{due:,}" if file.size else "their number"
            raise _SourceError(f"it sends {announced or 'some'} bytes of {kind}, expected {wanted}")
        progress = tqdm(None, file.name, size, False, initial=start, unit="B", unit_scale=True)
        with self.part.open("ab" if start else "wb") as out, progress:
            while due:
                chunk = _read(response, due)
                due -= out.write(chunk)
                progress.update(len(chunk))
                self.received += len(chunk)
                elapsed = time.monotonic() - self.began
                rest = due * elapsed / self.received
                if elapsed > PROBE_SECONDS and rest > self.effort.patience:
                    raise AssignmentError(
                        f"{file.name} ({megabytes(size)}) comes slowly: about {rest / 60:,.0f}"
                        " more minutes. What arrived is kept; `make data` continues it."
                    )


def _open(url: str, start: int, timeout: float) -> Any:
    try:
        request = Request(url, headers={"Range": f"bytes={start}-"} if start else {})
        if "@" in (request.host or ""):
            raise ValueError("urllib would take a login for a part of the host's name")
        return build_opener(_Handler).open(request, timeout=timeout)
    except HTTPError as error:
        error.close()
        failure = ConnectionError if error.code in (408, 429, *range(500, 600)) else _SourceError
        raise failure(f"HTTP {error.code} {error.reason}") from None
    except (ValueError, InvalidURL):  # whose words may hold a password
        raise _SourceError("not an address, or one with a login; mend ASSIGNMENT_MIRROR") from None
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise _SourceError(f"its certificate was refused ({reason})") from None
        raise ConnectionError(str(reason) or type(error).__name__) from None


class _Handler(HTTPHandler, HTTPSHandler):
    """Limits the time to an answer in all: the timeout of urllib starts again with every byte."""

    def do_open(self, http_class: Any, req: Any, **http_conn_args: Any) -> Any:
        connection = http_class(req.host, timeout=req.timeout, **http_conn_args)
        deadline = time.monotonic() + 2 * req.timeout

        def end() -> None:
            with suppress(OSError, AttributeError):  # it is not connected yet, or no longer
                connection.sock.shutdown(socket.SHUT_RDWR)

        watchdog = threading.Timer(2 * req.timeout, end)
        watchdog.start()
        try:
            return super().do_open(lambda *_, **__: connection, req, **http_conn_args)
        finally:
            watchdog.cancel()
            if time.monotonic() > deadline:
                raise TimeoutError("timed out before the answer began")


def _read(response: Any, due: int) -> bytes:
    try:
        chunk: bytes = response.read1(min(1 << 16, due))  # read() would lose a part
    except (OSError, HTTPException) as error:
        raise ConnectionError(str(error) or type(error).__name__) from None
    if not chunk:
        raise ConnectionError(f"the connection ended with {due:,} bytes to come")
    return chunk


def _harmless(text: str) -> str:
    """Take logins, control characters and pages of text out of what a server may have written."""
    text = re.sub("//.*@", "//", text, flags=re.DOTALL)[:500]
    return "".join(c if c.isprintable() else "?" for c in text)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


@dataclass(frozen=True)
class Archive:
    """A dataset as it is distributed."""

    name: str  # for readers
    remote: RemoteFile  # .zip or .tar.gz
    folder: str  # inside the archive, and in the data folder
    files: Mapping[str, str]  # names of the files that are read, to their official SHA-256

    def obtain(self, effort: Effort = PATIENT) -> Path:
        """Return the folder with the files; unpack, or download and unpack, what is missing."""
        folder = settings.data_folder() / self.folder
        with _disk_errors_in_words(self.name, folder):
            if missing := self._missing(folder):
                self._unpack(fetch(self.remote, folder.parent, effort), folder, missing)
        return folder

    def source(self, folder: AnyPath) -> Source:
        """Say whether the files in a folder are the official ones."""
        folder = Path(folder)
        with _disk_errors_in_words(self.name, folder):
            if missing := ", ".join(self._missing(folder)):
                raise AssignmentError(
                    f"{self.name}: {missing} missing in {folder}. Run `make data` to get it."
                )
            digests = {name: sha256(folder / name) for name in self.files}
        whole = fingerprint(digests)
        if settings.mode() is Mode.SAMPLE:
            return Source(f"{self.name} layout", "SAMPLE", "synthetic, drawn from a seed", whole)
        detail = f"{len(digests)} of {len(digests)} files match their pinned SHA-256"
        if other := ", ".join(name for name in digests if digests[name] != self.files[name]):
            detail = f"readable, but not the official content: {other} changed or cut short. {MEND}"
        return Source(self.name, "other" if other else "official", detail, whole)

    def _missing(self, folder: Path) -> list[str]:
        return [name for name in self.files if not (folder / name).is_file()]

    def _unpack(self, archive: Path, folder: Path, names: list[str]) -> None:
        zipped = archive.suffix == ".zip"
        with zipfile.ZipFile(archive) if zipped else tarfile.open(archive) as opened:
            read: Any = getattr(opened, "open" if zipped else "extractfile")
            for name in names:
                write_whole(folder / name, read(f"{self.folder}/{name}").read())


@contextmanager
def _disk_errors_in_words(what: str, folder: Path) -> Iterator[None]:
    try:
        yield
    except Timeout:
        raise AssignmentError(
            f"Another process is downloading {what} into {folder}: wait for it, then rerun."
        ) from None
    except OSError as error:
        raise AssignmentError(
            f"{what}: {error.filename2 or error.filename or folder} cannot be read or written "
            f"({error.strerror or error}). Mend that, or name another folder in ASSIGNMENT_DATA."
        ) from None
