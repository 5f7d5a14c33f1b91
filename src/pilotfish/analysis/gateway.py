"""Gateways: pods that there are not, ports that no Service leads to, certificates, and conflicts between Gateways."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping

from cryptography import x509

from pilotfish.analysis import messages
from pilotfish.analysis.messages import Message, Path, full_name
from pilotfish.analysis.selectors import selector_text
from pilotfish.analysis.snapshot import Snapshot, Workload
from pilotfish.api.core import Secret
from pilotfish.api.kinds import GATEWAY, SECRET, SERVICE
from pilotfish.api.networking import Gateway
from pilotfish.api.networking.tls import ServerTLSSettings
from pilotfish.api.selectors import matches_labels

_KEYS = (("tls.crt", "tls.key"), ("cert", "key"))
"""Under which names a Secret has a certificate and its key."""


def ports(snapshot: Snapshot) -> Iterator[Message]:
    """Selectors that select nobody, and ports that the Services of a gateway's pods do not lead to."""
    for obj in snapshot.of(GATEWAY):
        pods = _pods(snapshot, obj)
        if not pods:
            yield _nobody(obj)
            continue
        reached = {port for pod in pods for port in _reached(snapshot, pod)}
        for server in obj.spec.servers:
            if server.port.number not in reached:
                arguments = server.port.number, selector_text(obj.spec.selector)
                yield messages.GATEWAY_PORT_NOT_ON_SERVICE.about(obj, *arguments, at=_selector_path(obj))


def secrets(snapshot: Snapshot) -> Iterator[Message]:
    """Secrets that there are not, or that hold nothing to serve TLS with."""
    for obj in snapshot.of(GATEWAY):
        pods = _pods(snapshot, obj)
        if not pods:
            yield _nobody(obj)
            continue
        namespace = pods[0].namespace
        for position, server in enumerate(obj.spec.servers):
            if server.tls is None:
                continue
            for name, at in _credentials(server.tls, ("spec", "servers", position, "tls")):
                where, slash, short = name.removeprefix("kubernetes://").rpartition("/")
                secret = snapshot.find(SECRET, where if slash else namespace, short)
                if secret is None:
                    yield messages.REFERENCED_RESOURCE_NOT_FOUND.about(obj, "credentialName", name, at=at)
                elif not usable(secret):
                    yield messages.INVALID_GATEWAY_CREDENTIAL.about(obj, obj.name, namespace, at=at)


def _credentials(tls: ServerTLSSettings, path: Path) -> Iterator[tuple[str, Path]]:
    if tls.credential_name:
        yield tls.credential_name, (*path, "credentialName")
    for position, name in enumerate(tls.credential_names):
        yield name, (*path, "credentialNames", position)


def usable(secret: Secret) -> bool:
    """Whether a Secret has a certificate that can be read, and a key beside it."""
    for certificate, key in _KEYS:
        if secret.data.get(certificate) and secret.data.get(key):
            try:
                x509.load_pem_x509_certificate(base64.b64decode(secret.data[certificate]))
            except (ValueError, binascii.Error):
                return False
            return True
    return False


def duplicate_certificates(snapshot: Snapshot) -> Iterator[Message]:
    """One certificate in several Gateways of the same pods."""
    gateways = snapshot.of(GATEWAY)
    for obj in gateways:
        for other in gateways:
            selects_more = obj.spec.selector.items() <= other.spec.selector.items()
            if other is not obj and selects_more and not _certificates(obj).isdisjoint(_certificates(other)):
                names = full_name(obj), full_name(other)
                yield messages.GATEWAY_DUPLICATE_CERTIFICATE.about(obj, names, at=("metadata", "name"))


def _certificates(gateway: Gateway) -> set[tuple[str, ...]]:
    found = [server.tls for server in gateway.spec.servers if server.tls is not None]
    named = {(tls.credential_name,) for tls in found if tls.credential_name}
    files = {(tls.server_certificate, tls.private_key) for tls in found if tls.server_certificate and tls.private_key}
    return named | files


def conflicts(snapshot: Snapshot) -> Iterator[Message]:
    """Several Gateways with one host at one port of the same pods."""
    gateways = snapshot.of(GATEWAY)
    for obj in gateways:
        for position, server in enumerate(obj.spec.servers):
            hosts = {(host, server.bind) for host in server.hosts}
            others = sorted(
                full_name(other)
                for other in gateways
                if other is not obj
                and _share_pods(snapshot, obj, other)
                and any(
                    theirs.port.number == server.port.number
                    and not hosts.isdisjoint((host, theirs.bind) for host in theirs.hosts)
                    for theirs in other.spec.servers
                )
            )
            if others:
                arguments = (
                    ",".join(others),
                    selector_text(obj.spec.selector),
                    server.port.number,
                    ",".join(server.hosts),
                )
                yield messages.CONFLICTING_GATEWAYS.about(obj, *arguments, at=("spec", "servers", position, "hosts"))


def _share_pods(snapshot: Snapshot, one: Gateway, other: Gateway) -> bool:
    if one.spec.selector == other.spec.selector:
        return True
    return any(_selects(other.spec.selector, pod.labels) for pod in _pods(snapshot, one))


def _pods(snapshot: Snapshot, gateway: Gateway) -> list[Workload]:
    """The pods that serve a Gateway, in any namespace; a selector without labels means all."""
    return [workload for workload in snapshot.workloads if _selects(gateway.spec.selector, workload.labels)]


def _selects(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    return not selector or matches_labels(selector, labels)


def _reached(snapshot: Snapshot, pod: Workload) -> Iterator[int]:
    """The ports of a pod that Services lead to, and the Services' own."""
    for service in snapshot.of(SERVICE):
        if service.namespace != pod.namespace or not matches_labels(service.spec.selector, pod.labels):
            continue
        for port in service.spec.ports:
            if port.protocol == "TCP":
                yield port.port
                if isinstance(port.target_port, int) and port.target_port:
                    yield port.target_port


def _nobody(gateway: Gateway) -> Message:
    text = selector_text(gateway.spec.selector)
    return messages.REFERENCED_RESOURCE_NOT_FOUND.about(gateway, "selector", text, at=_selector_path(gateway))


def _selector_path(gateway: Gateway) -> Path:
    return "spec", "selector", *sorted(gateway.spec.selector)[:1]
