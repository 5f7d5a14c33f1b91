"""What workloads report: Telemetries and MeshConfig merged, for each direction of a workload's traffic.

A workload has what the oldest Telemetry for all of the root namespace says, over it the oldest for all of its own
namespace, over that each that selects it (Istio: pilot/pkg/model/telemetry.go). Where Istio leaves a setting without
effect because no provider is named beside it, it holds here for the providers in force (docs/differences.md).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from pilotfish.api.errors import FieldError, Invalid
from pilotfish.api.istio_types import PolicyTargetReference
from pilotfish.api.proxyconfig import ACCESS_LOG_SERVICE
from pilotfish.api.telemetry import AccessLogging, ModeSelector, Telemetry, TelemetrySpec
from pilotfish.mesh import providers, reporting
from pilotfish.mesh.meshconfig import CONFIG_MAP, MeshConfig
from pilotfish.mesh.metric_rules import merged_metrics
from pilotfish.mesh.records import Labels
from pilotfish.mesh.reporting import AccessLog, Collector, FileLog, HttpLogService, LogSink, Metrics, Reporting
from pilotfish.mesh.spans import merged_tracing

GATEWAY_NAME = "gateway.networking.k8s.io/gateway-name"
"""The label of a gateway's pods, which targetRefs are about."""
_GATEWAY = ("gateway.networking.k8s.io", "Gateway")

MESH_LOG, MESH_LOG_SERVICE = "", "\0service"
"""The providers that MeshConfig's accessLogFile and enableEnvoyAccessLogService are, which have no names that anybody
could write.
"""
_LOG_SERVICE = HttpLogService(Collector(cluster=ACCESS_LOG_SERVICE), "http_envoy_accesslog")


class Directions(NamedTuple):
    """What a workload reports of the traffic that it sends, and of what it receives."""

    client: Reporting
    server: Reporting


class Telemetries:
    """All Telemetries, to be found by the workloads that they are for."""

    def __init__(self) -> None:
        self._of: dict[str, dict[str, Telemetry]] = {}

    def put(self, telemetry: Telemetry) -> None:
        self._of.setdefault(telemetry.namespace, {})[telemetry.name] = telemetry

    def drop(self, telemetry: Telemetry) -> None:
        held = self._of.get(telemetry.namespace, {})
        held.pop(telemetry.name, None)
        if not held:
            self._of.pop(telemetry.namespace, None)

    @property
    def selecting(self) -> bool:
        """Whether any tells workloads apart by their labels."""
        return any(not _for_all(telemetry.spec) for held in self._of.values() for telemetry in held.values())

    def applying(self, namespace: str, labels: Labels, root_namespace: str) -> tuple[TelemetrySpec, ...]:
        """What is for a workload, from the most general to the most special."""
        found = [self._of_all(root_namespace)]
        if namespace != root_namespace:
            found.append(self._of_all(namespace))
        found += [t.spec for t in self._oldest_first(namespace) if not _for_all(t.spec) and _selects(t.spec, labels)]
        return tuple(spec for spec in found if spec is not None)

    def _of_all(self, namespace: str) -> TelemetrySpec | None:
        return next((t.spec for t in self._oldest_first(namespace) if _for_all(t.spec)), None)

    def _oldest_first(self, namespace: str) -> list[Telemetry]:
        held = self._of.get(namespace, {}).values()
        return sorted(held, key=lambda t: (t.metadata.creation_timestamp or "", t.name))


def _for_all(spec: TelemetrySpec) -> bool:
    return not (spec.selector and spec.selector.match_labels) and not _targets(spec)


def _targets(spec: TelemetrySpec) -> tuple[PolicyTargetReference, ...]:
    return spec.target_refs or ((spec.target_ref,) if spec.target_ref else ())


def _selects(spec: TelemetrySpec, labels: Labels) -> bool:
    """By target for the pods of a gateway, by labels for all."""
    targets = _targets(spec)
    if targets:
        name = dict(labels).get(GATEWAY_NAME)
        return any((t.group, t.kind) == _GATEWAY and t.name == name and not t.namespace for t in targets)
    wanted = spec.selector.match_labels if spec.selector else {}
    return wanted.items() <= dict(labels).items()


