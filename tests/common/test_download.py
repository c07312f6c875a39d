"""What can go wrong between a host and the data folder, each fault played by a local server."""

import hashlib
import http.client
import os
import random
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingTCPServer
from urllib.error import HTTPError

import pytest

from assignment.common import download
from assignment.common.download import DownloadError, Effort, RemoteFile, TooSlowError, fetch

NAME = "payload.bin"
SIZE = 300_000
HALF = SIZE // 2
PAYLOAD = random.Random(0).randbytes(SIZE)
SHA256 = hashlib.sha256(PAYLOAD).hexdigest()
CORRUPT = PAYLOAD[:-1] + bytes([PAYLOAD[-1] ^ 1])  # one bit
DAMAGED = b"what an earlier accident left"
QUICK = Effort(attempts=3, timeout=20.0)
NOWHERE = "http://127.0.0.1:9"  # the discard port: asking it would fail

# A key and a self-signed certificate for 127.0.0.1, in use nowhere else.
CERTIFICATE = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgk4I4q1ls6qVJkAR+
lr4skwD6psf9TmtLjNdk2qE9pUKhRANCAATWW9rg9MUKGXWA9yQvCBTBHgxbkfWX
FU+mnU81hzygfvgjvc61/dF6hfIOT7F7VlNWwSTHgF0vH61WFmGNRbFc
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBnzCCAUagAwIBAgIUZ8UL9+e0eEUqzc3N3niYJUKz5xUwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJMTI3LjAuMC4xMCAXDTIwMDEwMTAwMDAwMFoYDzIxMjAwMTAx
MDAwMDAwWjAUMRIwEAYDVQQDDAkxMjcuMC4wLjEwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAATWW9rg9MUKGXWA9yQvCBTBHgxbkfWXFU+mnU81hzygfvgjvc61/dF6
hfIOT7F7VlNWwSTHgF0vH61WFmGNRbFco3QwcjAdBgNVHQ4EFgQUOKKJGUaWR2MZ
I+XMGnhpIk36YXkwHwYDVR0jBBgwFoAUOKKJGUaWR2MZI+XMGnhpIk36YXkwDwYD
VR0TAQH/BAUwAwEB/zAPBgNVHREECDAGhwR/AAABMA4GA1UdDwEB/wQEAwIChDAK
BggqhkjOPQQDAgNHADBEAiBTCLURRm6o3fvAaQvwvZ494e6EvGCH4W5sEldKLu39
7wIgNo2wIZ3/WpZVVyBBRdxS90M5ZJRrL3y+HUNOWWuDuLY=
-----END CERTIFICATE-----
"""


@dataclass(frozen=True)
class Answer:
    """How the server answers one request; as it stands, faultlessly."""

    body: bytes = PAYLOAD
    status: int = 200  # any other is an empty answer
    location: str = ""
    ranges: bool = True  # honour a Range header
    shift: int = 0  # start a range this many bytes off
    framing: str = "length"  # or "chunked", "until closed", "nonsense"
    drop: int | None = None  # close the connection after this many bytes
    silent: bool = False  # instead of closing it, say nothing more
    pause: float = 0.0  # seconds before each piece


@dataclass
class Asked:
    """One request, and the bytes of body that were sent for it."""

    path: str
    start: str
    sent: int = 0


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "Server"

    def do_GET(self) -> None:
        answer = self.server.script.pop(0) if self.server.script else self.server.always
        start = self.headers.get("Range", "").removeprefix("bytes=").removesuffix("-")
        asked = Asked(self.path, start)
        self.server.requests.append(asked)
        if answer.status != 200:
            self.send_response(answer.status)
            self.send_header("Content-Length", "0")
            if answer.location:
                self.send_header("Location", answer.location)
            self.end_headers()
            return
        body = answer.body
        if start and answer.ranges:
            first = int(start) + answer.shift
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{len(body) - 1}/{len(body)}")
            body = body[first:]
        else:
            self.send_response(200)
        if answer.framing == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
        elif answer.framing != "until closed":
            self.send_header("Content-Length", {"length": str(len(body))}.get(answer.framing, "?"))
        self.end_headers()
        self.send_body(answer, body, asked)

    def send_body(self, answer: Answer, body: bytes, asked: Asked) -> None:
        chunked = answer.framing == "chunked"
        for at in range(0, len(body[: answer.drop]), 1 << 16):
            self.server.released.wait(answer.pause)
            piece = body[: answer.drop][at : at + (1 << 16)]
            asked.sent += len(piece)
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        if answer.silent:
            self.server.released.wait(20)
        if chunked and answer.drop is None:
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(ThreadingTCPServer):
    """Answers by the script while that lasts, then always the same; remembers what it was asked."""

    scheme = "http"

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[Answer] = []
        self.always = Answer()
        self.requests: list[Asked] = []
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_address[1]}"

    @property
    def starts(self) -> list[str]:
        """Where each request wanted to start; empty where it had no Range."""
        return [asked.start for asked in self.requests]

    @property
    def sent(self) -> int:
        return sum(asked.sent for asked in self.requests)

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that went away is part of the play


@contextmanager
def serving(certificate: Path | None = None) -> Iterator[Server]:
    server = Server()
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.scheme = "https"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(autouse=True)
def undisturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy between us and the server, and no waiting between attempts."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "BACKOFF_SECONDS", 0.0)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture
def tls_server(tmp_path: Path) -> Iterator[Server]:
    certificate = tmp_path / "certificate.pem"
    certificate.write_text(CERTIFICATE)
    with serving(certificate) as server:
        yield server


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test's certificate counts as good."""
    context = ssl.create_default_context(cadata=CERTIFICATE)
    monkeypatch.setattr(urllib.request, "urlopen", partial(urllib.request.urlopen, context=context))


