"""Every protocol through two sidecars: what was sent is what arrives."""

from __future__ import annotations

import re
from typing import Any

import pytest

from traffic.cases import Case, case, grpc, http, http2, tcp, websocket

pytestmark = pytest.mark.root

CASES = [
    case(
        "HTTP/1.1",
        "",
        http(
            "http://$name/some/path?a=1&b=2",
            method="PUT",
            body="the body",
            headers={"x-one": "1"},
            answers={"protocol": "HTTP/1.1", "headers": {"server": "envoy"}},
            arrives={
                "protocol": "HTTP/1.1", "method": "PUT", "path": "/some/path", "query": "a=1&b=2", "authority": "$name",
                "body": "the body",
                "headers": {"x-one": "1", "x-forwarded-proto": "http", "x-request-id": re.compile("^[0-9a-f-]{36}$")},
            },
        ),
    ),
    case("HTTP/1.1 to a port named http2", "", http("http://$name:81/x", arrives={"protocol": "HTTP/2", "path": "/x"})),
    case(
        "HTTP/2",
        "",
        http2(
            "http://$name:81/x?y", method="POST", body="the body", answers={"protocol": "HTTP/2"},
            arrives={"protocol": "HTTP/2", "method": "POST", "body": "the body", "authority": "$name:81", "query": "y"},
        ),
    ),
    case("HTTP/2 to a port named http", "", http2("http://$name/x", arrives={"protocol": "HTTP/1.1", "path": "/x"})),
    case(
        "gRPC, one message", "",
        grpc(
            "http://$name:82", body="a message", headers={"x-one": "1"},
            instruct={"trailers": {"x-two": "2"}},
            answers={"trailers": {"x-two": "2"}},
            arrives={"protocol": "gRPC", "path": "/echo.Echo/Unary", "body": "a message", "headers": {"x-one": "1"}},
        ),
    ),
    case(
        "gRPC, a stream both ways", "",
        grpc(
            "http://$name:82", stream=True, body="one\ntwo\nthree",
            answers={"messages": lambda found: [report["body"] for report in found] == ["one", "two", "three"]},
        ),
    ),
    case(
        "gRPC, a status that is not OK", "",
        grpc("http://$name:82", instruct={"grpc_status": 5}, status=5, answers={"details": "instructed by x-echo"}),
        settle=grpc("http://$name:82"),
    ),
    case("TCP", "", tcp("tcp://$name:83", body="one line", arrives={"protocol": "TCP", "body": "one line"})),
    case(
        "TCP, where the server speaks first", "",
        tcp("tcp://$name:84", listen_first=True, body="x", answers={"greeting": re.compile("^hello from v[123]$")}),
    ),
    case(
        "TLS of the application's own", "",
        http(
            "https://$name/x", tls={"ca": "$pki/ca.pem", "sni": "server.test"},
            arrives={"sni": "server.test", "path": "/x", "certificate": {"CN": None}},
        ),
        http(
            "https://$name/x",
            tls={
                "ca": "$pki/ca.pem", "sni": "a.server.test",
                "certificate": "$pki/client.pem", "key": "$pki/client-key.pem",
            },
            arrives={"sni": "a.server.test", "certificate": {"URI": ["spiffe://test/client"], "CN": ["client"]}},
        ),
    ),
    case(
        "WebSocket", "",
        websocket(
            "ws://$name/chat?room=1", body="one\ntwo",
            answers={"messages": ["one", "two"]}, arrives={"path": "/chat", "query": "room=1", "protocol": "websocket"},
        ),
    ),
    case("a port of no named protocol: HTTP/1.1", "", http("http://$name:85/x", arrives={"protocol": "HTTP/1.1"})),
    case("a port of no named protocol: HTTP/2", "", http2("http://$name:85/x", arrives={"protocol": "HTTP/2"})),
    case("a port of no named protocol: TCP", "", tcp("tcp://$name:85", arrives={"protocol": "TCP", "body": "ping"})),
    case(
        "three endpoints share the requests", "",
        http("http://$name/", count=300, shares={"v1": 1 / 3, "v2": 1 / 3, "v3": 1 / 3}),
    ),
]  # fmt: skip


@pytest.mark.parametrize("client", ["a", "eager"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_protocols(case: Case, client: str, site: Any) -> None:
    """On demand, and with everything."""
    site.check(case.by(client))
