"""Tracing of several Telemetries merged, over what MeshConfig says (Istio: Telemetries.Tracing and core/tracing.go)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pilotfish.api import telemetry
from pilotfish.api.proxy_tracing import ProxyTag, ProxyTracing
from pilotfish.api.proxyconfig import DATADOG, ZIPKIN
from pilotfish.mesh import providers, reporting
from pilotfish.mesh.extension_providers import ExtensionProvider
from pilotfish.mesh.meshconfig import MeshConfig
from pilotfish.mesh.reporting import Tag

DEFAULT_SAMPLING = 1.0
"""Percent (Istio: PILOT_TRACE_SAMPLING)."""


def merged_tracing(
    given: Sequence[telemetry.Tracing],
    mesh: MeshConfig,
    known: Mapping[str, ExtensionProvider],
    mode: str,
    environment: Mapping[str, str],
) -> reporting.Tracing | None:
    """The spans that a workload reports of one direction, CLIENT or SERVER; None: no part in tracing at all."""
    of_mesh = mesh.default_config.tracing or ProxyTracing()
    defaults = mesh.default_providers.tracing
    if not given and not defaults:
        return _of_mesh(of_mesh) if mesh.enable_tracing else None
    name = next(iter(defaults), "")
    sampling: float | None = None
    disabled, id_decides, istio_tags, propagates = False, True, True, True
    tags: Mapping[str, telemetry.CustomTag | ProxyTag] = {}
    for each in given:
        if each.match is not None and each.match.mode not in ("CLIENT_AND_SERVER", mode):
            continue
        name = each.providers[0].name if each.providers else name
        disabled = _over(each.disable_span_reporting, disabled)
        id_decides = _over(each.use_request_id_for_trace_sampling, id_decides)
        istio_tags = _over(each.enable_istio_tags, istio_tags)
        propagates = not _over(each.disable_context_propagation, not propagates)
        tags = each.custom_tags or tags
        if each.random_sampling_percentage is not None:
            sampling = each.random_sampling_percentage
    provider = known.get(name.lower())
    found = providers.tracer(provider, environment) if provider is not None else None
    if disabled or found is None:
        return None
    return reporting.Tracing(
        tracer=found.tracer,
        sampling=_share(found.tracer, _sampling(of_mesh) if sampling is None else sampling),
        tags=_tags(tags or of_mesh.custom_tags),
        istio_tags=istio_tags,
        id_decides=id_decides,
        propagates=propagates,
        max_path=found.max_path or of_mesh.max_path_tag_length,
    )


def _share(tracer: reporting.Tracer, percent: float) -> float:
    """All, where a sampler of the tracer's own decides."""
    return 100.0 if isinstance(tracer, reporting.OtelTracer) and tracer.sampler is not None else percent


def _over(given: bool | None, inherited: bool) -> bool:
    return inherited if given is None else given


def _of_mesh(tracing: ProxyTracing) -> reporting.Tracing | None:
    """Without a Telemetry: the agent of `defaultConfig.tracing`, a host of the mesh or of the proxy's own bootstrap."""
    tracer: reporting.Tracer
    if tracing.zipkin and (collector := _collector(tracing.zipkin.address, ZIPKIN, tracing)):
        tracer = reporting.ZipkinTracer(collector)
    elif tracing.datadog and (collector := _collector(tracing.datadog.address, DATADOG, tracing)):
        tracer = reporting.DatadogTracer(collector)
    else:
        return None
    return reporting.Tracing(
        tracer=tracer,
        sampling=_sampling(tracing),
        tags=_tags(tracing.custom_tags),
        istio_tags=tracing.enable_istio_tags is not False,
        max_path=tracing.max_path_tag_length,
    )


def _collector(address: str, cluster: str, tracing: ProxyTracing) -> reporting.Collector | None:
    """With TLS settings the proxy's own cluster, which has them."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        return None
    secured = tracing.tls_settings is not None and tracing.tls_settings.mode != "DISABLE"
    return reporting.Collector(host, 0 if secured else int(port), cluster=cluster)


def _sampling(tracing: ProxyTracing) -> float:
    if not tracing.sampling:
        return DEFAULT_SAMPLING
    return tracing.sampling if tracing.sampling <= 100 else DEFAULT_SAMPLING


def _tags(tags: Mapping[str, telemetry.CustomTag | ProxyTag]) -> tuple[Tag, ...]:
    return tuple(sorted((_tag(name, tag) for name, tag in tags.items()), key=lambda tag: tag.name))


def _tag(name: str, tag: telemetry.CustomTag | ProxyTag) -> Tag:
    if tag.environment is not None:
        return Tag(name, "environment", tag.environment.name, tag.environment.default_value)
    if tag.header is not None:
        return Tag(name, "header", tag.header.name, tag.header.default_value)
    if isinstance(tag, telemetry.CustomTag) and tag.formatter is not None:
        return Tag(name, "formatter", tag.formatter.value)
    return Tag(name, "literal", tag.literal.value if tag.literal else "")