@pytest.fixture(params=["nothing in place", "damaged file in place"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A data folder; every test is also run where a file with the real name is there already."""
    folder = tmp_path / "data"
    if request.param == "damaged file in place":
        folder.mkdir()
        (folder / NAME).write_bytes(DAMAGED)
    return folder


@pytest.fixture
def own_folder() -> Iterator[Path]:
    """A folder whose permissions bind us, as they do everyone but the superuser."""
    folder = Path(tempfile.mkdtemp())
    superuser = sys.platform != "win32" and os.geteuid() == 0
    if sys.platform != "win32" and superuser:
        os.chown(folder, 65534, -1)
        os.seteuid(65534)
    yield folder
    if sys.platform != "win32" and superuser:
        os.seteuid(0)
    folder.chmod(0o755)
    shutil.rmtree(folder)


def wanted(*bases: str, https_only: bool = False) -> RemoteFile:
    return RemoteFile(NAME, tuple(f"{base}/{NAME}" for base in bases), SHA256, SIZE, https_only)


def part_of(folder: Path) -> Path:
    return folder / f"{NAME}.part"


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def leave_part(folder: Path, content: bytes) -> None:
    folder.mkdir(exist_ok=True)
    part_of(folder).write_bytes(content)


def arrives(file: RemoteFile, folder: Path, effort: Effort = QUICK) -> None:
    """Fetch; the file is in place, whole, and nothing half-done beside it."""
    path = fetch(file, folder, effort)
    assert path == folder / NAME
    assert hashlib.sha256(path.read_bytes()).hexdigest() == SHA256
    assert not part_of(folder).exists()


def refused(
    file: RemoteFile,
    folder: Path,
    effort: Effort = QUICK,
    error: type[DownloadError] = DownloadError,
) -> str:
    """Fetch in vain; the message. Whatever had the real name before has it still, unchanged."""
    path = folder / NAME
    before = path.read_bytes() if path.exists() else None
    with pytest.raises(error) as caught:
        fetch(file, folder, effort)
    assert type(caught.value) is error
    assert (path.read_bytes() if path.exists() else None) == before
    return str(caught.value)


def test_arrives(server: Server, folder: Path) -> None:
    arrives(wanted(server.url), folder)
    assert server.starts == [""]
    assert server.sent == SIZE


def test_whole_file_in_place_asks_no_one(server: Server, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(PAYLOAD)
    arrives(wanted(server.url), tmp_path)
    assert server.requests == []
    assert os.listdir(tmp_path) == [NAME]


def test_shows_progress(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server.always = Answer(pause=0.15)  # the bar is drawn ten times a second
    arrives(wanted(server.url), tmp_path)
    shown = capsys.readouterr().err
    assert NAME in shown
    assert "/300k" in shown
    assert "B/s" in shown
    assert any(f" {percent}%" in shown for percent in range(10, 100))


def test_truncated_at_the_source(server: Server, folder: Path) -> None:
    server.always = Answer(body=PAYLOAD[:HALF])
    message = refused(wanted(server.url), folder)
    assert "too short: 150,000 bytes, expected 300,000" in message
    assert len(server.requests) == 1


def test_corrupted_at_the_source(server: Server, folder: Path) -> None:
    server.script = [Answer(body=CORRUPT)]
    assert "wrong checksum" in refused(wanted(server.url), folder)
    assert len(server.requests) == 1
    assert not part_of(folder).exists()


def test_one_byte_too_many(server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "CHUNK", 1)  # no chunk takes it along by chance
    small = hashlib.sha256(PAYLOAD[:1000]).hexdigest()
    file = replace(wanted(server.url), sha256=small, size=1000)
    server.script = [Answer(body=PAYLOAD[:1001])]
    assert "wrong checksum" in refused(file, folder)
    assert len(server.requests) == 1
    assert not part_of(folder).exists()


def test_far_too_many_bytes_are_not_waited_for(server: Server, folder: Path) -> None:
    server.script = [Answer(body=bytes(64_000_000))]
    refused(wanted(server.url), folder)
    assert server.sent < 64_000_000


def test_dropped_half_way_continues_there(server: Server, folder: Path) -> None:
    server.script = [Answer(drop=HALF)]
    arrives(wanted(server.url), folder)
    assert server.starts == ["", str(HALF)]
    assert server.sent == SIZE


def test_dropped_for_good_keeps_the_beginning_for_the_next_run(
    server: Server, folder: Path
) -> None:
    server.script = [Answer(drop=HALF), *[Answer(drop=0)] * QUICK.attempts]
    message = refused(wanted(server.url), folder)
    assert "the connection ended after 0 of 150,000 bytes (3 attempts)" in message
    arrives(wanted(server.url), folder)
    assert server.sent == SIZE


def test_dropped_again_and_again_ends_when_every_attempt_brings_something(
    server: Server, folder: Path
) -> None:
    server.script = [Answer(drop=SIZE // 10)] * 9
    arrives(wanted(server.url), folder)
    assert server.sent == SIZE


def test_silence_keeps_every_byte_that_came(server: Server, folder: Path) -> None:
    server.script = [Answer(drop=1000, silent=True)]
    arrives(wanted(server.url), folder, Effort(timeout=1.0))
    assert server.starts[:2] == ["", "1000"]


def test_silence_for_ever_ends(server: Server, folder: Path) -> None:
    server.script = [Answer(drop=0, silent=True)] * 10
    message = refused(wanted(server.url), folder, Effort(attempts=1, timeout=0.5))
    assert "timed out (1 attempts)" in message


def test_range_ignored_starts_over(server: Server, folder: Path) -> None:
    server.script = [Answer(drop=HALF), Answer(ranges=False)]
    arrives(wanted(server.url), folder)
    assert server.starts == ["", str(HALF)]


def test_range_refused_starts_over(server: Server, folder: Path) -> None:
    server.script = [Answer(drop=HALF), Answer(status=416)]
    arrives(wanted(server.url), folder)
    assert server.starts == ["", str(HALF), ""]


def test_range_refused_where_none_was_asked(server: Server, folder: Path) -> None:
    server.script = [Answer(drop=HALF), Answer(status=416), Answer(status=416)]
    assert "HTTP 416" in refused(wanted(server.url), folder)


def test_range_from_another_byte_is_thrown_away(server: Server, folder: Path) -> None:
    server.script = [Answer(drop=HALF), Answer(shift=-1)]
    arrives(wanted(server.url), folder)
    assert server.starts == ["", str(HALF), ""]


def test_starting_over_and_breaking_for_ever_ends(server: Server, folder: Path) -> None:
    server.script = [Answer(drop=drop, ranges=False) for drop in (HALF, HALF + 1000)] * 10
    assert "the connection ended" in refused(wanted(server.url), folder)


def test_404_is_not_asked_again(server: Server, folder: Path) -> None:
    server.script = [Answer(status=404)]
    assert "HTTP 404 Not Found" in refused(wanted(server.url), folder)
    assert len(server.requests) == 1


def test_an_error_is_closed(server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[int] = []
    close = HTTPError.close

    def noted(error: HTTPError) -> None:
        closed.append(error.code)
        close(error)

    monkeypatch.setattr(HTTPError, "close", noted)
    server.script = [Answer(status=503), Answer(status=404)]
    refused(wanted(server.url), folder)
    assert closed == [503, 404]


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_passing_fault_is_asked_again(server: Server, folder: Path, status: int) -> None:
    server.script = [Answer(status=status)]
    arrives(wanted(server.url), folder)
    assert len(server.requests) == 2


def test_500_for_ever_ends(server: Server, folder: Path) -> None:
    server.script = [Answer(status=500)] * 10
    message = refused(wanted(server.url), folder)
    assert "HTTP 500 Internal Server Error (3 attempts)" in message
    assert len(server.requests) == QUICK.attempts


def test_waits_longer_after_each_fruitless_attempt(
    server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    naps: list[float] = []
    monkeypatch.setattr(download, "BACKOFF_SECONDS", 1.0)
    monkeypatch.setattr(time, "sleep", naps.append)
    server.script = [Answer(status=500)] * 10
    refused(wanted(server.url), folder, Effort(attempts=4))
    assert naps == [1.0, 2.0, 4.0]


@pytest.mark.parametrize(
    "fault",
    [
        ConnectionResetError("reset"),
        TimeoutError("timed out"),
        ssl.SSLError("bad record"),
        http.client.IncompleteRead(b""),
    ],
    ids=lambda fault: type(fault).__name__,
)
def test_a_broken_connection_is_tried_again(
    server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    faults = [fault]
    read1 = http.client.HTTPResponse.read1

    def broken(response: http.client.HTTPResponse, n: int) -> bytes:
        if faults:
            raise faults.pop()
        return read1(response, n)

    monkeypatch.setattr(http.client.HTTPResponse, "read1", broken)
    arrives(wanted(server.url), folder)
    assert len(server.requests) == 2


def test_no_one_there(folder: Path) -> None:
    with serving() as gone:
        url = gone.url
    message = refused(wanted(url), folder)
    assert f"no source gave it:\n  - {url}/{NAME}: [" in message
    assert "(3 attempts)" in message


def test_chunked(server: Server, folder: Path) -> None:
    server.always = Answer(framing="chunked")
    arrives(wanted(server.url), folder)


def test_chunked_and_dropped_half_way_continues(server: Server, folder: Path) -> None:
    server.script = [Answer(framing="chunked", drop=HALF)]
    arrives(wanted(server.url), folder)
    assert server.starts == ["", str(HALF)]


@pytest.mark.parametrize("framing", ["until closed", "nonsense"])
def test_length_unknown_and_dropped_half_way_continues(
    server: Server, folder: Path, framing: str
) -> None:
    server.script = [Answer(framing=framing, drop=HALF)]
    arrives(wanted(server.url), folder)
    assert server.starts == ["", str(HALF)]


@pytest.mark.parametrize("length", [HALF, SIZE, SIZE + 1])
def test_wrong_bytes_of_an_earlier_run_are_thrown_away(
    server: Server, folder: Path, length: int
) -> None:
    leave_part(folder, bytes(length))
    arrives(wanted(server.url), folder)
    assert server.starts[-1] == ""


def test_whole_part_of_an_earlier_run_asks_no_one(server: Server, folder: Path) -> None:
    leave_part(folder, PAYLOAD)
    arrives(wanted(server.url), folder)
    assert server.requests == []


def test_corrupted_source_is_started_over_once_only(server: Server, folder: Path) -> None:
    leave_part(folder, bytes(HALF))
    server.script = [Answer(body=CORRUPT), Answer(body=CORRUPT, drop=HALF), Answer(body=CORRUPT)]
    assert "wrong checksum" in refused(wanted(server.url), folder)
    assert server.starts == [str(HALF), "", str(HALF)]


def test_attempts_are_counted_afresh_after_a_start_over(server: Server, folder: Path) -> None:
    leave_part(folder, bytes(HALF))
    fault = Answer(status=500)
    server.script = [fault, fault, Answer(), fault, fault]
    arrives(wanted(server.url), folder)


@pytest.mark.parametrize(
    "fault",
    [Answer(status=404), Answer(body=CORRUPT), Answer(body=CORRUPT[1:])],
    ids=["missing", "corrupted", "truncated"],
)
def test_second_source_helps_where_the_first_fails(
    server: Server, folder: Path, fault: Answer
) -> None:
    server.script = [fault]
    arrives(wanted(f"{server.url}/first", f"{server.url}/second"), folder)
    paths = [asked.path for asked in server.requests]
    assert paths[0] == f"/first/{NAME}"
    assert set(paths[1:]) == {f"/second/{NAME}"}


def test_second_source_is_not_asked_where_the_first_helps(server: Server, folder: Path) -> None:
    arrives(wanted(f"{server.url}/first", f"{server.url}/second"), folder)
    assert [asked.path for asked in server.requests] == [f"/first/{NAME}"]


def test_mirror_takes_the_place_of_the_official_sources(
    server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSIGNMENT_MIRROR", f" {server.url}/mirror/ ")
    arrives(wanted(NOWHERE), folder)
    assert [asked.path for asked in server.requests] == [f"/mirror/{NAME}"]


def test_mirror_may_be_a_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / NAME).write_bytes(PAYLOAD)
    monkeypatch.setenv("ASSIGNMENT_MIRROR", (tmp_path / "mirror").as_uri())
    leave_part(folder, PAYLOAD[:HALF])
    arrives(wanted(NOWHERE), folder)


@pytest.mark.parametrize(
    "mirror",
    ["nonsense", "http://host:port", "http://a host", "http://[half", "http://127.0.0.1/ö"],
)
def test_nonsense_mirror_is_refused_in_a_sentence(
    folder: Path, monkeypatch: pytest.MonkeyPatch, mirror: str
) -> None:
    monkeypatch.setenv("ASSIGNMENT_MIRROR", mirror)
    message = refused(wanted(NOWHERE), folder)
    assert f"{mirror}/{NAME}: not an address" in message
    assert "mend ASSIGNMENT_MIRROR" in message


def test_https_only_takes_https(tls_server: Server, folder: Path, trusted: None) -> None:
    arrives(wanted(tls_server.url, https_only=True), folder)


def test_https_only_refuses_http(server: Server, folder: Path) -> None:
    assert "over https only" in refused(wanted(server.url, https_only=True), folder)
    assert server.requests == []


def test_https_only_refuses_an_http_mirror(
    server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSIGNMENT_MIRROR", server.url)
    assert "over https only" in refused(wanted("https://nowhere", https_only=True), folder)
    assert server.requests == []


def test_https_only_refuses_a_redirect_to_http(
    server: Server, tls_server: Server, folder: Path, trusted: None
) -> None:
    tls_server.always = Answer(status=302, location=f"{server.url}/{NAME}")
    assert "over https only" in refused(wanted(tls_server.url, https_only=True), folder)
    assert not part_of(folder).exists()


def test_redirect_is_followed_where_http_will_do(server: Server, folder: Path) -> None:
    server.script = [Answer(status=302, location=f"{server.url}/moved")]
    arrives(wanted(server.url), folder)


def test_refused_certificate_is_said_and_not_asked_again(tls_server: Server, folder: Path) -> None:
    message = refused(wanted(tls_server.url), folder)
    assert "its certificate was refused" in message
    assert "attempts" not in message


def test_refused_certificate_goes_on_to_the_next_source(
    server: Server, tls_server: Server, folder: Path
) -> None:
    arrives(wanted(tls_server.url, server.url), folder)


def test_killed_process_is_continued_by_the_next(server: Server, folder: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from assignment.common.download import *\n"
        "url, name, sha256, size, folder = sys.argv[1:]\n"
        "fetch(RemoteFile(name, (url,), sha256, int(size)), Path(folder))"
    )
    file = wanted(server.url)
    arguments = [file.urls[0], file.name, file.sha256, str(file.size), str(folder)]
    server.script = [Answer(drop=HALF, silent=True)]
    with subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stderr=subprocess.DEVNULL
    ) as process:
        while process.poll() is None and not size(part_of(folder)):
            time.sleep(0.01)
        process.kill()
    came = size(part_of(folder))
    assert process.returncode != 0
    assert 0 < came <= HALF
    assert size(folder / NAME) in (0, len(DAMAGED))
    arrives(file, folder)
    assert server.starts == ["", str(came)]


def test_damaged_file_is_replaced_only_at_the_end(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / NAME
    path.write_bytes(DAMAGED)
    seen: list[bytes] = []

    def check(deadline: object, chunk: int, remaining: int) -> None:
        seen.append(path.read_bytes())

    monkeypatch.setattr("assignment.common.download._Deadline.check", check)
    arrives(wanted(server.url), tmp_path)
    assert set(seen) == {DAMAGED}


@pytest.mark.needs("posix")
@pytest.mark.parametrize("damaged", [False, True])
def test_read_only_folder(server: Server, own_folder: Path, damaged: bool) -> None:
    if damaged:
        (own_folder / NAME).write_bytes(DAMAGED)
    own_folder.chmod(0o555)
    message = refused(wanted(server.url), own_folder)
    assert f"Cannot keep {NAME} in {own_folder}: Permission denied" in message
    assert "ASSIGNMENT_DATA" in message
    assert server.requests == []


@pytest.mark.needs("posix")
def test_read_only_folder_with_the_whole_file_will_do(server: Server, own_folder: Path) -> None:
    (own_folder / NAME).write_bytes(PAYLOAD)
    own_folder.chmod(0o555)
    arrives(wanted(server.url), own_folder)


@pytest.mark.needs("posix")
def test_unreadable_file_in_place(server: Server, own_folder: Path) -> None:
    path = own_folder / NAME
    path.write_bytes(PAYLOAD)
    path.chmod(0)
    with pytest.raises(DownloadError, match=f"Cannot keep {NAME} in .*: Permission denied"):
        fetch(wanted(server.url), own_folder, QUICK)
    path.chmod(0o644)
    assert path.read_bytes() == PAYLOAD


def test_folder_that_cannot_be_made(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    message = refused(wanted(server.url), tmp_path / "file")
    assert f"Cannot keep {NAME} in {tmp_path / 'file'}" in message
    assert "ASSIGNMENT_DATA" in message


def test_second_process_is_told_at_once(
    server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = (
        "import sys; from filelock import FileLock\n"
        "with FileLock(sys.argv[1]): print('held', flush=True); sys.stdin.read()"
    )
    folder.mkdir(exist_ok=True)
    with subprocess.Popen(
        [sys.executable, "-c", program, str(folder / f"{NAME}.lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline().strip() == b"held"
        with monkeypatch.context() as patch:
            patch.setattr(time, "sleep", pytest.fail)
            message = refused(wanted(server.url), folder)
        assert holder.stdin is not None
        holder.stdin.close()
    assert message.startswith(f"Another process is downloading {NAME} into {folder}")
    assert "\n" not in message
    assert server.requests == []
    arrives(wanted(server.url), folder)


def test_too_slow_stops_and_keeps_what_came(
    server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "PROBE_SECONDS", 0.01)
    server.script = [Answer(pause=0.05)]
    message = refused(wanted(server.url), folder, Effort(patience=0.0), TooSlowError)
    came = size(part_of(folder))
    assert f"{NAME} (0.3 MB)" in message
    assert "make data" in message
    assert 0 < came < SIZE
    arrives(wanted(server.url), folder)
    assert server.starts == ["", str(came)]


def test_slow_is_judged_only_after_the_probe(server: Server, folder: Path) -> None:
    server.always = Answer(pause=0.02)
    arrives(wanted(server.url), folder, Effort(patience=0.0))


@pytest.mark.parametrize("patience", [None, 3600.0])
def test_slow_within_patience_is_waited_for(
    server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch, patience: float | None
) -> None:
    monkeypatch.setattr(download, "PROBE_SECONDS", 0.01)
    server.always = Answer(pause=0.02)
    arrives(wanted(server.url), folder, Effort(patience=patience))


def test_message_says_all_that_helps(server: Server, folder: Path) -> None:
    server.script = [Answer(status=404), Answer(body=CORRUPT)]
    file = wanted(f"{server.url}/first", f"{server.url}/second")
    message = refused(file, folder)
    found = "a damaged file" if (folder / NAME).exists() else "no file"
    assert f"{NAME} (0.3 MB) is needed, found {found}" in message
    assert f"{file.urls[0]}: HTTP 404 Not Found\n" in message
    assert f"{file.urls[1]}: what it sent has the wrong checksum" in message
    assert f"get it from {file.urls[0]} and put it at {folder / NAME}" in message
    assert f"SHA-256 {SHA256}" in message
