"""Metrics of several Telemetries merged into rules for each of Istio's standard metrics (Istio: mergeMetrics)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from pilotfish.api import cel
from pilotfish.api.telemetry import Metrics, MetricSelector, MetricsOverrides
from pilotfish.mesh import reporting
from pilotfish.mesh.reporting import MetricRule

STANDARD = {
    "REQUEST_COUNT": "requests_total",
    "REQUEST_DURATION": "request_duration_milliseconds",
    "REQUEST_SIZE": "request_bytes",
    "RESPONSE_SIZE": "response_bytes",
    "TCP_OPENED_CONNECTIONS": "tcp_connections_opened_total",
    "TCP_CLOSED_CONNECTIONS": "tcp_connections_closed_total",
    "TCP_SENT_BYTES": "tcp_sent_bytes_total",
    "TCP_RECEIVED_BYTES": "tcp_received_bytes_total",
    "GRPC_REQUEST_MESSAGES": "request_messages_total",
    "GRPC_RESPONSE_MESSAGES": "response_messages_total",
}
"""What Telemetry calls metrics, and their names without "istio_"."""


def merged_metrics(
    given: Sequence[Metrics], defaults: Sequence[str], prometheus: Collection[str], mode: str
) -> reporting.Metrics | None:
    """What a workload counts, CLIENT or SERVER; None: nothing.

    The last that names providers says which are in force. `prometheus` are the providers that can be reported to, in
    lower case.
    """
    in_force = tuple(defaults)
    for metrics in given:
        in_force = tuple(provider.name for provider in metrics.providers) or in_force
    provider = next((name for name in in_force if name.lower() in prometheus), None)
    if provider is None:
        return None
    rules: dict[str, _Rule] = {}
    all_dropped = False
    parent = tuple(defaults)
    for metrics in given:
        parent = tuple(p.name for p in metrics.providers) or parent
        if provider not in parent:
            continue
        for override in metrics.overrides:
            match = override.match or MetricSelector()
            if match.mode not in ("CLIENT_AND_SERVER", mode):
                continue
            if override.disabled and match.custom_metric is None and match.metric in (None, "ALL_METRICS"):
                all_dropped = True
                continue
            all_dropped = False  # a namespace switches on what the root namespace switched off
            for metric in _matched(match):
                rules.setdefault(metric, _Rule()).take(override)
    if all_dropped:
        return None
    return reporting.Metrics(tuple(rule.record(metric) for metric, rule in sorted(rules.items())))


def _matched(match: MetricSelector) -> Sequence[str]:
    if match.custom_metric is not None:
        return (match.custom_metric.removeprefix("istio_"),)
    if match.metric in (None, "ALL_METRICS"):
        return tuple(STANDARD.values())
    return (STANDARD[match.metric],)


class _Rule:
    """Overrides of one metric, the later over the earlier."""

    def __init__(self) -> None:
        self._dropped = False
        self._tags: dict[str, str | None] = {}

    def take(self, override: MetricsOverrides) -> None:
        if override.disabled is not None:
            self._dropped = override.disabled
        for name, tag in override.tag_overrides.items():
            if name and not cel.fault(tag.value or "''"):
                self._tags[name] = None if tag.operation == "REMOVE" else tag.value

    def record(self, metric: str) -> MetricRule:
        return MetricRule(metric, self._dropped, tuple(sorted(self._tags.items(), key=lambda tag: tag[0])))
