"""Fields of Envoy 1.40 that xds-protos does not know yet, added to a message as it travels: by their numbers.

Protobuf keeps fields that it does not know when it serialises a message. To go when xds-protos has them.
"""

from __future__ import annotations

from typing import TypeVar

from google.protobuf.message import Message

M = TypeVar("M", bound=Message)

STATS_SCOPE = 6  # extensions.access_loggers.stats.v3.Config.stats_scope, a message that may be empty
OTEL_GRPC_SERVICE, OTEL_LOG_NAME = 9, 10  # extensions.access_loggers.open_telemetry.v3.OpenTelemetryAccessLogConfig
NO_CONTEXT_PROPAGATION = 13  # extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.Tracing


def with_message(holder: M, number: int, value: Message | None = None) -> M:
    """The holder with a message in a field; None: an empty one."""
    return _with_bytes(holder, number, value.SerializeToString(deterministic=True) if value is not None else b"")


def with_text(holder: M, number: int, value: str) -> M:
    return _with_bytes(holder, number, value.encode())


def with_true(holder: M, number: int) -> M:
    holder.MergeFromString(_varint(number << 3) + b"\x01")
    return holder


def _with_bytes(holder: M, number: int, value: bytes) -> M:
    holder.MergeFromString(_varint(number << 3 | 2) + _varint(len(value)) + value)
    return holder


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*found, number))
