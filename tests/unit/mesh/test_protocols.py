"""Istio's protocol selection, case by case."""

from __future__ import annotations

import pytest

from pilotfish.mesh.protocols import Protocol, parse, select


@pytest.mark.parametrize(
    ("port", "name", "transport", "app_protocol", "expected"),
    [
        (80, "http", "TCP", "", Protocol.HTTP),
        (80, "HTTP-web", "TCP", "", Protocol.HTTP),
        (80, "http2-web", "TCP", "", Protocol.HTTP2),
        (80, "grpc", "TCP", "", Protocol.GRPC),
        (80, "grpc-web", "TCP", "", Protocol.GRPC_WEB),
        (80, "GRPC-Web-a", "TCP", "", Protocol.GRPC_WEB),
        (80, "grpcweb", "TCP", "", Protocol.AUTO),
        (443, "https-a", "TCP", "", Protocol.HTTPS),
        (443, "tls", "TCP", "", Protocol.TLS),
        (1, "mongo-a", "TCP", "", Protocol.MONGO),
        (1, "web", "TCP", "", Protocol.AUTO),
        (1, "", "TCP", "", Protocol.AUTO),
        (1, "http", "UDP", "http", Protocol.UDP),
        (3306, "", "TCP", "", Protocol.TCP),
        (3306, "http", "TCP", "", Protocol.HTTP),
        (1, "tcp", "TCP", "http", Protocol.HTTP),
        (1, "http", "TCP", "unknown", Protocol.AUTO),
        (1, "http", "TCP", "kubernetes.io/h2c", Protocol.HTTP2),
        (1, "http", "TCP", "kubernetes.io/ws", Protocol.HTTP),
        (1, "http", "TCP", "kubernetes.io/wss", Protocol.HTTPS),
    ],
)
def test_select(port: int, name: str, transport: str, app_protocol: str, expected: Protocol) -> None:
    assert select(port, name, transport, app_protocol) is expected


def test_parse_ignores_case() -> None:
    assert parse("gRPC") is Protocol.GRPC
    assert parse("") is Protocol.AUTO
    assert parse("quic") is Protocol.AUTO
