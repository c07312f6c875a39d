"""An official archive and the files in it that are read: found, unpacked or downloaded.

What is in place is used as it is, and never overwritten: whether it is official is a question of
checksums, answered beside every result, and whether it is readable is for its loader to say.
"""

import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from assignment.common import download, runtime
from assignment.common.download import STUBBORN, Effort, RemoteFile
from assignment.common.runtime import AssignmentError, Mode, Source

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

    def obtain(self, effort: Effort = STUBBORN) -> Path:
        """Return the folder with the files; unpack, or download and unpack, what is missing."""
        data = runtime.data_folder()
        folder = data / self.folder
        missing = [name for name in self.files if not (folder / name).is_file()]
        if missing:
            self._unpack(download.fetch(self.remote, data, effort), folder, missing)
        return folder

    def source(self, folder: Path) -> Source:
        """Say whether the files in a folder are the official ones."""
        missing = [name for name in self.files if not (folder / name).is_file()]
        if missing:
            raise AssignmentError(
                f"{self.name}: {', '.join(missing)} missing in {folder}. Run `make data` to get it."
            )
        try:
            digests = {name: download.sha256(folder / name) for name in self.files}
        except OSError as error:
            raise AssignmentError(
                f"{self.name}: {error.filename or folder} cannot be read "
                f"({error.strerror or error}). Make it readable, or run `make data` without it."
            ) from None
        whole = runtime.fingerprint(digests)
        if runtime.mode() is Mode.SAMPLE:
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
