"""The OpenAPI v2 document that older kubectl asks for before it writes, in JSON and in gnostic's protobuf form.

It names no types: kubectl then skips its own checks and leaves them to the server.
"""

from __future__ import annotations

from pilotfish.api.meta import Document

PROTOBUF = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
"""The protobuf media type that kubectl asks for (gnostic openapi.v2.Document)."""
PROTOBUF_ANSWER = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
"""What the answer is called, as in Kubernetes: clients refuse the @ in a media type that they parse."""

_TITLE, _VERSION = "Pilotfish", "v1"


def document() -> Document:
    """The document as JSON."""
    return {"swagger": "2.0", "info": {"title": _TITLE, "version": _VERSION}, "paths": {}, "definitions": {}}


def protobuf() -> bytes:
    """The same as protobuf: Document{swagger = 1, info = 2 {title = 1, version = 2}, paths = 8, definitions = 9}."""
    info = _text(1, _TITLE) + _text(2, _VERSION)
    return _text(1, "2.0") + _field(2, info) + _field(8, b"") + _field(9, b"")


def _text(number: int, text: str) -> bytes:
    return _field(number, text.encode())


def _field(number: int, content: bytes) -> bytes:
    """A length-delimited field; all of ours are short enough for lengths of one byte."""
    return bytes((number << 3 | 2, len(content))) + content
