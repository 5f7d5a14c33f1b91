"""The mesh's mutual TLS on both sides of a connection: sockets, and how a server tells it from anything else.

Clients offer protocols (ALPN) of which nobody else knows, and servers match on them. What is between the two is told
likewise, since no server can look into TLS before it has chosen a filter chain: bytes, or HTTP.

Istio: buildUpstreamClusterTLSContext, BuildInboundTLS, getFilterChainMatchOptions. Istio's "istio-peer-exchange" is
matched and never offered or chosen: it announces bytes that only Istio's own Envoy reads and writes.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

from envoy.config.core.v3 import base_pb2, protocol_pb2
from envoy.extensions.transport_sockets.tls.v3 import common_pb2, tls_pb2

from pilotfish.mesh.mutual_tls import MtlsMode, MutualTlsSettings
from pilotfish.mesh.protocols import Protocol
from pilotfish.mesh.records import Record
from pilotfish.mesh.servers import ClientCheck, Termination
from pilotfish.xds.build.tls import HTTP_ALPN, mesh_roots, server_socket, subject_matchers, workload_certificate

PLAINTEXT_HTTP = ("http/1.1", "h2c")
"""What the HTTP inspector says of a connection that begins like HTTP."""

BYTES_ALPN = ("istio",)
HTTP1_ALPN = ("istio-http/1.1", "istio", "http/1.1")
HTTP2_ALPN = ("istio-h2", "istio", "h2")
ANY_HTTP_ALPN = ("istio-http/1.1", "istio-h2", "istio")
"""What clients offer. The version of HTTP that comes as it came is told by its first bytes, for want of a choice."""

REQUEST_PROTOCOLS = "request_protocols"
"""The key below which a cluster's metadata says what connections for requests offer."""

_MESH_BYTES = ("istio-peer-exchange", "istio")
_MESH_HTTP = ("istio-http/1.0", "istio-http/1.1", "istio-h2")
MESH_ALPN = ("istio", "istio-peer-exchange", *_MESH_HTTP)
"""By which servers know mutual TLS of the mesh, whatever is inside."""

_CIPHER_SUITES = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-GCM-SHA256",
)
"""What servers take up to TLS 1.2 (Istio: SupportedCiphers)."""


class MutualTls(Record):
    """Mutual TLS that a cluster begins: with every endpoint, or with those that take it.

    `subject_names` are those of which a server's certificate must bear one, if there are any. `protocols` is what
    connections offer, `request_protocols` what those for requests offer instead. Without a `server_name` the request's
    is taken.
    """

    server_name: str
    subject_names: tuple[str, ...] = ()
    protocols: tuple[str, ...] = BYTES_ALPN
    request_protocols: tuple[str, ...] = ()
    everywhere: bool = False

    @property
    def http(self) -> protocol_pb2.UpstreamHttpProtocolOptions:
        """What is taken from requests."""
        by_request = not self.server_name
        checked = by_request and not self.subject_names
        return protocol_pb2.UpstreamHttpProtocolOptions(auto_sni=by_request, auto_san_validation=checked)


def client_context(tls: MutualTls) -> tls_pb2.UpstreamTlsContext:
    """How a cluster begins it."""
    context = tls_pb2.UpstreamTlsContext()
    context.CopyFrom(_client_of_mesh(tls.protocols))
    context.sni = tls.server_name
    validation = context.common_tls_context.combined_validation_context.default_validation_context
    validation.match_typed_subject_alt_names.extend(subject_matchers(tls.subject_names))
    return context


@functools.lru_cache(maxsize=64)
def _client_of_mesh(protocols: tuple[str, ...]) -> tls_pb2.UpstreamTlsContext:
    """What all clusters have that offer the same: the proxy's certificate and the mesh's roots are the same for all."""
    context = tls_pb2.UpstreamTlsContext()
    shared = context.common_tls_context
    shared.tls_params.tls_minimum_protocol_version = common_pb2.TlsParameters.TLSv1_2
    shared.tls_params.tls_maximum_protocol_version = common_pb2.TlsParameters.TLSv1_3
    shared.alpn_protocols.extend(protocols)
    shared.tls_certificate_sds_secret_configs.append(workload_certificate())
    validation = shared.combined_validation_context
    validation.default_validation_context.SetInParent()
    validation.validation_context_sds_secret_config.CopyFrom(mesh_roots())
    return context


@functools.lru_cache(maxsize=64)
def server_of_mesh(settings: MutualTlsSettings) -> base_pb2.TransportSocket:
    """How a sidecar ends it: clients show a certificate of one of the trust domains."""
    termination = Termination(
        workload=True,
        client=ClientCheck.REQUIRED,
        trust_domains=settings.trust_domains,
        min_version=settings.min_version,
        max_version="TLSv1_3",
        cipher_suites=settings.cipher_suites or _CIPHER_SUITES,
    )
    return server_socket(termination, HTTP_ALPN)


class Way(NamedTuple):
    """One of the ways in which clients may come to a port: plainly, or with TLS, of the mesh or another; with one of
    these protocols, if there are any. What is inside is HTTP, or bytes.
    """

    http: bool
    tls: bool = False
    mutual: bool = False
    protocols: tuple[str, ...] = ()

    @property
    def sniffed(self) -> bool:
        """Whether it is told by what plain bytes look like."""
        return not self.tls and bool(self.protocols)


_PLAIN_HTTP, _PLAIN_BYTES = Way(http=True), Way(http=False)
_SNIFFED_HTTP = Way(http=True, protocols=PLAINTEXT_HTTP)
_PASSED_TLS = Way(http=False, tls=True)
_MUTUAL_HTTP, _MUTUAL_BYTES = Way(http=True, tls=True, mutual=True), Way(http=False, tls=True, mutual=True)


def ways(mode: MtlsMode, protocol: Protocol) -> tuple[Way, ...]:
    """All ways into a port that speaks a protocol. TLS of the workload's own passes, but not to a port that is said to
    speak plain HTTP.
    """
    auto = protocol is Protocol.AUTO
    plain = (_SNIFFED_HTTP, _PLAIN_BYTES) if auto else (_PLAIN_HTTP,) if protocol.is_http else (_PLAIN_BYTES,)
    if mode is MtlsMode.DISABLE:
        return plain
    if mode is MtlsMode.STRICT:
        if auto:
            return _MUTUAL_HTTP._replace(protocols=_MESH_HTTP), _MUTUAL_BYTES
        return (_MUTUAL_HTTP if protocol.is_http else _MUTUAL_BYTES,)
    if auto:
        mutual = _MUTUAL_HTTP._replace(protocols=_MESH_HTTP), _MUTUAL_BYTES._replace(protocols=_MESH_BYTES)
        return *mutual, *plain, _PASSED_TLS
    mutual_way = _MUTUAL_HTTP if protocol.is_http else _MUTUAL_BYTES
    passed = () if protocol.is_http else (_PASSED_TLS,)
    return mutual_way._replace(protocols=MESH_ALPN), *plain, *passed
