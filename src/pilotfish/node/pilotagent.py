"""`pilot-agent` in the container of a proxy, for what Istio's users call it for: `request` and `wait`.

    kubectl exec deploy/web -c istio-proxy -- pilot-agent request GET stats

The node writes this file's text into the pod (`proxy.write_bootstrap`), where the host's Python runs it: standard
library only. What Istio's agent does beside is the node's work.
"""

from __future__ import annotations

import argparse
import http.client
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

ADMIN_PORT = 15000
PORTS = (15000, 15004, 15020, 15021)
"""Where Istio's agent makes requests."""
READY = "http://localhost:15021/healthz/ready"
REQUEST_SECONDS = 60.0

_ADMIN_SOCKET = Path(__file__).with_name("admin.sock")
"""Envoy's administration, where the pod has the host's network."""


class Failed(Exception):
    """The message is for the user."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 1 for what failed, 2 for a command that is none (argparse exits)."""
    given = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], None] = given.run
    try:
        run(given)
    except Failed as failure:
        sys.stderr.write(f"Error: {failure}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pilot-agent")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    request = commands.add_parser("request", help="Makes an HTTP request to the Envoy admin API")
    request.add_argument("method")
    request.add_argument("path")
    request.add_argument("body", nargs="?", default="")
    request.add_argument("--debug-port", type=int, choices=PORTS, default=ADMIN_PORT)
    request.set_defaults(run=_request)
    wait = commands.add_parser("wait", help="Waits until the Envoy proxy is ready")
    wait.add_argument("--timeoutSeconds", type=int, default=60, dest="timeout")
    wait.add_argument("--requestTimeoutMillis", type=int, default=500, dest="request_timeout")
    wait.add_argument("--periodMillis", type=int, default=500, dest="period")
    wait.add_argument("--url", default=READY)
    wait.set_defaults(run=_wait)
    return parser


def _request(given: argparse.Namespace) -> None:
    """Writes the answer as it is. Raises Failed where there is none, or one that is not successful."""
    connection = http.client.HTTPConnection("localhost", given.debug_port, timeout=REQUEST_SECONDS)
    try:
        if given.debug_port == ADMIN_PORT and _ADMIN_SOCKET.exists():
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.connect(str(_ADMIN_SOCKET))
        connection.request(given.method, f"/{given.path.removeprefix('/')}", given.body.encode())
        answer = connection.getresponse()
        text = answer.read()
    except OSError as error:
        raise Failed(f"failed to make the request: {error}") from None
    finally:
        connection.close()
    sys.stdout.buffer.write(text)
    sys.stdout.flush()
    if not 200 <= answer.status < 300:
        raise Failed(f"received unsuccessful status code {answer.status}")


def _wait(given: argparse.Namespace) -> None:
    """Raises Failed when the time is over."""
    deadline = time.monotonic() + given.timeout
    while (failure := _failure(given.url, given.request_timeout / 1000)) is not None:
        if time.monotonic() + given.period / 1000 > deadline:
            raise Failed(f"timeout waiting for Envoy proxy to become ready. Last error: {failure}")
        time.sleep(given.period / 1000)


def _failure(url: str, timeout: float) -> str | None:
    """Why an address does not answer as it should."""
    try:
        with urllib.request.urlopen(url, timeout=timeout):
            return None
    except urllib.error.HTTPError as error:
        return f"HTTP status code {error.code}"
    except OSError as error:
        return str(error)


if __name__ == "__main__":
    sys.exit(main())
