"""Istio's standard metrics, counted by Envoy's stats access logger (docs/telemetry.md).

Labels come from the environment of the proxy (its own end), the metadata of the endpoint (what the client knows of the
server), dynamic metadata that a filter took from the peer's header (what the server knows of the client), and the
metadata of the cluster (the service). What none of them tells is "unknown".
"""

from __future__ import annotations

import enum
import functools
import json
from collections.abc import Mapping

from envoy.config.accesslog.v3 import accesslog_pb2
from envoy.config.route.v3 import route_components_pb2
from envoy.data.accesslog.v3.accesslog_pb2 import AccessLogType
from envoy.extensions.access_loggers.stats.v3 import stats_pb2

from pilotfish.api.peer import PEER_FIELDS, UNKNOWN, Variable
from pilotfish.mesh.reporting import MetricRule, Metrics
from pilotfish.xds.build import later, names
from pilotfish.xds.build.access_log import both, logger, of_type

PEER = "pilotfish.peer"
"""The namespace of dynamic metadata that holds the client's identity, under the key "source"."""

_GRPC = "application/grpc"
_FAILED_TO_CONNECT = ("UF", "UH", "UO", "NR", "NC", "URX")


class Reporter(enum.StrEnum):
    """Whose side of a request or connection is counted, in Istio's words."""

    CLIENT = "source"
    SERVER = "destination"


Labels = Mapping[str, str]
"""A format for each label."""


def request_metrics(
    metrics: Metrics | None, reporter: Reporter, *, secure: bool = False
) -> list[accesslog_pb2.AccessLog]:
    """What counts requests: one logger for gRPC, one for the rest. `secure`: the server's end of mutual TLS."""
    if metrics is None:
        return []
    return [_copy(each) for each in _request_loggers(metrics, reporter, secure) if each is not None]


def connection_metrics(
    metrics: Metrics | None, reporter: Reporter, *, secure: bool = False
) -> list[accesslog_pb2.AccessLog]:
    """What counts connections: one logger for those that begin, one for those that end with their bytes.

    The proxy must log when a connection begins, too.
    """
    if metrics is None:
        return []
    return [_copy(each) for each in _connection_loggers(metrics, reporter, secure) if each is not None]


def _copy(log: accesslog_pb2.AccessLog) -> accesslog_pb2.AccessLog:
    found = accesslog_pb2.AccessLog()
    found.CopyFrom(log)
    return found


@functools.lru_cache(maxsize=64)
def _request_loggers(metrics: Metrics, reporter: Reporter, secure: bool) -> tuple[accesslog_pb2.AccessLog | None, ...]:
    found = []
    for protocol in ("http", "grpc"):
        counting = _Counting(metrics, {**_request_labels(reporter, secure), "request_protocol": protocol})
        counting.count("requests_total")
        counting.distribute("request_duration_milliseconds", _MILLISECONDS, "%DURATION%")
        counting.distribute("request_bytes", _BYTES, "%BYTES_RECEIVED%")
        counting.distribute("response_bytes", _BYTES, "%BYTES_SENT%")
        log = counting.logger()
        if log is not None:
            log.filter.CopyFrom(_speaks_grpc(negate=protocol != "grpc"))
        found.append(log)
    return tuple(found)


@functools.lru_cache(maxsize=64)
def _connection_loggers(
    metrics: Metrics, reporter: Reporter, secure: bool
) -> tuple[accesslog_pb2.AccessLog | None, ...]:
    labels = {**_labels(reporter, secure, http=False), "request_protocol": "tcp"}
    beginning, end = _Counting(metrics, labels), _Counting(metrics, labels)
    beginning.count("tcp_connections_opened_total")
    end.count("tcp_connections_closed_total")
    end.count("tcp_received_bytes_total", "%BYTES_RECEIVED%")
    end.count("tcp_sent_bytes_total", "%BYTES_SENT%")
    opened, closed = beginning.logger(), end.logger()
    if opened is not None:
        opened.filter.CopyFrom(_begun())
    if closed is not None:
        closed.filter.CopyFrom(of_type(AccessLogType.TcpConnectionEnd))
    return opened, closed


def _begun() -> accesslog_pb2.AccessLogFilter:
    """Once for each connection: when there is one upstream, or at the end where none was made."""
    never = accesslog_pb2.AccessLog(filter=of_type(AccessLogType.TcpConnectionEnd))
    both(
        never,
        accesslog_pb2.AccessLogFilter(response_flag_filter=accesslog_pb2.ResponseFlagFilter(flags=_FAILED_TO_CONNECT)),
    )
    connected = of_type(AccessLogType.TcpUpstreamConnected)
    return accesslog_pb2.AccessLogFilter(or_filter=accesslog_pb2.OrFilter(filters=[connected, never.filter]))


def _speaks_grpc(*, negate: bool) -> accesslog_pb2.AccessLogFilter:
    matcher = route_components_pb2.HeaderMatcher(name="content-type", invert_match=negate)
    matcher.string_match.prefix = _GRPC
    matcher.treat_missing_header_as_empty = True
    return accesslog_pb2.AccessLogFilter(header_filter=accesslog_pb2.HeaderFilter(header=matcher))


_MILLISECONDS = stats_pb2.Config.Histogram.Unit.Milliseconds
_BYTES = stats_pb2.Config.Histogram.Unit.Bytes