class Reports:
    """What workloads report under one MeshConfig, in which `environment` may be named (see providers.tracer).

    Raises Invalid for an `accessLogFormat` that is to be JSON and is no object.
    """

    def __init__(self, mesh: MeshConfig, environment: Mapping[str, str] = MappingProxyType({})) -> None:
        self._mesh = mesh
        self._environment = environment
        self._known = providers.with_built_in(mesh.extension_providers)
        self._mesh_log = _mesh_log(mesh, mesh.access_log_file) if mesh.access_log_file else None
        self._built_in_log = _mesh_log(mesh, "")
        of_mesh = ((MESH_LOG, mesh.access_log_file), (MESH_LOG_SERVICE, mesh.enable_envoy_access_log_service))
        self._of_mesh = tuple(name for name, wanted in of_mesh if wanted)

    def directions(self, applying: Sequence[TelemetrySpec]) -> Directions:
        """What a workload reports to which these Telemetries apply, the most general first."""
        return Directions(self._reporting(applying, "CLIENT"), self._reporting(applying, "SERVER"))

    def _reporting(self, applying: Sequence[TelemetrySpec], mode: str) -> Reporting:
        metrics = self._metrics(applying, mode)
        traced = [tracing for spec in applying for tracing in spec.tracing]
        return Reporting(
            logs=tuple(self._logs([spec.access_logging for spec in applying if spec.access_logging], mode)),
            metrics=metrics,
            tracing=merged_tracing(traced, self._mesh, self._known, mode, self._environment),
            peers=metrics is not None or bool(self._mesh.default_providers.metrics),
        )

    def _metrics(self, applying: Sequence[TelemetrySpec], mode: str) -> Metrics | None:
        prometheus = {name for name, provider in self._known.items() if provider.prometheus is not None}
        given = [metrics for spec in applying for metrics in spec.metrics]
        return merged_metrics(given, self._mesh.default_providers.metrics, prometheus, mode)

    def _logs(self, levels: Sequence[Sequence[AccessLogging]], mode: str) -> Iterator[AccessLog]:
        in_force = _merged_logs(levels, self._mesh.default_providers.access_logging or self._of_mesh, mode)
        for name, expression in sorted(in_force.items()):
            sink = self._sink(name)
            if sink is not None:
                yield AccessLog(sink, expression)

    def _sink(self, name: str) -> LogSink | None:
        if name == MESH_LOG:
            return self._mesh_log
        if name == MESH_LOG_SERVICE:
            return _LOG_SERVICE
        provider = self._known.get(name.lower())
        if provider is None:
            return None
        file = provider.envoy_file_access_log
        if file is not None and provider.name == providers.BUILT_IN_LOG and not (
            file.log_format or file.omit_empty_values
        ):  # fmt: skip
            return msgspec.structs.replace(self._built_in_log, path=file.path)
        return providers.log_sink(provider)


def _merged_logs(levels: Iterable[Sequence[AccessLogging]], defaults: Sequence[str], mode: str) -> Mapping[str, str]:
    """The providers in force and the expression of each: those that the most special level names, else the defaults.

    An entry that names none is about those that the one before it names.
    """
    state: dict[str, str | None] = dict.fromkeys(defaults, "")
    parent = tuple(defaults)
    for entries in levels:
        relevant = [entry for entry in entries if matches(entry.match, mode)]
        named = dict.fromkeys(provider.name for entry in relevant for provider in entry.providers)
        if named:
            state = {name: state.get(name, "") for name in named}
        for entry in entries:
            own = tuple(provider.name for provider in entry.providers)
            parent = own or tuple(name for name in parent if name in state) or tuple(state)
            if not matches(entry.match, mode):
                continue
            for name in parent:
                if name not in state:
                    continue
                if entry.disabled:
                    state[name] = None
                elif entry.filter or own:
                    state[name] = entry.filter.expression if entry.filter else ""
                else:
                    state[name] = state[name] or ""
    return {name: expression for name, expression in state.items() if expression is not None}


def matches(selector: ModeSelector | None, mode: str) -> bool:
    """Whether a setting is for this direction, CLIENT or SERVER."""
    return selector is None or selector.mode in ("CLIENT_AND_SERVER", mode)


def _mesh_log(mesh: MeshConfig, path: str) -> FileLog:
    """A log in the mesh's own format."""
    if mesh.access_log_encoding == "JSON":
        labels = _json_labels(mesh.access_log_format)
        return FileLog(path, json=json.dumps(labels, sort_keys=True))
    return FileLog(path, providers.as_line(mesh.access_log_format))


def _json_labels(text: str) -> Mapping[str, object]:
    if not text:
        return dict(reporting.JSON_FORMAT)
    try:
        return msgspec.json.decode(text, type=dict[str, object])
    except msgspec.DecodeError as error:
        fault = FieldError(path="accessLogFormat", message=f"with encoding JSON, a JSON object is needed: {error}")
        raise Invalid.of("MeshConfig", "", CONFIG_MAP, [fault]) from None
