"""The extension providers of Telemetries: those that MeshConfig does not have, and where there is none at all."""

from __future__ import annotations

from collections.abc import Iterator

from pilotfish.analysis import messages
from pilotfish.analysis.messages import Message
from pilotfish.analysis.snapshot import Snapshot
from pilotfish.api.kinds import TELEMETRY
from pilotfish.api.telemetry import ProviderRef, TelemetrySpec
from pilotfish.mesh.providers import with_built_in


def providers(snapshot: Snapshot) -> Iterator[Message]:
    """Both; Istio tells of providers that the mesh does not have in istiod's log alone."""
    yield from _missing(snapshot)
    yield from _unknown(snapshot)


def _missing(snapshot: Snapshot) -> Iterator[Message]:
    """Access logging without a provider, where the mesh has no log of its own to which it could be about."""
    if snapshot.mesh.default_providers.access_logging or snapshot.mesh.access_log_file:
        return
    for obj in snapshot.of(TELEMETRY):
        for position, logging in enumerate(obj.spec.access_logging):
            if not logging.disabled and not logging.providers:
                at = ("spec", "accessLogging", position)
                yield messages.INVALID_TELEMETRY_PROVIDER.about(obj, obj.name, obj.namespace, at=at)


def _unknown(snapshot: Snapshot) -> Iterator[Message]:
    """Names of providers that nobody has defined: nothing is reported to them."""
    known = with_built_in(snapshot.mesh.extension_providers)
    for obj in snapshot.of(TELEMETRY):
        for field, position, named in _named(obj.spec):
            for number, provider in enumerate(named):
                if provider.name.lower() not in known:
                    at = ("spec", field, position, "providers", number, "name")
                    what = "extension provider (of MeshConfig)"
                    yield messages.REFERENCED_RESOURCE_NOT_FOUND.about(obj, what, provider.name, at=at)


def _named(spec: TelemetrySpec) -> Iterator[tuple[str, int, tuple[ProviderRef, ...]]]:
    """The providers of each report: (its field and its place there, their names)."""
    for position, logging in enumerate(spec.access_logging):
        yield "accessLogging", position, logging.providers
    for position, metrics in enumerate(spec.metrics):
        yield "metrics", position, metrics.providers
    for position, tracing in enumerate(spec.tracing):
        yield "tracing", position, tracing.providers
