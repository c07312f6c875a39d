"""What can go wrong between a host and the data folder, each fault played by a local server."""

import errno
import gzip
import hashlib
import os
import random
import re
import shutil
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock
from urllib.error import URLError
from urllib.request import OpenerDirector

import pytest

from assignment.common import download, files
from assignment.common.download import Archive, Effort, RemoteFile, fetch
from assignment.common.settings import AssignmentError

NAME = "payload.bin"
SIZE = 300_000
HALF = SIZE // 2
PAYLOAD = random.Random(0).randbytes(SIZE)
CORRUPT = PAYLOAD[:-1] + bytes([PAYLOAD[-1] ^ 1])  # one bit
QUICK = Effort(attempts=3, timeout=5.0)
HASTY = Effort(attempts=1, timeout=0.3)
CLOSED = Mock(side_effect=PermissionError(errno.EACCES, "Permission denied", "/a/file"))
CANNOT = "cannot be read or written"
NOWHERE = "http://127.0.0.1:9"  # the discard port: asking it fails


@dataclass(frozen=True)
class Answer:
    """How the server answers one request; as it stands, faultlessly."""

    body: bytes = PAYLOAD
    status: str = "200 OK"  # any other comes without a body
    header: str = "X-Faultless: yes"
    chunked: bool = False  # and so of unknown length
    ranges: bool = True  # honour a Range header
    drop: int | None = None  # close the connection after this many bytes
    silent: bool = False  # instead of closing it, say nothing more
    pause: float = 0.0  # seconds before each piece
    endless: bytes = b""  # sent again and again, and nothing else


class Handler(StreamRequestHandler):
    server: "Server"

    def handle(self) -> None:
        head = "".join(iter(lambda: self.rfile.readline().decode(), "\r\n"))
        start = "".join(re.findall(r"Range: bytes=(\d+)-", head))
        self.server.starts.append(start)
        self.server.paths.append(head.split()[1])
        answer = self.server.script.pop(0) if self.server.script else Answer()
        while answer.endless and not self.server.released.wait(answer.pause):
            self.wfile.write(answer.endless)
        status, body = answer.status, answer.body if answer.status == "200 OK" else b""
        if body and start and answer.ranges:
            status, body = "206 Partial Content", body[int(start) :]
        length = f"Content-Length: {len(body)}"
        length = "Transfer-Encoding: chunked" if answer.chunked else length
        lines = f"HTTP/1.1 {status}", answer.header, length, "", ""
        self.wfile.write("\r\n".join(lines).encode())
        for at in range(0, len(body[: answer.drop]), 1 << 16):
            self.server.released.wait(answer.pause)
            piece = body[: answer.drop][at : at + (1 << 16)]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if answer.chunked else piece)
        self.server.released.wait(20 * answer.silent)
        if answer.chunked and answer.drop is None:
            self.wfile.write(b"0\r\n\r\n")


