"""How a caller tells the server to misbehave: JSON in the header (gRPC: metadata, TCP: line) `x-echo`."""

from __future__ import annotations

import collections
import json
from dataclasses import dataclass, field
from typing import Any

import msgspec

HEADER = "x-echo"


class Instructions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a caller asked for; the defaults are those of a server that behaves."""

    status: int = 200
    grpc_status: int = 0
    delay: float = 0.0
    """Seconds before the answer."""
    reset: bool = False
    """Break the connection (HTTP/2: the stream) off without an answer."""
    fail: int = 0
    """Misbehave for the first so many attempts of a request alone, as x-envoy-attempt-count counts them; 0: for all."""
    only: str = ""
    """Misbehave on the server of this version or name alone."""
    headers: dict[str, str] = {}
    trailers: dict[str, str] = {}
    body: str | None = None
    """Answer this in place of the report."""
    close: bool = False
    """Close the connection after the answer."""
    recall: bool = False
    """Answer with a list of the reports of earlier HTTP requests for this path that did not ask for it."""


BEHAVE = Instructions()


@dataclass
class Server:
    """Who this server is, and what it remembers of requests."""

    name: str
    version: str
    lines: collections.Counter[str] = field(default_factory=collections.Counter)
    reports: collections.deque[dict[str, Any]] = field(default_factory=lambda: collections.deque(maxlen=1000))

    def instructed(self, text: str | None, attempt: int | None = None) -> Instructions:
        """What to do with a request. Where no proxy counts attempts (TCP), equal instructions are attempts of one."""
        if not text:
            return BEHAVE
        wanted = msgspec.json.decode(text, type=Instructions)
        self.lines[text] += 1
        applies = wanted.only in ("", self.version, self.name)
        if applies and (not wanted.fail or (attempt or self.lines[text]) <= wanted.fail):
            return wanted
        return msgspec.structs.replace(BEHAVE, headers=wanted.headers, trailers=wanted.trailers, body=wanted.body)

    def report(self, protocol: str, connection: dict[str, Any], **received: Any) -> dict[str, Any]:
        """What every protocol reports alike, and what one has to say besides."""
        return {"name": self.name, "version": self.version, "protocol": protocol, **connection, **received}

    def answer(self, wanted: Instructions, report: dict[str, Any]) -> bytes:
        """The body of an HTTP answer, and what is remembered of the request."""
        if wanted.recall:
            return json.dumps([known for known in self.reports if known["path"] == report["path"]]).encode()
        self.reports.append(report)
        return (json.dumps(report) if wanted.body is None else wanted.body).encode()


def received_request(
    method: str, target: str, authority: str, headers: list[tuple[str, str]], body: bytes
) -> dict[str, Any]:
    """The part of a report that is of an HTTP request; names of headers are in lower case, repeated ones joined."""
    path, _, query = target.partition("?")
    joined: dict[str, str] = {}
    for name, value in headers:
        joined[name.lower()] = f"{joined[name.lower()]},{value}" if name.lower() in joined else value
    return {
        "method": method,
        "path": path,
        "query": query,
        "authority": authority,
        "headers": joined,
        "body": body.decode(errors="replace"),
        "attempt": int(joined.get("x-envoy-attempt-count", 1)),
    }
