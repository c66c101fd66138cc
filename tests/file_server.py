"""A file server on this machine that can misbehave, and fixtures around it; no internet."""

import hashlib
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ssd.known import KnownFile

DATA = bytes(i * i % 251 for i in range(700_001))  # three pieces of a download, the last one short
SHA256 = hashlib.sha256(DATA).hexdigest()
NOBODY = "http://127.0.0.1:9"  # nothing listens on the port of the discard service


class Server(ThreadingHTTPServer):
    """Serves DATA under any name; what tests set here makes it misbehave."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.data = DATA
        self.tag = '"one"'
        self.ranges = True
        self.headers = {}  # in place of its own; None: left out
        self.cuts = []  # bytes after which each of the next answers ends
        self.statuses = []  # of the next answers
        self.redirects = []  # where the next answers lead
        self.hold = None  # an event: every answer stops after 300,000 bytes until it is set
        self.asked = []  # the Range header of each request

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/folder/weights.bin"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no news."""


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        site, wanted = self.server, self.headers.get("Range")
        site.asked.append(wanted)
        if site.redirects:
            return self.answer(302, {"Location": site.redirects.pop(0), "Content-Length": "0"})
        if site.statuses:
            return self.send_error(site.statuses.pop(0))
        start = 0
        if wanted and site.ranges and self.headers.get("If-Range") == site.tag:
            start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])
            if start >= len(site.data):
                return self.send_error(416)
        body = site.data[start:]
        headers = {"Content-Length": str(len(body)), "ETag": site.tag}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(site.data) - 1}/{len(site.data)}"
        self.answer(206 if start else 200, headers | site.headers)
        if site.cuts:
            body = body[: site.cuts.pop(0)]
        self.wfile.write(body[:300_000])
        if site.hold:
            site.hold.wait(5)
        self.wfile.write(body[300_000:])

    def answer(self, status: int, headers: dict) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if value:
                self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """The cache folder of a test, not there yet."""
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("SSD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def server(cache):
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def file(server) -> KnownFile:
    """DATA as a known file on the server."""
    return KnownFile("mine", "weights.bin", server.address, sha256=SHA256)


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())
