"""Which TLS a proxy begins with the endpoints of a host (Istio: buildUpstreamTLSSettings)."""

from __future__ import annotations

from pilotfish.api.networking.destination_rule import TrafficPolicy
from pilotfish.api.networking.tls import ClientTLSSettings
from pilotfish.mesh.protocols import Protocol
from pilotfish.mesh.records import Host, Registry, Resolution, Secured
from pilotfish.xds.build import names
from pilotfish.xds.build.http_options import Upstream
from pilotfish.xds.build.mutual_tls import ANY_HTTP_ALPN, BYTES_ALPN, HTTP1_ALPN, HTTP2_ALPN, MutualTls
from pilotfish.xds.build.upstream_tls import Origination
from pilotfish.xds.settings import ProxySettings

_HTTP_ALPN = {
    Upstream.HTTP1: HTTP1_ALPN,
    Upstream.HTTP2: HTTP2_ALPN,
    Upstream.AS_DOWNSTREAM: ANY_HTTP_ALPN,
}


def originated(
    host: Host,
    cluster: str,
    protocol: Protocol,
    upstream: Upstream,
    said: TrafficPolicy,
    settings: ProxySettings,
    *,
    credentials: bool = False,
) -> Origination | MutualTls | None:
    """The TLS of one of a host's clusters, by the protocol of its port: what a DestinationRule says, else mutual TLS
    with the endpoints that take it. TLS with `credentials` of Secrets is begun where the proxy may have them.
    """
    tls = said.tls
    if tls is not None and tls.mode != "ISTIO_MUTUAL":
        return _of_rule(host, tls, settings, credentials=credentials)
    everywhere = tls is not None
    if tls is None:
        if not settings.mutual_tls.auto or host.service.external or host.secured is Secured.NONE:
            return None
        # Endpoints that nobody sends cannot be told apart (Istio: BestEffortInferServiceMTLSMode).
        everywhere = host.service.resolution is Resolution.PASSTHROUGH or passes_through(said)
        if everywhere and host.secured is not Secured.ALL:
            return None
    dynamic = host.service.resolution is Resolution.DYNAMIC_DNS
    of_requests = _HTTP_ALPN[upstream]
    return MutualTls(
        server_name=(tls.sni if tls else "") or ("" if dynamic else names.server_name(cluster)),
        subject_names=(tls.subject_alt_names if tls else ()) or _identities(host, settings),
        protocols=of_requests if protocol.is_http else BYTES_ALPN,
        request_protocols=of_requests if protocol is Protocol.AUTO else (),
        everywhere=everywhere,
    )


def _identities(host: Host, settings: ProxySettings) -> tuple[str, ...]:
    """Who may answer for a host: its endpoints' accounts, and whoever its entries name."""
    mutual, service = settings.mutual_tls, host.service
    accounts = (mutual.identity(service.namespace, account) for account in host.accounts)
    return mutual.in_all_domains(frozenset((*accounts, *service.subject_alt_names)))


def _of_rule(host: Host, tls: ClientTLSSettings, settings: ProxySettings, *, credentials: bool) -> Origination | None:
    if tls.mode == "DISABLE" or (tls.credential_name and not credentials):
        return None
    of_entry = host.service.subject_alt_names if host.service.registry is Registry.EXTERNAL else ()
    defaults = settings.tls_defaults
    dynamic = host.service.resolution is Resolution.DYNAMIC_DNS
    return Origination(tls, tls.subject_alt_names or of_entry, defaults.cipher_suites, defaults.curves, dynamic)


def passes_through(said: TrafficPolicy) -> bool:
    """Whether connections go on to where their clients meant them to go, and not to endpoints that are known."""
    return said.load_balancer is not None and said.load_balancer.simple == "PASSTHROUGH"
