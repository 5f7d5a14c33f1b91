"""TLS contexts: which certificates a proxy shows, and whom it believes (Istio: BuildListenerTLSContext)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator

from envoy.config.core.v3 import base_pb2, config_source_pb2
from envoy.extensions.transport_sockets.tls.v3 import common_pb2, secret_pb2, tls_pb2
from envoy.type.matcher.v3 import string_pb2

from pilotfish.api.proxy_files import ROOT_SECRET, WORKLOAD_SECRET, secret_source
from pilotfish.mesh.credentials import resource_name, roots_name
from pilotfish.mesh.servers import ClientCheck, Termination
from pilotfish.xds.build import common
from pilotfish.xds.build.secrets import CertificateFileSpec, RootFileSpec

HTTP_ALPN = ("h2", "http/1.1")
SOCKET = "envoy.transport_sockets.tls"
_SAN = common_pb2.SubjectAltNameMatcher


def server_socket(termination: Termination, alpn: Iterable[str]) -> base_pb2.TransportSocket:
    """The transport socket of a server that ends TLS."""
    context = tls_pb2.DownstreamTlsContext()
    context.require_client_certificate.value = termination.client is ClientCheck.REQUIRED
    _common(context.common_tls_context, termination, alpn)
    return base_pb2.TransportSocket(name=SOCKET, typed_config=common.any_of(context))


def _common(context: tls_pb2.CommonTlsContext, termination: Termination, alpn: Iterable[str]) -> None:
    context.alpn_protocols.extend(alpn)
    context.tls_certificate_sds_secret_configs.extend(_certificates(termination))
    if termination.client is not ClientCheck.NONE:
        combined = context.combined_validation_context
        combined.default_validation_context.CopyFrom(_validation(termination))
        if (roots := _roots(termination)) is not None:
            combined.validation_context_sds_secret_config.CopyFrom(roots)
    elif termination.subject_names:
        context.validation_context.match_typed_subject_alt_names.extend(subject_matchers(termination.subject_names))
    if termination.min_version:
        context.tls_params.tls_minimum_protocol_version = _version(termination.min_version)
    if termination.max_version:
        context.tls_params.tls_maximum_protocol_version = _version(termination.max_version)
    if termination.cipher_suites:
        context.tls_params.cipher_suites.extend(termination.cipher_suites)
    if termination.curves:
        context.tls_params.ecdh_curves.extend(termination.curves)


def _version(word: str) -> common_pb2.TlsParameters.TlsProtocol.ValueType:
    return common_pb2.TlsParameters.TlsProtocol.Value(word)


def _certificates(termination: Termination) -> Iterator[secret_pb2.SdsSecretConfig]:
    if termination.workload:
        yield workload_certificate()
    yield from (over_ads(resource_name(name)) for name in termination.credentials)
    yield from (over_ads(CertificateFileSpec(each.certificate, each.key).name) for each in termination.files)


def _roots(termination: Termination) -> secret_pb2.SdsSecretConfig | None:
    if termination.root_credential:
        return over_ads(roots_name(termination.root_credential))
    if termination.roots:
        return over_ads(RootFileSpec(termination.roots).name)
    return mesh_roots()


def _validation(termination: Termination) -> common_pb2.CertificateValidationContext:
    context = common_pb2.CertificateValidationContext(
        match_typed_subject_alt_names=[
            *subject_matchers(termination.subject_names),
            *map(_of_trust_domain, termination.trust_domains),
        ],
        verify_certificate_spki=termination.key_hashes,
        verify_certificate_hash=termination.certificate_hashes,
    )
    if termination.revoked:
        context.crl.filename = termination.revoked
    if termination.accept_untrusted:
        context.trust_chain_verification = common_pb2.CertificateValidationContext.ACCEPT_UNTRUSTED
    return context


def subject_matchers(names: Iterable[str]) -> list[common_pb2.SubjectAltNameMatcher]:
    """Matchers for exactly these names, each of the type that its form tells: URI, IP address, email or DNS name."""
    return [_SAN(san_type=_type(name), matcher=string_pb2.StringMatcher(exact=name)) for name in names]


def _of_trust_domain(domain: str) -> common_pb2.SubjectAltNameMatcher:
    return _SAN(san_type=_SAN.URI, matcher=string_pb2.StringMatcher(prefix=f"spiffe://{domain}/"))


def _type(name: str) -> common_pb2.SubjectAltNameMatcher.SanType.ValueType:
    if "://" in name:
        return _SAN.URI
    if "@" in name:
        return _SAN.EMAIL
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return _SAN.DNS
    return _SAN.IP_ADDRESS


def over_ads(name: str) -> secret_pb2.SdsSecretConfig:
    """A secret that the control plane sends.

    Without an end to the wait for it, as other resources have it, a listener would wait for a Secret that is not there.
    """
    source = config_source_pb2.ConfigSource(
        ads=config_source_pb2.AggregatedConfigSource(), resource_api_version=config_source_pb2.ApiVersion.V3
    )
    return secret_pb2.SdsSecretConfig(name=name, sds_config=source)


def workload_certificate() -> secret_pb2.SdsSecretConfig:
    """The proxy's own certificate of the mesh, which its node keeps in a file."""
    return _from_file(WORKLOAD_SECRET)


def mesh_roots() -> secret_pb2.SdsSecretConfig:
    """The mesh's root certificates."""
    return _from_file(ROOT_SECRET)


def _from_file(name: str) -> secret_pb2.SdsSecretConfig:
    path, directory = secret_source(name)
    source = config_source_pb2.ConfigSource(
        path_config_source=config_source_pb2.PathConfigSource(
            path=path, watched_directory=base_pb2.WatchedDirectory(path=directory)
        ),
        resource_api_version=config_source_pb2.ApiVersion.V3,
    )
    return secret_pb2.SdsSecretConfig(name=name, sds_config=source)
