"""TLS that a proxy begins, and PROXY headers: what goes before the first byte to an endpoint.

Istio: constructUpstreamTLS, setAutoSniAndAutoSanValidation, applyUpstreamProxyProtocol.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import base_pb2, protocol_pb2, proxy_protocol_pb2
from envoy.extensions.transport_sockets.proxy_protocol.v3 import upstream_proxy_protocol_pb2
from envoy.extensions.transport_sockets.raw_buffer.v3 import raw_buffer_pb2
from envoy.extensions.transport_sockets.tls.v3 import common_pb2, tls_pb2

from pilotfish.api.networking.tls import ClientTLSSettings
from pilotfish.mesh.records import Record
from pilotfish.xds.build import common
from pilotfish.xds.build.endpoints import TAKES_MUTUAL_TLS
from pilotfish.xds.build.mutual_tls import MutualTls, client_context
from pilotfish.xds.build.tls import SOCKET, subject_matchers

SYSTEM_ROOTS = "/etc/ssl/certs/ca-certificates.crt"
"""Whom a proxy believes when nobody says whom: those whom its machine does."""

_PROXY = "envoy.transport_sockets.upstream_proxy_protocol"
_RAW = "envoy.transport_sockets.raw_buffer"


class Origination(Record):
    """TLS that a cluster begins with each connection. `subject_names` are those of which a server must show one;
    `cipher_suites` and `curves` are what the mesh says of them.
    """

    settings: ClientTLSSettings
    subject_names: tuple[str, ...] = ()
    cipher_suites: tuple[str, ...] = ()
    curves: tuple[str, ...] = ()

    @property
    def verifies(self) -> bool:
        """Whether the server must show a certificate that is believed."""
        return not self.settings.insecure_skip_verify

    @property
    def http(self) -> protocol_pb2.UpstreamHttpProtocolOptions:
        """What is taken from requests: the server name where none is written down, and with it what the certificate
        must say where nothing else is.
        """
        by_request = not self.settings.sni
        checked = by_request and not self.settings.subject_alt_names and self.verifies
        return protocol_pb2.UpstreamHttpProtocolOptions(auto_sni=by_request, auto_san_validation=checked)


def connect(
    cluster: cluster_pb2.Cluster, tls: Origination | MutualTls | None, proxy_header: str = "", *, http2: bool = False
) -> None:
    """Have the cluster begin connections with a PROXY header of this version ("V1", "V2" or "" for none), then TLS."""
    match tls:
        case MutualTls():
            secured = _tls(client_context(tls))
        case Origination():
            secured = _tls(_context(tls, http2=http2))
        case None:
            if proxy_header:
                cluster.transport_socket.CopyFrom(_headed(_plain(), proxy_header))
            return
    if isinstance(tls, MutualTls) and not tls.everywhere:
        _add_match(cluster, "tlsMode-istio", TAKES_MUTUAL_TLS, _headed(secured, proxy_header))
        _add_match(cluster, "tlsMode-disabled", {}, _headed(_plain(), proxy_header))
    else:
        cluster.transport_socket.CopyFrom(_headed(secured, proxy_header))


def _add_match(
    cluster: cluster_pb2.Cluster, name: str, where: Mapping[str, str], socket: base_pb2.TransportSocket
) -> None:
    """Have a socket used with endpoints whose metadata says this."""
    match = cluster.transport_socket_matches.add(name=name, transport_socket=socket)
    match.match.SetInParent()
    match.match.update(where)


def _tls(context: tls_pb2.UpstreamTlsContext) -> base_pb2.TransportSocket:
    return base_pb2.TransportSocket(name=SOCKET, typed_config=common.any_of(context))


@functools.cache
def _plain() -> base_pb2.TransportSocket:
    return base_pb2.TransportSocket(name=_RAW, typed_config=common.any_of(raw_buffer_pb2.RawBuffer()))


def _headed(socket: base_pb2.TransportSocket, version: str) -> base_pb2.TransportSocket:
    """A socket with a PROXY header in front of all that it sends, of a version if any."""
    if not version:
        return socket
    number = proxy_protocol_pb2.ProxyProtocolConfig.Version.Value(version)
    header = upstream_proxy_protocol_pb2.ProxyProtocolUpstreamTransport(
        config=proxy_protocol_pb2.ProxyProtocolConfig(version=number), transport_socket=socket
    )
    return base_pb2.TransportSocket(name=_PROXY, typed_config=common.any_of(header))


def _context(origination: Origination, *, http2: bool) -> tls_pb2.UpstreamTlsContext:
    settings = origination.settings
    context = tls_pb2.UpstreamTlsContext(sni=settings.sni)
    shared = context.common_tls_context
    shared.tls_params.tls_minimum_protocol_version = common_pb2.TlsParameters.TLSv1_2
    shared.tls_params.tls_maximum_protocol_version = common_pb2.TlsParameters.TLSv1_3
    shared.tls_params.cipher_suites.extend(origination.cipher_suites)
    shared.tls_params.ecdh_curves.extend(origination.curves)
    if http2:
        shared.alpn_protocols.append("h2")
    if settings.mode == "MUTUAL":
        shared.tls_certificates.add(
            certificate_chain=base_pb2.DataSource(filename=settings.client_certificate),
            private_key=base_pb2.DataSource(filename=settings.private_key),
        )
    if origination.verifies:
        validation = shared.validation_context
        named = settings.ca_certificates
        validation.trusted_ca.filename = named if named not in ("", "system") else SYSTEM_ROOTS  # as Istio's agent does
        validation.match_typed_subject_alt_names.extend(subject_matchers(origination.subject_names))
        if settings.ca_crl:
            validation.crl.filename = settings.ca_crl
    return context
