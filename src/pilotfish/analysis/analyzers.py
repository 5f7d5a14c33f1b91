"""All analyzers, under Istio's names (istio pkg/config/analysis/analyzers)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from pilotfish.analysis import (
    annotation,
    destinationrule,
    envoyfilter,
    gateway,
    injection,
    objects,
    selectors,
    services,
    telemetry,
    virtualservice,
)
from pilotfish.analysis.messages import Message
from pilotfish.analysis.snapshot import Snapshot


class Analyzer(NamedTuple):
    name: str
    description: str
    run: Callable[[Snapshot], Iterator[Message]]


ANALYZERS = (
    Analyzer("annotations.K8sAnalyzer", "Misplaced, unknown and invalid annotations", annotation.misused),
    Analyzer("applicationUID.Analyzer", "Applications that run as the proxy's user", services.application_users),
    Analyzer("conditions.ConditionAnalyzer", "Negative conditions in the status of objects", objects.conditions),
    Analyzer("deployment.MultiServiceAnalyzer", "Services that disagree about a Deployment", services.deployments),
    Analyzer("deprecation.DeprecationAnalyzer", "Deprecated fields", objects.deprecated_fields),
    Analyzer(
        "destinationrule.CaCertificateAnalyzer", "TLS to servers that nobody verifies", destinationrule.certificates
    ),
    Analyzer(
        "destinationrule.SubsetSelectPodAnalyzer", "Unknown hosts, and subsets of no pods", destinationrule.subsets
    ),
    Analyzer("envoyfilter.EnvoyPatchAnalyzer", "Operations of EnvoyFilters", envoyfilter.patches),
    Analyzer("gateway.CertificateAnalyzer", "Certificates that Gateways share", gateway.duplicate_certificates),
    Analyzer("gateway.ConflictingGatewayAnalyzer", "Gateways that are for the same hosts", gateway.conflicts),
    Analyzer("gateway.IngressGatewayPortAnalyzer", "Ports of Gateways and of their Services", gateway.ports),
    Analyzer("gateway.SecretAnalyzer", "Secrets that Gateways refer to", gateway.secrets),
    Analyzer("injection.Analyzer", "Namespaces and pods without injection", injection.injection),
    Analyzer("injection.ImageAnalyzer", "Proxies of another image than injection gives", injection.images),
    Analyzer("injection.ImageAutoAnalyzer", "`image: auto` without injection", injection.auto_images),
    Analyzer("schema.ValidationAnalyzer", "What is not valid in Istio's kinds", objects.validation),
    Analyzer("schema.VirtualServiceRules", "Routes that no request reaches", objects.rules),
    Analyzer("service.PortNameAnalyzer", "Ports that tell no protocol", services.port_names),
    Analyzer("serviceentry.Analyzer", "ServiceEntries that need addresses", services.addresses),
    Analyzer(
        "serviceentry.ConflictingServiceEntryProtocolAnalyzer",
        "ServiceEntries that disagree about a port",
        services.entry_protocols,
    ),
    Analyzer("sidecar.SelectorAnalyzer", "Selectors of Sidecars", selectors.sidecars),
    Analyzer(
        "telemetry.DefaultSelectorAnalyzer", "Telemetries that all select every pod", selectors.TELEMETRIES.for_all
    ),
    Analyzer("telemetry.ProviderAnalyzer", "Providers of Telemetries", telemetry.providers),
    Analyzer("telemetry.SelectorAnalyzer", "Selectors of Telemetries", selectors.TELEMETRIES.selectors),
    Analyzer(
        "virtualservice.ConflictingMeshGatewayHostsAnalyzer",
        "VirtualServices for sidecars with the same host",
        virtualservice.conflicting_hosts,
    ),
    Analyzer("virtualservice.DestinationHostAnalyzer", "Hosts and ports of destinations", virtualservice.destinations),
    Analyzer("virtualservice.DestinationRuleAnalyzer", "Subsets of destinations", virtualservice.subsets),
    Analyzer("virtualservice.GatewayAnalyzer", "Gateways of VirtualServices", virtualservice.gateways),
)


def analyze(snapshot: Snapshot, names: Iterable[str] = ()) -> list[Message]:
    """What all analyzers find, or those of certain names: the worst first, each thing once."""
    wanted = set(names)
    found = [message for one in ANALYZERS if not wanted or one.name in wanted for message in one.run(snapshot)]
    return ordered(found)


def ordered(found: Iterable[Message]) -> list[Message]:
    """The worst first; what says the same about the same object is one."""
    unique: dict[tuple[int, str, str, str, str], Message] = {}
    for message in found:
        unique.setdefault(message.order, message)
    return [unique[key] for key in sorted(unique)]
