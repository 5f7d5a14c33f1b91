"""The load reporting service (LRS): which clusters proxies use, as node agents report it.

https://www.envoyproxy.io/docs/envoy/latest/api-v3/service/load_stats/v3/lrs.proto. A client tells who it reports for
with every message, so that a node agent needs no stream for each of its proxies: it opens one for a report, is told
when the next is due, and goes. Envoy could report by itself, but counts by endpoint: what is in progress to an endpoint
that is gone, it does not tell of.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from envoy.service.load_stats.v3 import lrs_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError

from pilotfish.xds.build import names
from pilotfish.xds.node import Peer, Refused, authorised, parse_node, peer_of
from pilotfish.xds.source import ProxyNode
from pilotfish.xds.trust import TrustDomains

log = logging.getLogger("pilotfish.xds")

SERVICE = "envoy.service.load_stats.v3.LoadReportingService"

Interval = Callable[[ProxyNode], float]
"""How many seconds pass between the reports for a proxy; 0: nobody asks for any."""
Used = Callable[[ProxyNode, frozenset[str]], None]
"""Called with a proxy and the clusters, by their names in statistics, that it has used since the report before."""
Context = grpc.aio.ServicerContext[bytes, bytes]


def load_report_service(trusted: TrustDomains | None, interval: Interval, used: Used) -> grpc.GenericRpcHandler:
    """The service, to be added to a gRPC server. `trusted` are those whose certificates count; None lets anyone in (for
    tests). A stream for a proxy about which nobody asks is ended without an answer.
    """

    async def stream(messages: AsyncIterator[bytes], context: Context) -> None:
        try:
            told: float | None = None
            async for message in messages:
                request = _parse(message)
                node = _admitted(request.node, peer_of(context), trusted)
                seconds = interval(node)
                if not seconds:
                    return
                if seconds != told:
                    told = seconds
                    await context.write(_answer(seconds))
                if request.cluster_stats:  # a client that has only just come has nothing to tell yet
                    used(node, clusters_used(request))
        except Refused as refused:
            log.warning("no load report from %s: %s", context.peer(), refused)
            await context.abort(refused.code, str(refused))

    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(stream)
    return grpc.method_handlers_generic_handler(SERVICE, {"StreamLoadStats": handler})


def clusters_used(request: Any) -> frozenset[str]:
    """The clusters of a LoadStatsRequest, by their names in statistics, with requests or connections that were begun or
    are in progress.
    """
    return frozenset(names.counted(cluster.cluster_name) for cluster in request.cluster_stats if _is_used(cluster))


def _is_used(cluster: Any) -> bool:
    places = cluster.upstream_locality_stats
    return any(place.total_issued_requests or place.total_requests_in_progress for place in places)


def _admitted(claimed: Any, peer: Peer | None, trusted: TrustDomains | None) -> ProxyNode:
    """The proxy that is reported for, by itself or by a node agent. Raises Refused."""
    node = parse_node(claimed)
    if trusted is None:
        return node
    if peer is not None and peer.node and peer.identity.trust_domain in trusted:
        return node
    return authorised(node, peer, trusted)


def _answer(seconds: float) -> bytes:
    interval = Duration()
    interval.FromMilliseconds(round(seconds * 1000))
    response: bytes = lrs_pb2.LoadStatsResponse(
        send_all_clusters=True, load_reporting_interval=interval
    ).SerializeToString()
    return response


def _parse(message: bytes) -> Any:
    try:
        return lrs_pb2.LoadStatsRequest.FromString(message)
    except DecodeError as error:
        raise Refused(grpc.StatusCode.INVALID_ARGUMENT, f"not a LoadStatsRequest: {error}") from error
