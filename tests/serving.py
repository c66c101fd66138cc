"""A real `ssd serve` in a process of its own, for tests, and a plain client."""

import http.client
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SSD = Path(sys.executable).with_name("ssd")


@dataclass
class Service:
    """Where it is, and the folder that its temporary files are in."""

    port: int
    folder: Path
    process: subprocess.Popen

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, bytes]:
        """Status and body of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            heads = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, heads)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def json(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, object]:
        status, data = self.ask(method, path, body, **headers)
        return status, json.loads(data)


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[Service]:
    """A service on a free port; its temporary files are in `folder`/tmp."""
    temporary = folder / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    command = [SSD, "serve", "--port", "0", *options]
    own = os.environ | {"TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1"}
    with (
        open(folder / "stderr.txt", "w") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=own) as process,
    ):
        try:
            line = process.stdout.readline()
            found = re.search(r":(\d+)/", line)
            assert found, (folder / "stderr.txt").read_text()
            yield Service(int(found[1]), temporary, process)
        finally:
            process.terminate()
            process.wait(60)
