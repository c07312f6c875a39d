"""One file from the internet, whole or not at all; and the archives that datasets come in.

The pinned SHA-256 is what we trust, not the transport: a slow host, an expired certificate or an
unknown mirror can cost time, never correctness. Bytes gather in ``NAME.part``, which survives an
interruption and is continued where it stopped; only a verified file gets the real name.
"""

import http.client
import os
import ssl
import tarfile
import time
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError, URLError

from filelock import FileLock, Timeout
from tqdm import tqdm

from assignment.common import files, settings
from assignment.common.files import Source, sha256
from assignment.common.settings import AssignmentError, Mode

CHUNK = 1 << 16
BACKOFF_SECONDS = 1.0
PROBE_SECONDS = 6.0  # long enough to see a host's steady speed, short enough to wait for
# What a transfer may die of and still be worth another try.
TRANSIENT = (URLError, http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError)


class DownloadError(AssignmentError):
    """The file cannot be had; says why each source failed and how to put it in place by hand."""


class TooSlowError(DownloadError):
    """The file could be had, but not within the patience given; what came is kept."""


class _SourceError(Exception):
    """One source cannot give the file, and asking it again will not help."""


@dataclass(frozen=True)
class RemoteFile:
    """A file, where it comes from, and the checksum that makes any source safe.

    Attributes
    ----------
    name : str
        Its name in the data folder.
    urls : tuple of str
        Official addresses, in the order to try.
    sha256 : str
        Of the whole file.
    size : int
        In bytes; for messages and for the estimate of the time left.
    https_only : bool
        Refuse any other transport, also from a mirror and after a redirect.
    """

    name: str
    urls: tuple[str, ...]
    sha256: str
    size: int
    https_only: bool = False

    def sources(self) -> tuple[str, ...]:
        """Addresses to try: under ``ASSIGNMENT_MIRROR`` where that is set, else the official."""
        mirror = os.environ.get("ASSIGNMENT_MIRROR", "").strip().rstrip("/")
        return (f"{mirror}/{self.name}",) if mirror else self.urls


@dataclass(frozen=True)
class Effort:
    """How hard to try.

    Attributes
    ----------
    patience : float or None
        Seconds the rest of the file may take, at the speed first seen; None is all the time.
    attempts : int
        In a row without one new byte; any progress starts the count again.
    timeout : float
        Seconds of silence after which a connection counts as dead.
    """

    patience: float | None = None
    attempts: int = 4
    timeout: float = 30.0


PATIENT = Effort()
BRIEF = Effort(patience=300.0, attempts=2, timeout=10.0)


def is_verified(file: RemoteFile, folder: Path) -> bool:
    """Whether the file is in the folder with the right checksum."""
    path = folder / file.name
    return path.is_file() and sha256(path) == file.sha256


def fetch(file: RemoteFile, folder: Path, effort: Effort = PATIENT) -> Path:
    """Return the verified local path of a file, downloading what is missing of it.

    Parameters
    ----------
    file : RemoteFile
        What to get.
    folder : Path
        Where it is looked for and put.
    effort : Effort
        How long and how often to try.

    Raises
    ------
    TooSlowError
        When the rest would take longer than the effort's patience.
    DownloadError
        When no source gave the file. What was in place before is still there.
    """
    path = folder / file.name
    try:
        if is_verified(file, folder):
            return path
        found = "a damaged file (its checksum differs)" if path.exists() else "no file"
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock", timeout=0):
            failures = _try_sources(file, path, effort)
    except Timeout:
        raise DownloadError(
            f"Another process is downloading {file.name} into {folder}: wait for it, then rerun."
        ) from None
    except OSError as error:
        raise DownloadError(
            f"Cannot keep {file.name} in {folder}: {error.strerror or error}. Make the folder "
            "readable and writable, with room enough, or name another one in ASSIGNMENT_DATA."
        ) from None
    if failures:
        reasons = "\n".join(f"  - {url}: {reason}" for url, reason in failures.items())
        raise DownloadError(
            f"{file.name} ({megabytes(file.size)}) is needed, found {found} in {folder}, "
            f"and no source gave it:\n{reasons}\n"
            f"What arrived so far is kept and continued next time. By hand: get it from "
            f"{file.urls[0]} and put it at {path} (SHA-256 {file.sha256})."
        )
    return path


