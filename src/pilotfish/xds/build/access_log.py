"""Access logs: a line a request, and a line a connection that found no filter chain."""

from __future__ import annotations

from envoy.config.accesslog.v3 import accesslog_pb2
from envoy.config.core.v3 import base_pb2, substitution_format_string_pb2
from envoy.extensions.access_loggers.file.v3 import file_pb2
from google.protobuf.struct_pb2 import Struct, Value

from pilotfish.xds.build import common
from pilotfish.xds.settings import AccessLog


def access_logs(log: AccessLog | None) -> list[accesslog_pb2.AccessLog]:
    """The log of an HTTP connection manager or TCP proxy: one, or none where the mesh names no file."""
    return [_file(log)] if log else []


def listener_access_logs(log: AccessLog | None) -> list[accesslog_pb2.AccessLog]:
    """The log of a listener: only connections without a route (flag NR), which no filter gets to log (as in Istio)."""
    found = access_logs(log)
    for each in found:
        each.filter.response_flag_filter.flags.append("NR")
    return found


def _file(log: AccessLog) -> accesslog_pb2.AccessLog:
    if log.json:
        fields = Struct(fields={key: Value(string_value=text) for key, text in log.json})
        how = substitution_format_string_pb2.SubstitutionFormatString(json_format=fields)
    else:
        how = substitution_format_string_pb2.SubstitutionFormatString(
            text_format_source=base_pb2.DataSource(inline_string=log.text)
        )
    found = accesslog_pb2.AccessLog(name="envoy.access_loggers.file")
    found.typed_config.CopyFrom(common.any_of(file_pb2.FileAccessLog(path=log.path, log_format=how)))
    return found
