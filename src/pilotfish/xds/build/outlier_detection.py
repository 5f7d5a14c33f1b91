"""Outlier detection: when an endpoint is left out for a while (Istio: applyOutlierDetection)."""

from __future__ import annotations

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.common.matcher.v3 import matcher_pb2
from envoy.config.route.v3 import route_components_pb2
from envoy.type.matcher.v3 import string_pb2
from google.protobuf.wrappers_pb2 import UInt32Value

from pilotfish.api.durations import parse_duration
from pilotfish.api.networking.destination_rule import OutlierDetection
from pilotfish.xds.build import common


def detect_outliers(cluster: cluster_pb2.Cluster, outlier: OutlierDetection) -> None:
    """Have the cluster leave endpoints out that fail. Only failures in a row count, and no comparison of endpoints.

    Traffic is never spread over failing endpoints again because there are many of them (Envoy's panic), unless fewer
    than minHealthPercent are left.
    """
    built = cluster.outlier_detection
    built.enforcing_success_rate.value = 0
    five_xx = outlier.consecutive_5xx_errors
    _count(five_xx, built.consecutive_5xx, built.enforcing_consecutive_5xx)
    gateway = outlier.consecutive_gateway_errors
    _count(gateway, built.consecutive_gateway_failure, built.enforcing_consecutive_gateway_failure)
    if outlier.interval is not None:
        built.interval.CopyFrom(common.duration(parse_duration(outlier.interval)))
    if outlier.base_ejection_time is not None:
        built.base_ejection_time.CopyFrom(common.duration(parse_duration(outlier.base_ejection_time)))
    if outlier.max_ejection_percent:
        built.max_ejection_percent.value = outlier.max_ejection_percent
    if outlier.split_external_local_origin_errors:
        built.split_external_local_origin_errors = True
        built.enforcing_local_origin_success_rate.value = 0
        if outlier.consecutive_local_origin_failures:
            built.consecutive_local_origin_failure.value = outlier.consecutive_local_origin_failures
            built.enforcing_consecutive_local_origin_failure.value = 100
    cluster.common_lb_config.healthy_panic_threshold.value = outlier.min_health_percent


def _count(wanted: int | None, count: UInt32Value, enforcing: UInt32Value) -> None:
    """0 switches it off; where nothing is said, Envoy's defaults hold."""
    if wanted is not None:
        count.value = wanted
        enforcing.value = 100 if wanted else 0


def failing_statuses(codes: tuple[int, ...]) -> matcher_pb2.MatchPredicate:
    """The answers that count as failures, in the place of those from 500 on."""
    rules = [_status(code) for code in codes]
    if len(rules) == 1:
        return rules[0]
    return matcher_pb2.MatchPredicate(or_match=matcher_pb2.MatchPredicate.MatchSet(rules=rules))


def _status(code: int) -> matcher_pb2.MatchPredicate:
    header = route_components_pb2.HeaderMatcher(name=":status", string_match=string_pb2.StringMatcher(exact=str(code)))
    return matcher_pb2.MatchPredicate(http_response_headers_match=matcher_pb2.HttpHeadersMatch(headers=[header]))