class _Counting:
    """A stats logger in the making: metrics with the same labels, except where rules say otherwise."""

    def __init__(self, metrics: Metrics, labels: Labels) -> None:
        self._metrics = metrics
        self._labels = labels
        self._config = stats_pb2.Config()

    def count(self, metric: str, value: str = "") -> None:
        """Count occurrences, or sum up a number."""
        rule = self._metrics.rule(metric)
        if rule.dropped:
            return
        counter = self._config.counters.add(stat=self._stat(rule), value_format=value)
        if not value:
            counter.value_fixed.value = 1

    def distribute(self, metric: str, unit: stats_pb2.Config.Histogram.Unit.ValueType, value: str) -> None:
        rule = self._metrics.rule(metric)
        if not rule.dropped:
            self._config.histograms.add(stat=self._stat(rule), unit=unit, value_format=value)

    def logger(self) -> accesslog_pb2.AccessLog | None:
        """The logger; None where it would count nothing."""
        if not self._config.counters and not self._config.histograms:
            return None
        return logger("envoy.access_loggers.stats", later.with_message(self._config, later.STATS_SCOPE))

    def _stat(self, rule: MetricRule) -> stats_pb2.Config.Stat:
        labels = dict(self._labels)
        for name, expression in rule.tags:
            if expression is None:
                labels.pop(name, None)
            else:
                labels[name] = _evaluated(expression)
        tags = [stats_pb2.Config.Tag(name=name, value_format=value) for name, value in labels.items()]
        return stats_pb2.Config.Stat(name=f"istio_{rule.metric}", tags=tags)


# Labels


def _request_labels(reporter: Reporter, secure: bool) -> dict[str, str]:
    return {
        **_labels(reporter, secure, http=True),
        "response_code": "%RESPONSE_CODE%",
        "grpc_response_status": "%GRPC_STATUS_NUMBER%",
    }


def _labels(reporter: Reporter, secure: bool, *, http: bool) -> dict[str, str]:
    """Istio's labels of every metric. Host headers name services that the mesh does not know, to clients alone."""
    client = reporter is Reporter.CLIENT
    source = _own() if client else _peer() if http else _nobody()
    destination = _endpoint() if client else _own()
    authority = [("REQ", ":authority")] if client and http else []
    return {
        "reporter": reporter.value,
        **{f"source_{name}": value for name, value in source.items()},
        "source_principal": _first(("UPSTREAM_LOCAL_URI_SAN" if client else "DOWNSTREAM_PEER_URI_SAN", "")),
        **{f"destination_{name}": value for name, value in destination.items()},
        "destination_principal": _first(("UPSTREAM_PEER_URI_SAN" if client else "DOWNSTREAM_LOCAL_URI_SAN", "")),
        "destination_service": _first(("METADATA", f"CLUSTER:{names.SERVICE_METADATA}:host"), *authority),
        "destination_service_name": _first(("METADATA", f"CLUSTER:{names.SERVICE_METADATA}:name"), *authority),
        "destination_service_namespace": _first(("METADATA", f"CLUSTER:{names.SERVICE_METADATA}:namespace")),
        "response_flags": "%RESPONSE_FLAGS%",
        "connection_security_policy": UNKNOWN if client else "mutual_tls" if secure else "none",
    }


_LABEL_OF = {
    "workload": "workload",
    "namespace": "workload_namespace",
    "app": "app",
    "version": "version",
    "service": "canonical_service",
    "revision": "canonical_revision",
    "cluster": "cluster",
}
"""What a label of Istio's is called, without "source_" or "destination_", by the field of a workload's identity."""


def _own() -> dict[str, str]:
    return {_LABEL_OF[field]: f"%ENVIRONMENT({variable})%" for field, variable in PEER_FIELDS.items()}


def _endpoint() -> dict[str, str]:
    return {
        label: _first(("METADATA", f"UPSTREAM_HOST:{names.WORKLOAD_METADATA}:{field}"))
        for field, label in _LABEL_OF.items()
    }


def _peer() -> dict[str, str]:
    return {label: _first(("DYNAMIC_METADATA", f"{PEER}:source:{field}")) for field, label in _LABEL_OF.items()}


def _nobody() -> dict[str, str]:
    """A client behind bytes, of which its connection tells no more than its certificate."""
    return dict.fromkeys(_LABEL_OF.values(), UNKNOWN)


def _evaluated(expression: str) -> str:
    """The value of a CEL expression; a constant is itself."""
    quote = expression[:1]
    if quote in ("'", '"') and len(expression) > 1 and expression.endswith(quote):
        inner = expression[1:-1]
        if quote not in inner and "\\" not in inner:
            return inner.replace("%", "%%") or UNKNOWN
    return _first(("CEL", expression))


def _first(*operators: tuple[str, str]) -> str:
    """The first of several commands of Envoy's formats (name, parameter) that gives a value; else "unknown"."""
    chosen = [{"command": name, "param": param} if param else name for name, param in operators]
    chosen.append({"command": "ENVIRONMENT", "param": Variable.UNKNOWN.value})
    text = json.dumps({"operators": chosen}, separators=(",", ":"))
    # A command ends at the first ")": within a JSON text it can be written otherwise.
    return f"%COALESCE({text.replace(')', chr(92) + 'u0029')})%"
