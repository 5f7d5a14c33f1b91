"""DestinationRules: hosts that there are not, subsets of nobody, TLS that trusts everyone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pilotfish.analysis import messages
from pilotfish.analysis.hosts import Host, Hosts, workload_labels
from pilotfish.analysis.messages import Message, Path
from pilotfish.analysis.snapshot import Labels, Snapshot
from pilotfish.api.core import Service
from pilotfish.api.kinds import DESTINATION_RULE, NODE, WORKLOAD_ENTRY
from pilotfish.api.networking import DestinationRule, ServiceEntry
from pilotfish.api.networking.tls import ClientTLSSettings
from pilotfish.api.selectors import matches_labels

_TOPOLOGY = ("topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone")
_BEGINNING_TLS = frozenset({"SIMPLE", "MUTUAL"})


def certificates(snapshot: Snapshot) -> Iterator[Message]:
    """TLS to servers whose certificates nobody checks."""
    for obj in snapshot.of(DESTINATION_RULE):
        policy = obj.spec.traffic_policy
        if policy is None:
            continue
        names = obj.name, obj.namespace
        if policy.tls is not None and _trusts_anyone(policy.tls, obj):
            at: Path = ("spec", "trafficPolicy", "tls", "caCertificates")
            yield messages.NO_SERVER_VERIFICATION.about(obj, *names, policy.tls.mode, obj.spec.host, at=at)
        for position, port in enumerate(policy.port_level_settings):
            if port.tls is not None and _trusts_anyone(port.tls, obj):
                number = port.port.number if port.port is not None else ""
                at = ("spec", "trafficPolicy", "portLevelSettings", position, "tls", "caCertificates")
                arguments = (*names, port.tls.mode, obj.spec.host, number)
                yield messages.NO_SERVER_VERIFICATION_ON_PORT.about(obj, *arguments, at=at)


def _trusts_anyone(tls: ClientTLSSettings, rule: DestinationRule) -> bool:
    has_credential = bool(tls.credential_name) and rule.spec.workload_selector is not None
    return tls.mode in _BEGINNING_TLS and not tls.ca_certificates and not has_credential


def subsets(snapshot: Snapshot) -> Iterator[Message]:
    """Hosts that no service has, and subsets that select none of a host's endpoints.

    Istio compares subsets with the labels of all pods of the mesh; here with those of the host's own endpoints.
    """
    hosts = Hosts(snapshot)
    for obj in snapshot.of(DESTINATION_RULE):
        host = hosts.find(obj.spec.host, obj.namespace, obj.spec.export_to)
        if host is None:
            yield messages.UNKNOWN_DESTINATION_RULE_HOST.about(obj, obj.spec.host, at=("spec", "host"))
            continue
        if not obj.spec.subsets:
            continue
        endpoints = list(_endpoint_labels(snapshot, host))
        for position, subset in enumerate(obj.spec.subsets):
            if not any(_has(labels, subset.labels) for labels in endpoints):
                at = ("spec", "subsets", position, "name")
                yield messages.SUBSET_SELECTS_NO_PODS.about(obj, subset.name, at=at)


def _has(labels: Labels, wanted: Mapping[str, str]) -> bool:
    return not wanted or matches_labels(wanted, labels)


def _endpoint_labels(snapshot: Snapshot, host: Host) -> Iterator[Labels]:
    """The labels of each endpoint of a host, as far as objects tell of it."""
    source = host.source
    selector = workload_labels(host)
    for workload in snapshot.selected(selector, source.namespace):
        node = snapshot.find(NODE, "", workload.spec.node_name)
        placed = (
            {name: node.metadata.labels[name] for name in _TOPOLOGY if name in node.metadata.labels} if node else {}
        )
        yield {**workload.labels, **placed}
    if isinstance(source, ServiceEntry):
        for endpoint in source.spec.endpoints:
            yield endpoint.labels
    if isinstance(source, ServiceEntry | Service) and selector:
        for entry in snapshot.of(WORKLOAD_ENTRY):
            if entry.namespace == source.namespace and matches_labels(selector, entry.spec.labels):
                yield entry.spec.labels
