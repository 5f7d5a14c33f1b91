"""What Istio refuses of a Telemetry, and what it warns of (pkg/config/validation: ValidateTelemetry)."""

from __future__ import annotations

from collections.abc import Sequence

from pilotfish.api import cel
from pilotfish.api.faults import forbidden, invalid, required
from pilotfish.api.istio_validation import values
from pilotfish.api.istio_validation.values import Faults
from pilotfish.api.one_of import one_of_faults
from pilotfish.api.telemetry import CustomTag, MetricsOverrides, ProviderRef, Telemetry

_TARGETS = ("spec.targetRef", "spec.targetRefs[]")
TELEMETRY_NOT_HONOURED = frozenset(
    {
        # Envoy does not tell its logs of single messages in a form that can be counted.
        "spec.metrics[].overrides[].match.metric=GRPC_REQUEST_MESSAGES",
        "spec.metrics[].overrides[].match.metric=GRPC_RESPONSE_MESSAGES",
        # Requests are counted when they end, connections when they begin and end.
        "spec.metrics[].reportingInterval",
        # Of waypoints; what a Gateway of Kubernetes means is found by the label of its pods.
        *(f"{where}.kind={kind}" for where in _TARGETS for kind in ("GatewayClass", "Service", "ServiceEntry")),
        # Refused, by Istio too: what a Telemetry is about is in its own namespace.
        *(f"{where}.namespace" for where in _TARGETS),
    }
)


def telemetry(obj: Telemetry) -> Faults:
    """The faults of a Telemetry. A filter that Envoy would refuse is one: it would keep listeners from proxies."""
    spec = obj.spec
    yield from one_of_faults(spec, "spec")
    if spec.selector:
        yield from values.selector("spec.selector.matchLabels", spec.selector.match_labels)
    if spec.target_ref:
        yield from values.target_reference("spec.targetRef", spec.target_ref)
    for position, target in enumerate(spec.target_refs or ()):
        yield from values.target_reference(f"spec.targetRefs[{position}]", target)
    for position, tracing in enumerate(spec.tracing):
        path = f"spec.tracing[{position}]"
        yield from _providers(path, tracing.providers)
        for name, tag in tracing.custom_tags.items():
            yield from _tag(f"{path}.customTags[{name}]", name, tag)
    for position, metrics in enumerate(spec.metrics):
        path = f"spec.metrics[{position}]"
        yield from _providers(path, metrics.providers)
        yield from values.duration(f"{path}.reportingInterval", metrics.reporting_interval)
        for place, overrides in enumerate(metrics.overrides):
            yield from _overrides(f"{path}.overrides[{place}]", overrides)
    for position, logging in enumerate(spec.access_logging):
        path = f"spec.accessLogging[{position}]"
        yield from _providers(path, logging.providers)
        if logging.filter and not logging.filter.expression:
            yield required(
                f"{path}.filter.expression", "an empty filter is no expression; leave it out to log everything"
            )
        elif logging.filter and (why := cel.fault(logging.filter.expression)):
            yield invalid(f"{path}.filter.expression", logging.filter.expression, f"must be a CEL expression: {why}")


def telemetry_warnings(obj: Telemetry) -> Faults:
    """What is valid and probably not what was meant."""
    spec = obj.spec
    if spec.selector:
        yield from values.selects_all("spec.selector", spec.selector.match_labels)
    if len(spec.tracing) > 1:
        yield values.warning("spec.tracing", "only one is used")
    for position, tracing in enumerate(spec.tracing):
        if len(tracing.providers) > 1:
            yield values.warning(f"spec.tracing[{position}].providers", "only one is used")
    for position, metrics in enumerate(spec.metrics):
        for place, overrides in enumerate(metrics.overrides):
            if "" in overrides.tag_overrides:
                where = f"spec.metrics[{position}].overrides[{place}].tagOverrides"
                yield values.warning(where, "a tag without a name has no effect")
            for name, tag in overrides.tag_overrides.items():
                if tag.value and (why := cel.fault(tag.value)):
                    where = f"spec.metrics[{position}].overrides[{place}].tagOverrides[{name}].value"
                    yield values.warning(where, f"the tag stays as it is, since this is no CEL expression: {why}")


def _providers(path: str, providers: Sequence[ProviderRef]) -> Faults:
    for position, provider in enumerate(providers):
        if not provider.name:
            yield required(f"{path}.providers[{position}].name", "name one of MeshConfig's extensionProviders")


def _tag(path: str, name: str, tag: CustomTag) -> Faults:
    if not name:
        yield required(path, "a tag needs a name")
    if tag.literal and not tag.literal.value:
        yield required(f"{path}.literal.value")
    if tag.environment and not tag.environment.name:
        yield required(f"{path}.environment.name")
    if tag.header and not tag.header.name:
        yield required(f"{path}.header.name")
    if tag.formatter and not tag.formatter.value:
        yield required(f"{path}.formatter.value")


def _overrides(path: str, overrides: MetricsOverrides) -> Faults:
    if overrides.match and overrides.match.custom_metric == "":
        yield required(f"{path}.match.customMetric")
    for name, override in overrides.tag_overrides.items():
        where = f"{path}.tagOverrides[{name}].value"
        if override.operation == "UPSERT" and not override.value:
            yield required(where, "operation UPSERT sets a tag to it")
        if override.operation == "REMOVE" and override.value:
            yield forbidden(where, "operation REMOVE takes the tag away; leave the value out")
