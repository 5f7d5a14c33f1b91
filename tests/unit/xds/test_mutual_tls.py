"""The ways into a port, for what a server may take of its clients, and the listener that comes of them."""

from __future__ import annotations

import itertools

import pytest

from pilotfish.mesh.mutual_tls import MtlsMode
from pilotfish.mesh.protocols import Protocol
from pilotfish.xds.build.inbound import InboundPort, VirtualInboundSpec, virtual_inbound
from pilotfish.xds.build.mutual_tls import MESH_ALPN, PLAINTEXT_HTTP, Way, ways
from pilotfish.xds.settings import ProxySettings

HTTP_OF_MESH = ("istio-http/1.0", "istio-http/1.1", "istio-h2")


@pytest.mark.parametrize(
    ("mode", "protocol", "expected"),
    [
        (MtlsMode.STRICT, Protocol.GRPC, [Way(http=True, tls=True, mutual=True)]),
        (MtlsMode.STRICT, Protocol.TCP, [Way(http=False, tls=True, mutual=True)]),
        (
            MtlsMode.STRICT,
            Protocol.AUTO,
            [Way(True, tls=True, mutual=True, protocols=HTTP_OF_MESH), Way(False, tls=True, mutual=True)],
        ),
        (MtlsMode.DISABLE, Protocol.HTTP, [Way(http=True)]),
        (MtlsMode.DISABLE, Protocol.TLS, [Way(http=False)]),
        (MtlsMode.DISABLE, Protocol.AUTO, [Way(http=True, protocols=PLAINTEXT_HTTP), Way(http=False)]),
        (
            MtlsMode.PERMISSIVE,
            Protocol.HTTP,
            [Way(http=True, tls=True, mutual=True, protocols=MESH_ALPN), Way(http=True)],
        ),
    ],
)
def test_ways(mode: MtlsMode, protocol: Protocol, expected: list[Way]) -> None:
    assert list(ways(mode, protocol)) == expected


@pytest.mark.parametrize(("mode", "protocol"), list(itertools.product(MtlsMode, Protocol)))
def test_no_two_ways_into_a_port_are_told_by_the_same(mode: MtlsMode, protocol: Protocol) -> None:
    found = [(way.tls, way.protocols) for way in ways(mode, protocol)]
    assert len(found) == len(set(found))
    assert any(way.mutual for way in ways(mode, protocol)) is (mode is not MtlsMode.DISABLE)


@pytest.mark.parametrize(
    ("mode", "of_port", "tls_inspector", "http_inspector"),
    [
        (MtlsMode.PERMISSIVE, MtlsMode.PERMISSIVE, "but 15006", "but 15006"),
        (MtlsMode.PERMISSIVE, MtlsMode.DISABLE, "but 9000 15006", "but 15006"),
        (MtlsMode.DISABLE, MtlsMode.STRICT, "only 9000", "but 9000 15006"),
        (MtlsMode.STRICT, MtlsMode.DISABLE, "but 9000 15006", "only 9000"),
        (MtlsMode.STRICT, MtlsMode.STRICT, "but 15006", ""),
        (MtlsMode.DISABLE, MtlsMode.DISABLE, "", "but 15006"),
    ],
)
def test_first_bytes_are_looked_at_where_somebody_asks(
    mode: MtlsMode, of_port: MtlsMode, tls_inspector: str, http_inspector: str
) -> None:
    """A port of no named protocol among others."""
    port = InboundPort(9000, 80, Protocol.AUTO, mtls=of_port)
    listener = virtual_inbound(VirtualInboundSpec("0.0.0.0", (port,), ProxySettings(), mode))
    found = {"tls_inspector": "", "http_inspector": ""}
    for inspector in listener.listener_filters[1:]:
        disabled = inspector.filter_disabled
        only = disabled.HasField("not_match")
        rules = (disabled.not_match if only else disabled).or_match.rules or [disabled.not_match if only else disabled]
        ports = " ".join(str(rule.destination_port_range.start) for rule in rules)
        found[inspector.name.rpartition(".")[2]] = f"{'only' if only else 'but'} {ports}"
    assert found == {"tls_inspector": tls_inspector, "http_inspector": http_inspector}
