"""The audit of what we are made of, by an index that knows of a weakness, one that knows of none, and none at all."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
WEAK = {
    "id": "PYSEC-1",
    "summary": "it is weak",
    "modified": "2026-01-01T00:00:00Z",
    "affected": [
        {
            "package": {"name": "httptools", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99.0"}]}],
        }
    ],
}


@contextmanager
def index(weak: dict[str, dict[str, Any]]) -> Iterator[str]:
    """The URL of an OSV service that knows of these packages."""

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            known = weak.get(asked["package"]["name"])
            body = json.dumps({"vulns": [known]} if known else {}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1/query"
        server.shutdown()


def audited(url: str, *options: str) -> tuple[int, str]:
    command = [sys.executable, "audit.py", "requirements.lock", f"--osv-url={url}", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_a_known_weakness_fails_the_check_and_is_named() -> None:
    with index({"httptools": WEAK}) as url:
        status, said = audited(url)
    assert status == 1
    assert "PYSEC-1: httptools" in said
    assert "mended by 99.0" in said


def test_what_is_not_known_to_be_weak_passes() -> None:
    with index({}) as url:
        status, said = audited(url)
    assert (status, said.splitlines()[0].endswith("packages, no known weaknesses")) == (0, True)


def test_an_index_that_is_away_is_said_and_fails_nothing() -> None:
    status, said = audited("http://127.0.0.1:1/v1/query")
    assert status == 0
    assert "requirements.lock: NOT AUDITED" in said
    assert audited("http://127.0.0.1:1/v1/query", "--strict")[0] == 1
