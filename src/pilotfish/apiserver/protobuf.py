"""Kubernetes' protobuf bodies: what kubectl since 1.32 sends when it creates objects from its own types.

Answers are always JSON, which every client accepts beside it.
"""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from pilotfish.api.errors import BadRequest, UnsupportedMediaType
from pilotfish.api.meta import Document, micro_timestamp, timestamp
from pilotfish.apiserver.protobuf_fields import MESSAGES, Field

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\0"


def decode_protobuf(body: bytes) -> Document:
    """The document of a body (runtime.Unknown around an object).

    Raises BadRequest when it cannot be read, UnsupportedMediaType for kinds that have no protobuf form.
    """
    if not body.startswith(_MAGIC):
        raise BadRequest("the body is not Kubernetes' protobuf: it does not begin with k8s")
    try:
        envelope = dict(_wire(body[len(_MAGIC) :]))
        identity = dict(_wire(envelope.get(1, b"")))
        api_version, kind = identity.get(1, b"").decode(), identity.get(2, b"").decode()
        if kind not in MESSAGES:
            raise UnsupportedMediaType(
                f"{kind} of {api_version} has no protobuf form here: send it as application/json"
            )
        return {"apiVersion": api_version, "kind": kind, **_message(kind, envelope.get(2, b""))}
    except (IndexError, ValueError, AttributeError, TypeError) as error:
        raise BadRequest(f"the body is not Kubernetes' protobuf: {error}") from error


def _varint(body: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = body[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _wire(body: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a message by number: whole numbers and byte strings."""
    at = 0
    while at < len(body):
        tag, at = _varint(body, at)
        match tag & 7:
            case 0:  # varint
                value, at = _varint(body, at)
                yield tag >> 3, value
            case 2:  # length-delimited
                length, at = _varint(body, at)
                if at + length > len(body):
                    raise ValueError("a field is longer than its message")
                yield tag >> 3, body[at : at + length]
                at += length
            case 1:  # fixed64
                at += 8
            case 5:  # fixed32
                at += 4
            case other:
                raise ValueError(f"wire type {other} is not used")


def _message(name: str, body: bytes) -> Document:
    fields, document = MESSAGES[name], Document()
    for number, raw in _wire(body):
        if (field := fields.get(number)) is None:
            continue
        if field.shape == "map":
            entry = dict(_wire(raw))
            key, value = entry.get(1, b"").decode(), entry.get(2, b"")
            document.setdefault(field.name, {})[key] = _value(field.type, value)
        elif field.shape == "list":
            document.setdefault(field.name, []).append(_value(field.type, raw))
        else:
            _put(document, field, _value(field.type, raw))
    return document


def _put(document: Document, field: Field, value: Any) -> None:
    """Set one field. Go writes zeros of fields that are no pointers, though nobody set them: they mean absent."""
    if not field.name:
        document.update(value)
    elif value is not None and (field.optional or value not in ("", 0, False, {})):
        document[field.name] = value


def _value(type: str, raw: Any) -> Any:
    return _SCALARS[type](raw) if type in _SCALARS else _message(type, raw)


def _int(raw: int) -> int:
    return raw - (1 << 64) if raw >= 1 << 63 else raw


def _moment(raw: bytes, write: Callable[[dt.datetime], str]) -> str | None:
    """Seconds and nanoseconds; nothing at all is the zero time, which means absent."""
    fields = dict(_wire(raw))
    if not fields:
        return None
    micros = fields.get(2, 0) // 1000
    return write(dt.datetime.fromtimestamp(_int(fields.get(1, 0)), dt.UTC).replace(microsecond=micros))


def _int_or_string(raw: bytes) -> int | str:
    fields = dict(_wire(raw))
    text: bytes = fields.get(3, b"")
    return text.decode() if fields.get(1) else _int(fields.get(2, 0))


def _json(raw: bytes) -> Any:
    content = dict(_wire(raw)).get(1)
    return msgspec.json.decode(content) if content else None


_SCALARS: dict[str, Callable[[Any], Any]] = {
    "string": lambda raw: raw.decode(),
    "bytes": lambda raw: base64.b64encode(raw).decode(),
    "int": _int,
    "bool": bool,
    "Time": lambda raw: _moment(raw, timestamp),
    "MicroTime": lambda raw: _moment(raw, micro_timestamp),
    "Quantity": lambda raw: dict(_wire(raw)).get(1, b"").decode(),
    "IntOrString": _int_or_string,
    "FieldsV1": _json,
    "RawExtension": _json,
}