def megabytes(size: float) -> str:
    """Write a size for readers, in megabytes.

    Examples
    --------
    >>> megabytes(170_498_071)
    '170.5 MB'
    """
    return f"{size / 1e6:,.1f} MB"


def _try_sources(file: RemoteFile, path: Path, effort: Effort) -> dict[str, str]:
    """Go through the sources; empty when the verified file is in place, else why each failed."""
    failures: dict[str, str] = {}
    part = path.with_name(path.name + ".part")
    for url in file.sources():
        try:
            _download(file, url, part, effort)
        except _SourceError as error:
            failures[url] = str(error)
        else:
            os.replace(part, path)
            return {}
    return failures


def _download(file: RemoteFile, url: str, part: Path, effort: Effort) -> None:
    """Fill `part` from one source until its checksum is right."""
    deadline = _Deadline(file, effort.patience)
    idle = setbacks = clean_starts = 0
    ranged = True  # until this source refuses to start in the middle
    while True:
        before = _size(part)
        try:
            _receive(file, url, part, ranged, effort.timeout, deadline)
        except HTTPError as error:
            error.close()
            reason = f"HTTP {error.code} {error.reason}"
            if error.code == 416 and ranged:
                ranged = False
                continue
            if error.code < 500 and error.code not in (408, 429):
                raise _SourceError(reason) from None
        except TRANSIENT as error:
            reason = str(getattr(error, "reason", "") or error) or type(error).__name__
            if "CERTIFICATE" in reason.upper():
                raise _SourceError(f"its certificate was refused ({reason})") from None
        else:
            if sha256(part) == file.sha256:
                return
            # Wrong bytes are worth nothing: continuing them can never give the right file. Those
            # from an earlier run may be to blame, so the source gets one start from the beginning.
            part.unlink()
            clean_starts += 1
            if before == 0 or clean_starts > 1:
                raise _SourceError(
                    "what it sent has the wrong checksum and was thrown away "
                    f"(SHA-256 expected {file.sha256[:16]}...)"
                )
            idle = 0
            continue
        # A source that starts over each time and always breaks would otherwise go on for ever.
        setbacks += _size(part) < before
        idle = setbacks if _size(part) > before else idle + 1
        if idle >= effort.attempts:
            raise _SourceError(f"{reason} ({idle} attempts)")
        time.sleep(BACKOFF_SECONDS * 2 ** max(idle - 1, 0))


def _receive(
    file: RemoteFile, url: str, part: Path, ranged: bool, timeout: float, deadline: "_Deadline"
) -> None:
    """Append to `part` what one request gives; raises when less comes than the whole file."""
    start = _size(part)
    if start >= file.size:
        return  # all the bytes are here from last time: the checksum decides
    start = start if ranged else 0
    headers = {"Range": f"bytes={start}-"} if start else {}
    _insist_on_https(file, url)
    try:
        request = urllib.request.Request(url, headers=headers)
        response = urllib.request.urlopen(request, timeout=timeout)
    except (ValueError, http.client.InvalidURL) as error:
        raise _SourceError(f"not an address ({error}); mend ASSIGNMENT_MIRROR") from None
    with response:
        _insist_on_https(file, response.url)
        if response.status != 206:
            start = 0  # the range was ignored: this is the file from its beginning
        most = file.size - start
        announced = response.headers.get("Content-Length", "")
        due = min(int(announced), most) if announced.isdecimal() else most
        received = 0
        with (
            part.open("ab" if start else "wb") as out,
            tqdm(
                None, file.name, file.size, leave=False, initial=start, unit="B", unit_scale=True
            ) as bar,
        ):
            while received <= most and (chunk := response.read1(CHUNK)):  # read() would lose a part
                out.write(chunk)
                received += len(chunk)
                bar.update(len(chunk))
                deadline.check(len(chunk), most - received)
    if received < due:
        raise ConnectionError(f"the connection ended after {received:,} of {due:,} bytes")
    if received < most:
        raise _SourceError(f"its file is too short: {_size(part):,} bytes, expected {file.size:,}")


