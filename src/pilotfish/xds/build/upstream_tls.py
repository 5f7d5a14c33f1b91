"""TLS that a proxy begins, and PROXY headers: what goes before the first byte to an endpoint.

Istio: constructUpstreamTLS, setAutoSniAndAutoSanValidation, applyUpstreamProxyProtocol.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import base_pb2, protocol_pb2, proxy_protocol_pb2
from envoy.extensions.transport_sockets.proxy_protocol.v3 import upstream_proxy_protocol_pb2
from envoy.extensions.transport_sockets.raw_buffer.v3 import raw_buffer_pb2
from envoy.extensions.transport_sockets.tls.v3 import common_pb2, tls_pb2

from pilotfish.api.networking.tls import ClientTLSSettings
from pilotfish.mesh.credentials import resource_name, roots_name
from pilotfish.mesh.records import Record
from pilotfish.xds.build import common
from pilotfish.xds.build.endpoints import TAKES_MUTUAL_TLS
from pilotfish.xds.build.mutual_tls import MutualTls, client_context
from pilotfish.xds.build.secrets import CertificateFileSpec, RootFileSpec
from pilotfish.xds.build.tls import SOCKET, over_ads, subject_matchers

_MACHINES = ("", "system")
"""What stands for the roots of the machine in the place of a file (Istio's agent)."""
SYSTEM_ROOTS = "/etc/ssl/certs/ca-certificates.crt"
"""Whom a proxy believes when nobody says whom: those whom its machine does."""

_PROXY = "envoy.transport_sockets.upstream_proxy_protocol"
_RAW = "envoy.transport_sockets.raw_buffer"


class Origination(Record):
    """TLS that a cluster begins with each connection. `subject_names` are those of which a server must show one;
    `cipher_suites` and `curves` are what the mesh says of them. `dynamic`: to servers that requests name, who must show
    these names in any case.
    """

    settings: ClientTLSSettings
    subject_names: tuple[str, ...] = ()
    cipher_suites: tuple[str, ...] = ()
    curves: tuple[str, ...] = ()
    dynamic: bool = False

    @property
    def certificate(self) -> str:
        """The secret with the certificate that is shown, "" for none."""
        settings = self.settings
        if settings.mode != "MUTUAL":
            return ""
        if settings.credential_name:
            return resource_name(settings.credential_name)
        return CertificateFileSpec(settings.client_certificate, settings.private_key).name

    @property
    def roots(self) -> str:
        """The secret with the certificates that are believed, "" for those that the machine believes."""
        settings = self.settings
        if not self.verifies:
            return ""
        if settings.credential_name:
            return roots_name(settings.credential_name)
        return "" if settings.ca_certificates in _MACHINES else RootFileSpec(settings.ca_certificates).name

    @property
    def files(self) -> Iterator[CertificateFileSpec | RootFileSpec]:
        """The secrets of those that are files of the pod."""
        settings = self.settings
        if not settings.credential_name:
            if self.certificate:
                yield CertificateFileSpec(settings.client_certificate, settings.private_key)
            if self.roots:
                yield RootFileSpec(settings.ca_certificates)

    @property
    def resources(self) -> Iterator[str]:
        """The secrets of those that are made from Secrets."""
        if self.settings.credential_name:
            yield from filter(None, (self.certificate, self.roots))

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
        checked = (self.dynamic or (by_request and not self.settings.subject_alt_names)) and self.verifies
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
    if origination.certificate:
        shared.tls_certificate_sds_secret_configs.append(over_ads(origination.certificate))
    if origination.verifies:
        if origination.roots:
            combined = shared.combined_validation_context
            combined.validation_context_sds_secret_config.CopyFrom(over_ads(origination.roots))
            validation = combined.default_validation_context
        else:
            validation = shared.validation_context
            validation.trusted_ca.filename = SYSTEM_ROOTS
        validation.match_typed_subject_alt_names.extend(subject_matchers(origination.subject_names))
        if settings.ca_crl:
            validation.crl.filename = settings.ca_crl
    return context