class Server(ThreadingTCPServer):
    """Answers by the script while that lasts, then faultlessly; remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[Answer] = []
        self.paths: list[str] = []
        self.starts: list[str] = []  # where each request wants to start, "" without a Range
        self.released = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_: object) -> None:
        pass  # a client that went away is part of the play


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        yield server
        server.released.set()
        server.shutdown()


@pytest.fixture(autouse=True)
def undisturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy between us and the server, and no waiting between attempts."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "BACKOFF_SECONDS", 0.0)


def wanted(*bases: str) -> RemoteFile:
    urls = tuple(f"{base}/{NAME}" for base in bases)
    return RemoteFile(NAME, urls, hashlib.sha256(PAYLOAD).hexdigest(), SIZE)


def arrives(file: RemoteFile, folder: Path, effort: Effort = QUICK) -> None:
    """Fetch; the file is in place, whole, and nothing half-done beside it."""
    assert fetch(file, folder, effort).read_bytes() == PAYLOAD
    assert not list(folder.glob("*.part"))


def refused(file: RemoteFile, folder: Path, effort: Effort = QUICK) -> str:
    """Fetch in vain; the harmless message. What had the real name before has it unchanged."""
    path = folder / NAME
    before = path.read_bytes() if path.exists() else None
    with pytest.raises(AssignmentError) as caught:
        fetch(file, folder, effort)
    assert (path.read_bytes() if path.exists() else None) == before
    message = str(caught.value)
    assert message.replace("\n", "").isprintable()
    assert "secret" not in message
    return message


def play(*script: Answer, **outcome: object) -> SimpleNamespace:
    """What the server does. Without an error it arrives; of the .part `left` bytes are left."""
    usual: Any = {"error": "", "starts": None, "before": b"", "left": 0, "effort": QUICK}
    usual |= {"known": True}  # the whole checksum and the size
    return SimpleNamespace(**(usual | outcome), script=list(script))


HALFWAY, CUT, SILENT = Answer(drop=HALF), Answer(drop=0), Answer(drop=0, silent=True)
CHUNKED, REFUSED = Answer(chunked=True), Answer(status="416 No")
LOGIN = Answer(b"<html>", header="Content-Type: text/html", chunked=True)
GZIPPED = Answer(gzip.compress(PAYLOAD), header="Content-Encoding: gzip", chunked=True)
LONGER = Answer(PAYLOAD + b"!", header=f"Content-Length: {SIZE}")  # the first of two counts
SHORT, STUCK = Answer(b"short", chunked=True), Answer(drop=9, silent=True)
OVER = [Answer(drop=HALF, ranges=False), Answer(drop=HALF + 9, ranges=False)]
GONE = Answer(status="404 \x1b[31mGone\x07")
CONTINUE = Answer(endless=b"HTTP/1.1 100 Continue\r\n\r\n")
ASTRAY = Answer(status="302 Found", header="Location: odd://me:secret@host/\x1b[2J")
LATE, BUSY = Answer(status="408 Late"), Answer(status="429 Busy")
LAST = "timed out before the answer began (1 attempts)"
PLAYS = {
    "dropped again and again": play(*[Answer(drop=SIZE // 10)] * 9),
    "dropped for good": play(HALFWAY, CUT, CUT, CUT, error="come (3 attempts)", left=HALF),
    "silent half way": play(STUCK, starts=["", 9], effort=Effort(timeout=0.3)),
    "silent at the end": play(Answer(silent=True), starts=[""]),
    "silent from the start": play(SILENT, error="timed out (1 attempts)", effort=HASTY),
    "head byte by byte": play(Answer(endless=b"H", pause=0.05), error=LAST, effort=HASTY),
    "100 Continue for ever": play(CONTINUE, error=LAST, effort=HASTY),
    "range ignored": play(HALFWAY, Answer(ranges=False), starts=["", HALF]),
    "range refused": play(HALFWAY, REFUSED, starts=["", HALF, ""]),
    "starting over for ever": play(*OVER * 10, error="bytes to come (3 attempts)", left=HALF),
    "chunked, dropped": play(replace(CHUNKED, drop=HALF), CHUNKED, starts=["", HALF]),
    "chunked, a byte too many": play(Answer(PAYLOAD + b"!", chunked=True)),
    "chunked, too short": play(SHORT, SHORT, SHORT, SHORT, error="299,995 bytes to come", left=5),
    "announced too long": play(Answer(bytes(SIZE + 9)), starts=[""], error="300009 bytes of text/"),
    "longer than announced": play(LONGER, starts=[""]),
    "gzip": play(GZIPPED, starts=[""], error="wrong checksum"),
    "a wrong bit": play(Answer(CORRUPT), starts=[""], error="wrong checksum"),
    "login page": play(LOGIN, LOGIN, error="bytes of text/html", before=bytes(9), left=9),
    "404 in colour": play(GONE, starts=[""], error="HTTP 404 ?[31mGone?\n"),
    "408, 429, and well": play(LATE, BUSY, starts=["", "", ""]),
    "500 for ever": play(*[Answer(status="500 Oh")] * 3, error="HTTP 500 Oh (3 attempts)"),
    "redirected astray": play(ASTRAY, error="Redirection to url 'odd://host/?[2J' is not allowed"),
    "half from before": play(starts=[HALF], before=PAYLOAD[:HALF]),
    "wrong bytes from before": play(starts=[HALF, ""], before=bytes(HALF)),
    "wrong bytes from before, too many": play(starts=[""], before=bytes(SIZE + 1)),
    "all bytes from before": play(starts=[], before=PAYLOAD),
    "little known": play(HALFWAY, starts=["", HALF], known=False),
    "little known, all from before": play(starts=[SIZE], before=PAYLOAD, known=False),
    "little known, too much from before": play(
        REFUSED, starts=[SIZE + 1, ""], before=bytes(SIZE + 1), known=False
    ),
    "little known, a wrong bit": play(Answer(CORRUPT), error="wrong checksum", known=False),
    "little known, no length": play(
        CHUNKED, error="it sends some bytes of text/plain, expected their number", known=False
    ),
}


@pytest.mark.parametrize("play", PLAYS.values(), ids=PLAYS.keys())
def test_it_arrives_or_the_message_says_why(
    server: Server, tmp_path: Path, play: SimpleNamespace
) -> None:
    part = tmp_path / f"{NAME}.part"
    part.write_bytes(play.before)
    (tmp_path / NAME).write_bytes(b"damaged")
    server.script, file = play.script.copy(), wanted(server.url)
    if not play.known:
        file = replace(file, sha256=file.sha256[:8], size=0)
    if play.error:
        message = refused(file, tmp_path, play.effort)
        assert play.error in message
        assert (part.stat().st_size if part.exists() else 0) == play.left
    else:
        arrives(file, tmp_path, play.effort)
    assert play.starts is None or [str(start) for start in play.starts] == server.starts


def test_waits_longer_after_each_attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    naps: list[float] = []
    monkeypatch.setattr(download, "BACKOFF_SECONDS", 1.0)
    monkeypatch.setattr(time, "sleep", naps.append)
    assert f"{NOWHERE}/{NAME}: [Errno" in refused(wanted(NOWHERE), tmp_path, Effort(attempts=4))
    assert naps == [1.0, 2.0, 4.0]


def test_a_mirror_replaces_the_official_sources(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ASSIGNMENT_MIRROR", f" {server.url}/mirror/ ")
    arrives(wanted(NOWHERE), tmp_path)
    assert server.paths == [f"/mirror/{NAME}"]
    monkeypatch.setenv("ASSIGNMENT_MIRROR", tmp_path.as_uri())
    arrives(wanted(NOWHERE), tmp_path / "data")


@pytest.mark.parametrize("mirror", ["nonsense", "http://host:port", "http://a host", "http://[half",
    "http://127.0.0.1/ö", "http://\x1b[2J", "http://me:secret@127.0.0.1:9", "http://secret@host",
    "http://me:se/secret@host", "http://me:a secret@host"])  # fmt: skip
def test_a_mirror_that_is_no_address_is_refused_and_shows_no_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mirror: str
) -> None:
    monkeypatch.setenv("ASSIGNMENT_MIRROR", mirror)
    message = refused(wanted(NOWHERE), tmp_path)
    assert f"/{NAME}: not an address, or one with a login; mend ASSIGNMENT_MIRROR\n" in message


def test_a_refused_certificate_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = URLError(ssl.SSLCertVerificationError("!"))
    monkeypatch.setattr(OpenerDirector, "open", Mock(side_effect=[refusal]))
    assert "certificate was refused (('!'," in refused(wanted("https://host"), tmp_path)


def test_of_three_at_once_one_downloads(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.script = [Answer(pause=0.1)]
    with ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(fetch, wanted(server.url), tmp_path, QUICK) for _ in range(3)]
    messages = [str(future.exception() or "") for future in futures]
    waits = f"Another process is downloading {NAME} into {tmp_path}: wait for it, then rerun."
    assert sorted(messages) == ["", waits, waits]
    assert (server.starts, (tmp_path / NAME).read_bytes()) == ([""], PAYLOAD)
    found = iter(["no file", ""])  # as if another had brought it before the lock was free
    monkeypatch.setattr(download, "_fault", lambda *_: next(found))
    fetch(wanted(NOWHERE), tmp_path)


@pytest.mark.parametrize("ending", ["", ".part", ".lock", "os.replace"])
def test_what_the_disk_refuses_is_a_sentence(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    if ending == "os.replace":
        monkeypatch.setattr(ending, Mock(side_effect=OSError(28, "full", "/a/file")))
    else:
        (tmp_path / f"{NAME}{ending}").mkdir()  # a folder in the way
    named = "/a/file" if ending == "os.replace" else re.escape(f"{tmp_path / NAME}{ending}")
    words = rf"{NAME}: {named} {CANNOT} \(.+\). Mend that, .* in ASSIGNMENT_DATA"
    with pytest.raises(AssignmentError, match=words):
        fetch(wanted(server.url), tmp_path)


def test_too_slow_stops_and_what_came_stays(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    server.script = [Answer(pause=0.15)] * 3
    arrives(wanted(server.url), tmp_path / "before the probe is over", Effort(patience=0.0))
    assert re.search(rf"{NAME}: +[1-9]\d%.*/300k.*B/s", capsys.readouterr().err)
    monkeypatch.setattr(download, "PROBE_SECONDS", 0.01)
    arrives(wanted(server.url), tmp_path / "within patience", Effort(patience=3600.0))
    message = refused(wanted(server.url), tmp_path, Effort(patience=0.0))
    assert re.match(rf"{NAME} \(0.3 MB\) comes slowly: about 0 more min.*make data", message)
    assert 0 < (tmp_path / f"{NAME}.part").stat().st_size < SIZE


def test_each_source_is_tried_and_the_message_says_all_that_helps(
    server: Server, tmp_path: Path
) -> None:
    (tmp_path / NAME).write_bytes(b"cut")
    server.script = [Answer(status="404 Not Found"), Answer(CORRUPT), Answer(CORRUPT)]
    file = wanted(f"{server.url}/first", f"{server.url}/second")
    assert refused(file, tmp_path) == (
        f"{NAME} (0.3 MB) is needed, found a damaged file (3 of 300,000 bytes, its checksum "
        f"differs) in {tmp_path}, and no source gave it:\n"
        f"  - {file.urls[0]}: HTTP 404 Not Found\n"
        f"  - {file.urls[1]}: what it sent has the wrong checksum and was thrown away\n"
        "What arrived so far is kept and continued next time. By hand: get it from "
        f"{file.urls[0]} and put it at {tmp_path / NAME} (its SHA-256 begins with {file.sha256})."
    )
    arrives(file, tmp_path)
    (tmp_path / f"{NAME}.lock").unlink(missing_ok=True)
    arrives(file, tmp_path)
    assert os.listdir(tmp_path) == [NAME], "a whole file is only read"
    assert server.paths == [f"/first/{NAME}", f"/second/{NAME}"] * 2


# --- archives -------------------------------------------------------------------------------------

CONTENT = {"first.csv": b"1,2,3\n" * 50, "second.csv": bytes(range(256))}


@pytest.fixture(params=["zip", "gztar"])
def box(request: pytest.FixtureRequest, data_folder: Path, tmp_path_factory: Any) -> Archive:
    """An archive that lies in the data folder already; its address answers nobody."""
    folder = tmp_path_factory.mktemp("packed") / "box"
    folder.mkdir()
    for name, raw in (CONTENT | {"README.txt": b"not read by anything"}).items():
        (folder / name).write_bytes(raw)
    path = Path(shutil.make_archive(str(data_folder / "box"), request.param, folder.parent, "box"))
    urls, digests = (f"{NOWHERE}/box",), {name: files.sha256(folder / name) for name in CONTENT}
    remote = RemoteFile(path.name, urls, files.sha256(path), path.stat().st_size)
    return Archive("Box", remote, "box", digests)


def content_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_is_read_and_missing_is_unpacked(box: Archive, data_folder: Path) -> None:
    folder = box.obtain(HASTY)
    assert folder == data_folder / "box"
    assert content_of(folder) == CONTENT
    (folder / "first.csv").write_bytes(b"a reader's own file")
    (folder / "second.csv").unlink()
    assert content_of(box.obtain(HASTY)) == CONTENT | {"first.csv": b"a reader's own file"}
    (data_folder / box.remote.name).unlink()
    assert box.obtain(HASTY) == folder, "what is in place needs no archive"


FULL_DISK = Mock(side_effect=OSError(errno.ENOSPC, "No space left"))
Change = Callable[[Path, pytest.MonkeyPatch], object]
UNPACKING: dict[str, tuple[Change, str]] = {
    "another archive": (lambda data, _: next(data.glob("box.*")).write_bytes(bytes(9999)),
        r"box.* needed, found a damaged file .*, its checksum differs\).*- http://127.0.0.1:9/box"),
    "a folder for a file": (lambda data, _: (data / "box" / "first.csv").mkdir(parents=True),
        rf"Box: .*box.first.csv {CANNOT} \(.*\). Mend that"),
    "a file for the folder": (lambda data, _: (data / "box").touch(),
        rf"Box: .*box {CANNOT} \(.*exist.*\). Mend that"),
    "a full disk": (lambda _, patch: patch.setattr(os, "fsync", FULL_DISK),
        rf"Box: .*box {CANNOT} \(No space left\). Mend that, or name another folder in ASSI"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "words"), UNPACKING.values(), ids=UNPACKING.keys())
def test_what_cannot_be_unpacked_is_a_message_and_nothing_is_left_half_done(
    box: Archive, data_folder: Path, monkeypatch: pytest.MonkeyPatch, change: Change, words: str
) -> None:
    change(data_folder, monkeypatch)
    with pytest.raises(AssignmentError, match=f"(?s){words}"):
        box.obtain(HASTY)
    assert not [path for path in data_folder.glob("box/*") if path.is_file()]


def test_the_files_are_official_or_other_or_a_sample(
    box: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = box.obtain(HASTY)
    official = box.source(folder)
    assert official.detail == "2 of 2 files match their pinned SHA-256"
    (folder / "second.csv").write_bytes(b"")
    other = box.source(folder)
    assert "second.csv changed or cut short. For the official one, delete" in other.detail
    assert other.sha256 != official.sha256
    monkeypatch.setenv("ASSIGNMENT_MODE", "sample")
    found = [official, other, box.source(folder)]
    assert [source.origin for source in found] == ["official", "other", "SAMPLE"]
    monkeypatch.setattr(Path, "open", CLOSED)
    with pytest.raises(AssignmentError, match=rf"Box: /a/file {CANNOT} \(Permission denied\)"):
        box.source(folder)
    (folder / "first.csv").unlink()
    with pytest.raises(AssignmentError, match=r"Box: first.csv missing in .*Run `make data` to"):
        box.source(folder)
