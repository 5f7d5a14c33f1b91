"""What the node agent asks of the control plane in the name of its pods, and tells it of them."""

from __future__ import annotations

from collections.abc import Mapping

import grpc
from envoy.config.core.v3 import base_pb2
from envoy.config.endpoint.v3 import load_report_pb2
from envoy.service.load_stats.v3 import lrs_pb2
from google.protobuf import json_format

from pilotfish.api.errors import ApiError, ServiceUnavailable
from pilotfish.node import certificates
from pilotfish.node.proxy import Certificate
from pilotfish.node.usage import Load, Node

REPORT_METHOD = "/envoy.service.load_stats.v3.LoadReportingService/StreamLoadStats"
REPORT_TIMEOUT = 10.0


class ControlPlane:
    """The control plane at `target` (host:port); `credentials` carry the node's own certificate."""

    def __init__(self, target: str, credentials: grpc.ChannelCredentials) -> None:
        self._target = target
        self._credentials = credentials
        options = [("grpc.ssl_target_name_override", certificates.SERVER_NAME)]
        self._channel = grpc.aio.secure_channel(target, credentials, options=options)

    async def close(self) -> None:
        await self._channel.close()

    async def certificate(self, identity: str) -> Certificate:
        """A certificate for an identity (a SPIFFE URI). Raises ApiError."""
        issued = await certificates.obtain(self._target, self._credentials, identity)
        return Certificate(issued.chain.decode(), issued.key.decode(), issued.root.decode())

    async def report(self, node: Node, loads: Mapping[str, Load]) -> float:
        """Tell what a proxy uses (`usage.Report`), as a load report. Raises ApiError."""
        request = lrs_pb2.LoadStatsRequest(
            node=json_format.ParseDict(dict(node), base_pb2.Node()),
            cluster_stats=[_stats(name, load) for name, load in loads.items()],
        )
        stream: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = self._channel.stream_stream(REPORT_METHOD)
        try:
            call = stream(iter([request.SerializeToString()]), timeout=REPORT_TIMEOUT)
            seconds = 0.0
            async for answer in call:
                interval = lrs_pb2.LoadStatsResponse.FromString(answer).load_reporting_interval
                seconds = interval.ToMilliseconds() / 1000
        except grpc.aio.AioRpcError as error:
            what = f"no load report for {node['id']} to {self._target}: {error.details()}"
            away = error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
            raise (ServiceUnavailable if away else ApiError)(what) from error
        return seconds


def _stats(name: str, load: Load) -> load_report_pb2.ClusterStats:
    place = load_report_pb2.UpstreamLocalityStats(
        total_issued_requests=load.begun, total_requests_in_progress=load.in_progress
    )
    return load_report_pb2.ClusterStats(cluster_name=name, upstream_locality_stats=[place])
