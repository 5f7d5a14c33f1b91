"""What Istio refuses of a Gateway, and what it warns of (pkg/config/validation: ValidateGateway)."""

from __future__ import annotations

from pilotfish.api.faults import duplicate, forbidden, required
from pilotfish.api.istio_validation import values
from pilotfish.api.istio_validation.hosts import namespaced_host
from pilotfish.api.istio_validation.tls import server_tls, server_tls_warnings
from pilotfish.api.istio_validation.values import Faults
from pilotfish.api.networking.gateway import Gateway, Server
from pilotfish.api.networking.tls import ServerTLSSettings

GATEWAY_ISTIO_NEITHER = {
    "spec.servers[].defaultEndpoint": "its API says that it is not implemented",
    "spec.servers[].port.targetPort": "refused, since a gateway listens on number itself",
    "spec.servers[].tls.tlsCertificates[].caCertificates": "Envoy has one list of authorities: the server's counts",
}
"""Fields of a Gateway that change nothing in Istio either, and why."""


def gateway(obj: Gateway) -> Faults:
    """The faults of a Gateway."""
    if not obj.spec.servers:
        yield required("spec.servers", "a Gateway needs at least one server")
    names: set[str] = set()
    for position, server in enumerate(obj.spec.servers):
        path = f"spec.servers[{position}]"
        if server.port.name in names:
            yield duplicate(f"{path}.port.name", server.port.name)
        names.add(server.port.name)
        yield from _port(path, server)
        if not server.hosts:
            yield required(f"{path}.hosts", 'a server needs at least one host; "*" is any')
        for place, host in enumerate(server.hosts):
            yield from namespaced_host(f"{path}.hosts[{place}]", host, gateway=True)
        yield from _tls(path, server)


def gateway_warnings(obj: Gateway) -> Faults:
    """What is valid and probably not what was meant."""
    for position, server in enumerate(obj.spec.servers):
        path = f"spec.servers[{position}].tls"
        if server.tls:
            yield from server_tls_warnings(path, server.tls)
            if server.tls.https_redirect and not values.is_http(server.port.protocol):
                yield values.warning(f"{path}.httpsRedirect", "only a server of protocol HTTP can redirect")


def _port(path: str, server: Server) -> Faults:
    port, bind = server.port, server.bind
    yield from values.protocol(f"{path}.port.protocol", port.protocol)
    if not port.name:
        yield required(f"{path}.port.name", "every port needs a name")
    if port.target_port:
        yield forbidden(f"{path}.port.targetPort", "a gateway listens on number itself; leave it out")
    if not bind.startswith(values.UNIX):
        yield from values.port_number(f"{path}.port.number", port.number)
        if bind:
            yield from values.ip_address(f"{path}.bind", bind)
        return
    yield from values.unix_socket(f"{path}.bind", bind)
    if port.number:
        yield forbidden(f"{path}.port.number", "bind is a Unix socket, which has no port; write 0")


def _tls(path: str, server: Server) -> Faults:
    protocol, tls = server.port.protocol, server.tls
    if tls is None:
        if values.is_tls(protocol):
            yield required(f"{path}.tls", f"protocol {protocol} needs TLS settings, such as mode and credentialName")
        return
    yield from server_tls(f"{path}.tls", tls)
    if values.is_tls(protocol):
        return
    if not values.is_http(protocol):
        yield forbidden(f"{path}.tls", f"protocol {protocol} has no TLS; use protocol TLS or HTTPS")
    elif not _only_redirects(tls):
        yield forbidden(f"{path}.tls", f"protocol {protocol} has no TLS but httpsRedirect; use protocol HTTPS")


def _only_redirects(tls: ServerTLSSettings) -> bool:
    files = tls.ca_certificates or tls.private_key or tls.server_certificate
    return tls.mode in ("PASSTHROUGH", "AUTO_PASSTHROUGH") and not files
