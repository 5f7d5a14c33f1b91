"""Access logs: a line a request, and a line a connection that found no filter chain."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Sequence

import msgspec
from envoy.config.accesslog.v3 import accesslog_pb2
from envoy.config.core.v3 import (
    base_pb2,
    config_source_pb2,
    extension_pb2,
    grpc_service_pb2,
    substitution_format_string_pb2,
)
from envoy.data.accesslog.v3.accesslog_pb2 import AccessLogType
from envoy.extensions.access_loggers.file.v3 import file_pb2
from envoy.extensions.access_loggers.filters.cel.v3 import cel_pb2
from envoy.extensions.access_loggers.grpc.v3 import als_pb2
from envoy.extensions.access_loggers.open_telemetry.v3 import logs_service_pb2
from envoy.extensions.formatter.req_without_query.v3 import req_without_query_pb2
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from opentelemetry.proto.common.v1 import common_pb2

from pilotfish.mesh.reporting import AccessLog, Collector, FileLog, HttpLogService, OtelLog, TcpLogService
from pilotfish.xds.build import common, later, names


def access_logs(logs: Iterable[AccessLog]) -> list[accesslog_pb2.AccessLog]:
    """The logs of an HTTP connection manager or TCP proxy."""
    return [_built(log) for log in logs]


def tcp_access_logs(logs: Iterable[AccessLog]) -> list[accesslog_pb2.AccessLog]:
    """The logs of a TCP proxy that speaks up when a connection begins, too: only of connections that have ended."""
    found = access_logs(logs)
    for each in found:
        both(each, of_type(AccessLogType.TcpConnectionEnd))
    return found


def of_type(occasion: AccessLogType.ValueType) -> accesslog_pb2.AccessLogFilter:
    """The condition that a line is about this occasion."""
    return accesslog_pb2.AccessLogFilter(log_type_filter=accesslog_pb2.LogTypeFilter(types=[occasion]))


def of_connections(logs: Iterable[AccessLog]) -> list[AccessLog]:
    """The same logs for connections: to the proxy's own access log service they have a form of theirs (Istio)."""
    return [
        msgspec.structs.replace(log, sink=TcpLogService(log.sink.collector, "tcp_envoy_accesslog"))
        if isinstance(log.sink, HttpLogService) and log.sink.collector.cluster
        else log
        for log in logs
    ]


def listener_access_logs(logs: Iterable[AccessLog]) -> list[accesslog_pb2.AccessLog]:
    """The log of a listener: only connections without a route (flag NR), which no filter gets to log (as in Istio)."""
    found = access_logs(of_connections(logs))
    for each in found:
        both(each, accesslog_pb2.AccessLogFilter(response_flag_filter=accesslog_pb2.ResponseFlagFilter(flags=["NR"])))
    return found


def both(log: accesslog_pb2.AccessLog, condition: accesslog_pb2.AccessLogFilter) -> None:
    """Have a log speak only where a condition holds, besides what it asks for already."""
    if not log.HasField("filter"):
        log.filter.CopyFrom(condition)
        return
    given = accesslog_pb2.AccessLogFilter()
    given.CopyFrom(log.filter)
    log.filter.CopyFrom(accesslog_pb2.AccessLogFilter(and_filter=accesslog_pb2.AndFilter(filters=[condition, given])))


@functools.lru_cache(maxsize=256)
def _cached(log: AccessLog) -> accesslog_pb2.AccessLog:
    sink = log.sink
    match sink:
        case FileLog():
            found = logger("envoy.access_loggers.file", _file(sink))
        case HttpLogService():
            found = logger("envoy.access_loggers.http_grpc", _http_service(sink))
        case TcpLogService():
            config = als_pb2.TcpGrpcAccessLogConfig(common_config=_service(sink))
            found = logger("envoy.access_loggers.tcp_grpc", config)
        case OtelLog():
            found = logger("envoy.access_loggers.open_telemetry", _otel(sink))
    if log.expression:
        condition = found.filter.extension_filter
        condition.name = "envoy.access_loggers.extension_filters.cel"
        condition.typed_config.CopyFrom(common.any_of(cel_pb2.ExpressionFilter(expression=log.expression)))
    return found


def _built(log: AccessLog) -> accesslog_pb2.AccessLog:
    found = accesslog_pb2.AccessLog()
    found.CopyFrom(_cached(log))
    return found


def logger(name: str, config: Message) -> accesslog_pb2.AccessLog:
    found = accesslog_pb2.AccessLog(name=name)
    found.typed_config.CopyFrom(common.any_of(config))
    return found


def _file(log: FileLog) -> file_pb2.FileAccessLog:
    if log.json:
        fields = ParseDict(json.loads(log.json), Struct())
        how = substitution_format_string_pb2.SubstitutionFormatString(json_format=fields)
    else:
        how = substitution_format_string_pb2.SubstitutionFormatString(
            text_format_source=base_pb2.DataSource(inline_string=log.text)
        )
    how.omit_empty_values = log.omit_empty
    how.formatters.extend(_formatters(log.json or log.text))
    return file_pb2.FileAccessLog(path=log.path, log_format=how)


def _formatters(text: str) -> list[extension_pb2.TypedExtensionConfig]:
    """The extension behind an operator that Envoy does not know by itself."""
    if "%REQ_WITHOUT_QUERY" not in text:
        return []
    from_envoy = common.any_of(req_without_query_pb2.ReqWithoutQuery())
    return [extension_pb2.TypedExtensionConfig(name="envoy.formatter.req_without_query", typed_config=from_envoy)]


def _http_service(log: HttpLogService) -> als_pb2.HttpGrpcAccessLogConfig:
    return als_pb2.HttpGrpcAccessLogConfig(
        common_config=_service(log),
        additional_request_headers_to_log=log.request_headers,
        additional_response_headers_to_log=log.response_headers,
        additional_response_trailers_to_log=log.response_trailers,
    )


def _service(log: HttpLogService | TcpLogService) -> als_pb2.CommonGrpcAccessLogConfig:
    return als_pb2.CommonGrpcAccessLogConfig(
        log_name=log.name,
        grpc_service=grpc_service(log.collector),
        transport_api_version=config_source_pb2.ApiVersion.V3,
        filter_state_objects_to_log=log.filter_state,
    )


def grpc_service(collector: Collector) -> grpc_service_pb2.GrpcService:
    """gRPC to a host of the mesh, through its cluster; or to what a cluster of the proxy's bootstrap leads to."""
    return grpc_service_pb2.GrpcService(
        envoy_grpc=grpc_service_pb2.GrpcService.EnvoyGrpc(
            cluster_name=names.leading_to(collector), authority=collector.host
        )
    )


def _otel(log: OtelLog) -> logs_service_pb2.OpenTelemetryAccessLogConfig:
    config = logs_service_pb2.OpenTelemetryAccessLogConfig(
        disable_builtin_labels=True,
        body=common_pb2.AnyValue(string_value=log.text),
        attributes=common_pb2.KeyValueList(values=_attributes(log.labels)),
        formatters=_formatters(log.text + json.dumps(log.labels)),
    )
    later.with_message(config, later.OTEL_GRPC_SERVICE, grpc_service(log.collector))
    return later.with_text(config, later.OTEL_LOG_NAME, log.name)


def _attributes(labels: Sequence[tuple[str, str]]) -> list[common_pb2.KeyValue]:
    return [common_pb2.KeyValue(key=key, value=common_pb2.AnyValue(string_value=value)) for key, value in labels]
