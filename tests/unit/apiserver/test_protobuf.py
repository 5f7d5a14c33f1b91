from __future__ import annotations

import base64
from typing import Any

import pytest

from pilotfish.api.decode import fields_of
from pilotfish.api.errors import BadRequest, UnsupportedMediaType
from pilotfish.api.kinds import SCHEME
from pilotfish.api.meta import Struct
from pilotfish.apiserver.protobuf import decode_protobuf
from pilotfish.apiserver.protobuf_fields import MESSAGES


def field(number: int, content: bytes | str | int) -> bytes:
    if isinstance(content, int):
        return bytes([number << 3]) + varint(content)
    raw = content.encode() if isinstance(content, str) else content
    return bytes([number << 3 | 2]) + varint(len(raw)) + raw


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    parts = []
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def body(api_version: str, kind: str, message: bytes) -> bytes:
    return b"k8s\0" + field(1, field(1, api_version) + field(2, kind)) + field(2, message)


def entry(key: str, value: bytes | str) -> bytes:
    return field(1, key) + field(2, value)


def test_texts_maps_bytes_and_times() -> None:
    metadata = field(1, "s") + field(3, "") + field(8, b"") + field(11, entry("app", "x"))
    secret = field(1, metadata) + field(2, entry("a", b"b")) + field(3, "Opaque")
    assert decode_protobuf(body("v1", "Secret", secret)) == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s", "labels": {"app": "x"}},
        "data": {"a": base64.b64encode(b"b").decode()},
        "type": "Opaque",
    }
    moment = field(1, field(8, field(1, 86400)))
    assert decode_protobuf(body("v1", "Secret", moment))["metadata"] == {"creationTimestamp": "1970-01-02T00:00:00Z"}


def test_numbers_zeros_and_choices() -> None:
    port = field(1, "http") + field(3, 80) + field(4, field(1, 1) + field(2, 0) + field(3, "web")) + field(5, 0)
    document = decode_protobuf(body("v1", "Service", field(2, field(1, port))))
    assert document["spec"]["ports"] == [{"name": "http", "port": 80, "targetPort": "web"}]
    deployment = decode_protobuf(body("apps/v1", "Deployment", field(2, field(1, 0) + field(5, 0))))
    assert deployment["spec"] == {"replicas": 0}, "a zero counts where absence means something else"


def test_embedded_messages_stand_in_their_parent() -> None:
    volume = field(1, "v") + field(2, field(2, b""))
    spec = field(1, volume)
    assert decode_protobuf(body("v1", "Pod", field(2, spec)))["spec"]["volumes"] == [{"name": "v", "emptyDir": {}}]


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (b"{}", BadRequest),
        (b"k8s\0\xff", BadRequest),
        (body("v1", "Pod", b"\x0a\x7f"), BadRequest),
        (body("example.com/v1", "Other", b""), UnsupportedMediaType),
    ],
)
def test_what_cannot_be_read_is_refused(sent: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        decode_protobuf(sent)


def names_of(message: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for known in MESSAGES[message].values():
        found |= {known.name: known.type} if known.name else names_of(known.type)
    return found


def test_our_types_have_every_field_of_kubernetes() -> None:
    """So that strict field validation refuses nothing that Kubernetes takes."""
    seen: set[tuple[Any, str]] = set()
    missing: list[str] = []

    def compare(cls: type[Struct], message: str) -> None:
        if message not in MESSAGES or (cls, message) in seen:
            return
        seen.add((cls, message))
        ours, theirs = fields_of(cls), names_of(message)
        missing.extend(f"{cls.__name__}.{name}" for name in theirs.keys() - ours.keys())
        for name, type in theirs.items():
            nested = ours[name][1] if name in ours else None
            if nested is not None:
                compare(nested, type)

    for kind in SCHEME:
        compare(kind.type, kind.kind)
    assert missing == []
