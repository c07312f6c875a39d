"""An archive: what is missing is unpacked, what is there stays, what is wrong is never used."""

import errno
import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from assignment.common.download import Archive, DownloadError, Effort, RemoteFile
from assignment.common.settings import AssignmentError

CONTENT = {"first.csv": b"1,2,3\n" * 50, "second.csv": bytes(range(256))}
EXTRA = {"README.txt": b"not read by anything"}
ONCE = Effort(attempts=1, timeout=1.0)


def pack(path: Path, kind: str) -> bytes:
    """Write an archive as the official ones are: everything in one folder."""
    members = {f"box/{name}": raw for name, raw in (CONTENT | EXTRA).items()}
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, raw in members.items():
                archive.writestr(name, raw)
    else:
        with tarfile.open(path, "w:gz") as tar:
            for name, raw in members.items():
                member = tarfile.TarInfo(name)
                member.size = len(raw)
                tar.addfile(member, io.BytesIO(raw))
    return path.read_bytes()


def described(packed: bytes, kind: str) -> Archive:
    """What the package would pin of this archive; its address answers nobody."""
    remote = RemoteFile(
        name=f"box.{kind}",
        urls=(f"http://127.0.0.1:9/box.{kind}",),
        sha256=hashlib.sha256(packed).hexdigest(),
        size=len(packed),
    )
    files = {name: hashlib.sha256(raw).hexdigest() for name, raw in CONTENT.items()}
    return Archive("Box", remote, "box", files)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture(params=["zip", "tar.gz"])
def box(request: pytest.FixtureRequest, data_folder: Path) -> Archive:
    """An archive that lies in the data folder already."""
    kind = str(request.param)
    return described(pack(data_folder / f"box.{kind}", kind), kind)


def found(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_files_that_are_read_are_unpacked_and_no_others(
    box: Archive, data_folder: Path
) -> None:
    folder = box.obtain(ONCE)
    assert folder == data_folder / "box"
    assert found(folder) == CONTENT


def test_only_what_is_missing_is_unpacked(box: Archive, data_folder: Path) -> None:
    own = data_folder / "box" / "first.csv"
    own.parent.mkdir()
    own.write_bytes(b"a reader's own file")
    before = own.stat()
    assert found(box.obtain(ONCE)) == CONTENT | {"first.csv": b"a reader's own file"}
    assert (own.stat().st_mtime_ns, own.stat().st_ino) == (before.st_mtime_ns, before.st_ino)


def test_what_is_in_place_needs_no_archive(box: Archive, data_folder: Path) -> None:
    folder = box.obtain(ONCE)
    (data_folder / box.remote.name).unlink()
    assert box.obtain(ONCE) == folder
    assert sorted(path.name for path in data_folder.iterdir() if path.is_file()) == []


def test_wrong_archive_is_never_used(box: Archive, data_folder: Path) -> None:
    archive = data_folder / box.remote.name
    damaged = archive.read_bytes()[:-1] + b"!"
    archive.write_bytes(damaged)
    with pytest.raises(DownloadError, match=rf"{box.remote.name}.*damaged file"):
        box.obtain(ONCE)
    assert not (data_folder / "box").exists()
    assert archive.read_bytes() == damaged


def test_another_archive_of_the_right_shape_is_never_used(data_folder: Path) -> None:
    pinned = described(b"the official bytes", "zip")
    pack(data_folder / "box.zip", "zip")
    with pytest.raises(DownloadError, match=r"box.zip.*damaged file"):
        pinned.obtain(ONCE)
    assert not (data_folder / "box").exists()


def test_absent_archive_is_one_message_with_every_source(data_folder: Path) -> None:
    with pytest.raises(
        DownloadError, match=r"box.zip \(0.0 MB\) is needed, found no file"
    ) as error:
        described(b"x", "zip").obtain(ONCE)
    assert "http://127.0.0.1:9/box.zip: " in str(error.value)
    assert str(data_folder / "box.zip") in str(error.value)


def one_sentence(error: pytest.ExceptionInfo[AssignmentError]) -> str:
    message = str(error.value)
    assert type(error.value) is AssignmentError
    assert "\n" not in message
    assert "ASSIGNMENT_DATA" in message
    return message


def test_folder_that_cannot_be_made_is_one_sentence(box: Archive, data_folder: Path) -> None:
    (data_folder / "box").write_bytes(b"a file where the folder should be")
    with pytest.raises(AssignmentError, match=r"Cannot unpack box\.(zip|tar\.gz) into ") as error:
        box.obtain(ONCE)
    assert str(data_folder / "box") in one_sentence(error)


@pytest.mark.parametrize("code", [errno.EACCES, errno.ENOSPC, errno.EROFS])
def test_folder_that_cannot_be_written_is_one_sentence(
    box: Archive, data_folder: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    half = OSError(code, "the reason given")

    def write_half(path: Path, raw: bytes) -> int:
        with path.open("wb") as file:
            file.write(raw[: len(raw) // 2])
        raise half

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", write_half)
        with pytest.raises(AssignmentError, match="the reason given") as error:
            box.obtain(ONCE)
        one_sentence(error)
    assert not (data_folder / "box" / "first.csv").exists(), "half a file must not look whole"
    assert {name: found(box.obtain(ONCE))[name] for name in CONTENT} == CONTENT


def test_official_files_are_called_official(box: Archive) -> None:
    source = box.source(box.obtain(ONCE))
    assert (source.what, source.origin) == ("Box", "official")
    assert "2 files" in source.detail


def test_other_content_is_called_other_and_the_file_is_named(box: Archive) -> None:
    folder = box.obtain(ONCE)
    official = box.source(folder)
    (folder / "second.csv").write_bytes(b"changed by hand")
    source = box.source(folder)
    assert source.origin == "other"
    assert "second.csv" in source.detail
    assert "first.csv" not in source.detail
    assert source.sha256 != official.sha256


@pytest.mark.usefixtures("sample_mode")
def test_in_sample_mode_even_official_content_is_called_sample(box: Archive) -> None:
    assert box.source(box.obtain(ONCE)).origin == "SAMPLE"


def test_missing_file_is_named(box: Archive) -> None:
    folder = box.obtain(ONCE)
    (folder / "first.csv").unlink()
    with pytest.raises(AssignmentError, match=r"Box: first.csv missing in .*make data"):
        box.source(folder)


def test_unreadable_file_is_one_sentence(box: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = box.obtain(ONCE)

    def refuse(path: Path, *_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(AssignmentError, match=r"first.csv cannot be read \(Permission denied\)"):
        box.source(folder)
