"""What Istio refuses of a Sidecar, and what it warns of (pkg/config/validation: ValidateSidecar)."""

from __future__ import annotations

from pilotfish.api.faults import duplicate, forbidden, invalid, required
from pilotfish.api.istio_validation import values
from pilotfish.api.istio_validation.connection_pool import connection_pool
from pilotfish.api.istio_validation.hosts import host_fault, namespaced_host
from pilotfish.api.istio_validation.routes import destination
from pilotfish.api.istio_validation.tls import server_tls, server_tls_warnings
from pilotfish.api.istio_validation.values import Faults
from pilotfish.api.networking.sidecar import (
    IstioEgressListener,
    IstioIngressListener,
    OutboundTrafficPolicy,
    Sidecar,
    SidecarPort,
    SidecarSpec,
)
from pilotfish.api.networking.tls import ServerTLSSettings

_NO_TARGET = "refused, since it has no effect"
_FILES = "refused, since a sidecar's certificates are files of its pod"
SIDECAR_ISTIO_NEITHER = {
    "spec.egress[].port.targetPort": _NO_TARGET,
    "spec.ingress[].port.targetPort": _NO_TARGET,
    "spec.ingress[].tls.caCertCredentialName": "a sidecar's certificates are files of its pod",
    "spec.ingress[].tls.credentialName": _FILES,
    "spec.ingress[].tls.credentialNames": _FILES,
    "spec.ingress[].tls.httpsRedirect": "refused, since only gateways redirect",
    "spec.ingress[].tls.subjectAltNames": "refused, since it is for gateways",
    "spec.ingress[].tls.tlsCertificates[]": "refused, since a sidecar shows one certificate",
}
"""Fields of a Sidecar that change nothing in Istio either, and why."""

_OWN_ADDRESSES = ("", "127.0.0.1", "0.0.0.0", "[::1]", "[::]")


def sidecar(obj: Sidecar) -> Faults:
    """The faults of a Sidecar."""
    spec = obj.spec
    if not (spec.ingress or spec.egress or spec.outbound_traffic_policy or spec.inbound_connection_pool):
        why = "a Sidecar says at least one of ingress, egress, outboundTrafficPolicy and inboundConnectionPool"
        yield required("spec", why)
    if spec.workload_selector:
        yield from values.selector("spec.workloadSelector.labels", spec.workload_selector.labels)
    yield from connection_pool("spec.inboundConnectionPool", spec.inbound_connection_pool)
    yield from _ingress(spec)
    yield from _egress(spec)
    if spec.outbound_traffic_policy:
        yield from _outbound("spec.outboundTrafficPolicy", spec.outbound_traffic_policy)


def sidecar_warnings(obj: Sidecar) -> Faults:
    """What is valid and probably not what was meant."""
    spec = obj.spec
    if spec.workload_selector:
        yield from values.selects_all("spec.workloadSelector", spec.workload_selector.labels)
    for position, ingress in enumerate(spec.ingress):
        path = f"spec.ingress[{position}]"
        if ingress.tls:
            yield from server_tls_warnings(f"{path}.tls", ingress.tls)
        if ingress.connection_pool and ingress.connection_pool.http and not values.is_http(ingress.port.protocol):
            why = f"the port's protocol is {ingress.port.protocol or 'not given'}, so that only tcp applies"
            yield values.warning(f"{path}.connectionPool.http", why)
    for position, egress in enumerate(spec.egress):
        yield from _repeated_hosts(f"spec.egress[{position}].hosts", egress, obj.namespace)


def _ingress(spec: SidecarSpec) -> Faults:
    ports: set[int] = set()
    for position, listener in enumerate(spec.ingress):
        path = f"spec.ingress[{position}]"
        yield from _port(f"{path}.port", listener.port)
        yield from values.port_number(f"{path}.port.number", listener.port.number)
        if listener.port.number in ports:
            yield duplicate(f"{path}.port.number", listener.port.number)
        ports.add(listener.port.number)
        if listener.bind:
            yield from values.ip_address(f"{path}.bind", listener.bind)
        if listener.default_endpoint:
            yield from _default_endpoint(f"{path}.defaultEndpoint", listener.default_endpoint)
        if listener.tls:
            yield from _tls(path, listener, listener.tls)
        yield from connection_pool(f"{path}.connectionPool", listener.connection_pool)


def _port(path: str, port: SidecarPort) -> Faults:
    if port.name:
        yield from values.port_name(f"{path}.name", port.name)
    if port.protocol:
        yield from values.protocol(f"{path}.protocol", port.protocol)
    if port.target_port:
        yield forbidden(f"{path}.targetPort", "it has no effect; say where the program listens in defaultEndpoint")


