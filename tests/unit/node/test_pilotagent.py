"""What `pilot-agent` says in a proxy's container."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pilotfish.node import pilotagent


class _Admin(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        text = f"{self.command} {self.path} {self.rfile.read(length).decode()}".strip().encode()
        self.send_response(404 if "missing" in self.path else 200)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def admin(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The port of something that answers as Envoy's administration."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Admin) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(pilotagent, "ADMIN_PORT", server.server_port)
        monkeypatch.setattr(pilotagent, "PORTS", (server.server_port,))
        yield server.server_port
        server.shutdown()


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["GET", "stats"], "GET /stats"),
        (["GET", "/stats?filter=x"], "GET /stats?filter=x"),
        (["POST", "logging", "level=debug"], "POST /logging level=debug"),
    ],
)
def test_a_request(admin: int, capfd: pytest.CaptureFixture[str], arguments: list[str], answer: str) -> None:
    assert pilotagent.main(["request", *arguments]) == 0
    assert capfd.readouterr() == (answer, ""), "nothing but the answer"


def test_an_answer_that_is_no_success(admin: int, capfd: pytest.CaptureFixture[str]) -> None:
    assert pilotagent.main(["request", "GET", "missing"]) == 1
    assert capfd.readouterr() == ("GET /missing", "Error: received unsuccessful status code 404\n")


def test_nobody_answers(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setattr(pilotagent, "ADMIN_PORT", taken.getsockname()[1])
        assert pilotagent.main(["request", "GET", "stats"]) == 1
    assert "failed to make the request" in capfd.readouterr().err


def test_waiting(admin: int, capfd: pytest.CaptureFixture[str]) -> None:
    quick = ["--periodMillis", "10", "--timeoutSeconds", "0"]
    assert pilotagent.main(["wait", "--url", f"http://127.0.0.1:{admin}/healthz/ready"]) == 0
    assert pilotagent.main(["wait", "--url", f"http://127.0.0.1:{admin}/missing", *quick]) == 1
    assert capfd.readouterr().err.endswith("Last error: HTTP status code 404\n")


def test_it_runs_by_itself(tmp_path: Path) -> None:
    """Without our packages, as the host's Python runs it in a pod."""
    alone = tmp_path / "pilot-agent"
    alone.write_text(Path(pilotagent.__file__).read_text())
    done = subprocess.run([sys.executable, "-I", "-S", alone, "wait", "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "--timeoutSeconds" in done.stdout, done.stderr