def _insist_on_https(file: RemoteFile, url: str) -> None:
    if file.https_only and not url.startswith("https://"):
        raise _SourceError(f"refused: this file is taken over https only, not from {url}")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


class _Deadline:
    """Gives up early when the speed seen so far means more waiting than the reader agreed to."""

    def __init__(self, file: RemoteFile, patience: float | None) -> None:
        self.file = file
        self.patience = patience
        self.received = 0
        self.started = time.monotonic()

    def check(self, chunk: int, remaining: int) -> None:
        """Take note of a chunk; raise once the estimate is sound and too long."""
        self.received += chunk
        elapsed = time.monotonic() - self.started
        if self.patience is None or elapsed < PROBE_SECONDS:
            return
        speed = self.received / elapsed
        if remaining / speed > self.patience:
            raise TooSlowError(
                f"{self.file.name} ({megabytes(self.file.size)}) comes at {speed / 1e3:,.0f} kB/s: "
                f"about {remaining / speed / 60:,.0f} more minutes. What arrived is kept; "
                "`make data` continues it, however long it takes."
            )


MEND = "Delete it and run `make data` to get it again."


@dataclass(frozen=True)
class Archive:
    """A dataset as it is distributed.

    Attributes
    ----------
    name : str
        For readers.
    remote : RemoteFile
        The archive file, .zip or .tar.gz.
    folder : str
        The folder inside the archive, and in the data folder.
    files : mapping
        Names of the files that are read to their official SHA-256.
    """

    name: str
    remote: RemoteFile
    folder: str
    files: Mapping[str, str]

    def obtain(self, effort: Effort = PATIENT) -> Path:
        """Return the folder with the files; unpack, or download and unpack, what is missing."""
        data = settings.data_folder()
        folder = data / self.folder
        missing = [name for name in self.files if not (folder / name).is_file()]
        if missing:
            self._unpack(fetch(self.remote, data, effort), folder, missing)
        return folder

    def source(self, folder: Path) -> Source:
        """Say whether the files in a folder are the official ones."""
        missing = [name for name in self.files if not (folder / name).is_file()]
        if missing:
            raise AssignmentError(
                f"{self.name}: {', '.join(missing)} missing in {folder}. Run `make data` to get it."
            )
        try:
            digests = {name: sha256(folder / name) for name in self.files}
        except OSError as error:
            raise AssignmentError(
                f"{self.name}: {error.filename or folder} cannot be read "
                f"({error.strerror or error}). Make it readable, or run `make data` without it."
            ) from None
        whole = files.fingerprint(digests)
        if settings.mode() is Mode.SAMPLE:
            return Source(f"{self.name} layout", "SAMPLE", "synthetic, drawn from a seed", whole)
        other = [name for name, digest in digests.items() if digest != self.files[name]]
        if other:
            detail = f"readable, but not the official content: {', '.join(other)}"
            return Source(self.name, "other", detail, whole)
        detail = f"{len(digests)} of {len(digests)} files match their pinned SHA-256"
        return Source(self.name, "official", detail, whole)

    def _unpack(self, archive: Path, folder: Path, names: list[str]) -> None:
        """Take the named files out of the verified archive, each one whole or not at all."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with _opened(archive) as read:
                for name in names:
                    part = folder / f"{name}.part"
                    part.write_bytes(read(f"{self.folder}/{name}"))
                    part.replace(folder / name)
        except OSError as error:
            raise AssignmentError(
                f"Cannot unpack {archive.name} into {folder}: {error.strerror or error}. "
                "Make the folder writable, with room enough, or name another in ASSIGNMENT_DATA."
            ) from None


@contextmanager
def _opened(path: Path) -> Iterator[Callable[[str], bytes]]:
    """Open an archive of either kind; yields a function from member name to bytes."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            yield archive.read
        return
    with tarfile.open(path) as tar:

        def read(name: str) -> bytes:
            member = tar.extractfile(name)
            assert member is not None, f"{name} is a file in the official archive"
            return member.read()

        yield read