def _default_endpoint(path: str, endpoint: str) -> Faults:
    if endpoint.startswith(values.UNIX):
        yield from values.unix_socket(path, endpoint)
        return
    host, colon, port = endpoint.rpartition(":")
    if not colon or host not in _OWN_ADDRESSES or not port.isdecimal():
        yield invalid(
            path, endpoint, "expected 127.0.0.1:<port>, 0.0.0.0:<port>, [::1]:<port>, [::]:<port> or unix://<path>"
        )
    else:
        yield from values.port_number(path, int(port))


def _tls(path: str, listener: IstioIngressListener, tls: ServerTLSSettings) -> Faults:
    unusable = {
        "subjectAltNames": tls.subject_alt_names,
        "httpsRedirect": tls.https_redirect,
        "credentialName": tls.credential_name,
        "credentialNames": tls.credential_names,
        "tlsCertificates": tls.tls_certificates,
    }
    for name, value in unusable.items():
        if value:
            why = "a sidecar does not have it; use serverCertificate, privateKey and caCertificates"
            yield forbidden(f"{path}.tls.{name}", why)
    if tls.mode in ("ISTIO_MUTUAL", "AUTO_PASSTHROUGH"):
        yield invalid(f"{path}.tls.mode", tls.mode, "a sidecar has PASSTHROUGH, SIMPLE, MUTUAL and OPTIONAL_MUTUAL")
    if not values.is_tls(listener.port.protocol):
        yield forbidden(f"{path}.tls", "the port's protocol has no TLS; use protocol HTTPS or TLS")
    yield from server_tls(f"{path}.tls", tls)


def _egress(spec: SidecarSpec) -> Faults:
    ports: set[int] = set()
    sockets: set[str] = set()
    for position, listener in enumerate(spec.egress):
        path = f"spec.egress[{position}]"
        if listener.port is None:
            if position < len(spec.egress) - 1:
                yield required(
                    f"{path}.port", "only the last listener is for every port; it takes what the others leave"
                )
        else:
            yield from _egress_port(path, listener, listener.port)
            if listener.port.number in ports:
                yield duplicate(f"{path}.port.number", listener.port.number)
            elif not listener.port.number and listener.bind in sockets:
                yield duplicate(f"{path}.bind", listener.bind)
            ports |= {listener.port.number} - {0}
            sockets |= {listener.bind} if not listener.port.number else set()
        if not listener.hosts:
            yield required(f"{path}.hosts", 'a listener needs hosts; "*/*" are all')
        for place, host in enumerate(listener.hosts):
            yield from namespaced_host(f"{path}.hosts[{place}]", host, gateway=False)


def _egress_port(path: str, listener: IstioEgressListener, port: SidecarPort) -> Faults:
    yield from _port(f"{path}.port", port)
    if port.number:
        yield from values.port_number(f"{path}.port.number", port.number)
        if listener.bind:
            yield from values.ip_address(f"{path}.bind", listener.bind)
        return
    if listener.bind.startswith(values.UNIX):
        yield from values.unix_socket(f"{path}.bind", listener.bind)
    else:
        yield invalid(f"{path}.bind", listener.bind, "a listener without a port number is a Unix socket: unix://<path>")
    if listener.capture_mode == "IPTABLES":
        yield invalid(f"{path}.captureMode", "IPTABLES", "a Unix socket cannot be captured; use NONE or DEFAULT")


def _repeated_hosts(path: str, listener: IstioEgressListener, namespace: str) -> Faults:
    seen: dict[str, set[str]] = {}
    for position, text in enumerate(listener.hosts):
        owner, slash, host = text.partition("/")
        if not slash or owner.startswith("~"):
            continue
        known = seen.setdefault(namespace if owner == "." else owner, set())
        if host in known or "*" in known or (host == "*" and known):
            yield values.warning(f"{path}[{position}]", f"{text} is part of what the list has already, or the reverse")
        known.add(host)
    if "*" in seen.get("*", ()) and len(seen) > 1:
        yield values.warning(path, "*/* are all hosts, so that the others have no effect")


def _outbound(path: str, policy: OutboundTrafficPolicy) -> Faults:
    proxy = policy.egress_proxy
    if proxy is None:
        return
    if policy.mode != "ALLOW_ANY":
        yield forbidden(f"{path}.egressProxy", "it is for unknown hosts, which only mode ALLOW_ANY lets pass")
    if proxy.port is None:
        yield required(f"{path}.egressProxy.port", "say which port of the proxy")
    if proxy.host.startswith("*") and (fault := host_fault(proxy.host, wildcard=False)):
        yield invalid(f"{path}.egressProxy.host", proxy.host, fault)
    else:
        yield from destination(f"{path}.egressProxy", proxy)
