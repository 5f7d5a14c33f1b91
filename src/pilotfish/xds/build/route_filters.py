"""What routes ask of filters that do nothing by themselves: faults, and CORS."""

from __future__ import annotations

from collections.abc import Iterator

from envoy.config.core.v3 import base_pb2
from envoy.extensions.filters.http.cors.v3 import cors_pb2
from envoy.extensions.filters.http.fault.v3 import fault_pb2
from envoy.type.v3 import percent_pb2
from google.protobuf.message import Message

from pilotfish.mesh.records import Record
from pilotfish.xds.build import common
from pilotfish.xds.build.texts import Text, string_matcher

EVERY = 1_000_000
"""All requests: shares are counted in millionths, as finely as Envoy does."""


class Delay(Record):
    """A share of the requests waits for so many seconds."""

    seconds: float
    share: int


class Abort(Record):
    """A share of the requests is answered by the proxy: with an HTTP status, or for 0 with a gRPC one."""

    http_status: int
    grpc_status: int
    share: int


class Fault(Record):
    """What goes wrong on purpose."""

    delay: Delay | None = None
    abort: Abort | None = None


class Cors(Record):
    """What browsers are told that pages of other origins may do. `max_age` in seconds; None says nothing of it.

    Preflight requests of other origins go on to the server with `forward_unmatched`.
    """

    origins: tuple[Text, ...] = ()
    methods: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    exposed: tuple[str, ...] = ()
    max_age: int | None = None
    credentials: bool | None = None
    forward_unmatched: bool = True


def filter_configs(fault: Fault | None, cors: Cors | None) -> Iterator[tuple[str, Message]]:
    """The names of the filters that a route configures, each with its configuration."""
    if fault is not None:
        yield "envoy.filters.http.fault", _fault(fault)
    if cors is not None:
        yield "envoy.filters.http.cors", _cors(cors)


def fraction(share: int) -> percent_pb2.FractionalPercent:
    """A share in millionths."""
    return percent_pb2.FractionalPercent(numerator=share, denominator=percent_pb2.FractionalPercent.MILLION)


def _fault(spec: Fault) -> fault_pb2.HTTPFault:
    found = fault_pb2.HTTPFault()
    if spec.delay is not None:
        found.delay.fixed_delay.CopyFrom(common.duration(spec.delay.seconds))
        found.delay.percentage.CopyFrom(fraction(spec.delay.share))
    if spec.abort is not None:
        found.abort.percentage.CopyFrom(fraction(spec.abort.share))
        if spec.abort.http_status:
            found.abort.http_status = spec.abort.http_status
        else:
            found.abort.grpc_status = spec.abort.grpc_status
    return found


def _cors(spec: Cors) -> cors_pb2.CorsPolicy:
    found = cors_pb2.CorsPolicy(
        allow_origin_string_match=map(string_matcher, spec.origins),
        allow_methods=",".join(spec.methods),
        allow_headers=",".join(spec.headers),
        expose_headers=",".join(spec.exposed),
        max_age="" if spec.max_age is None else str(spec.max_age),
        filter_enabled=base_pb2.RuntimeFractionalPercent(default_value=fraction(EVERY)),
    )
    if spec.credentials is not None:
        found.allow_credentials.value = spec.credentials
    found.forward_not_matching_preflights.value = spec.forward_unmatched
    return found
