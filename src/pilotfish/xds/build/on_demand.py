"""How proxies on demand ask for what they reach without a lookup.

Bytes to an address without a listener come to a chain of their own (`filters.tcp_proxy_on_demand`). Requests that no
virtual host takes come to the catch-all, like all that need no mesh. Those for the mesh's ranges go to a cluster that
their connection's destination names, and wait for the control plane to send it; the others are not held up.

Routes match addresses only in a way that Envoy warns of, and take a cluster's name from a header alone. So a connection
notes the networks of its destination as text, one for each length of a range's prefix; and each request is given the
header, in place of what its client may say there, and loses it on the way out.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from typing import Any

from envoy.config.listener.v3 import listener_components_pb2
from envoy.config.route.v3 import route_components_pb2
from envoy.extensions.filters.common.set_filter_state.v3 import value_pb2
from envoy.extensions.filters.http.on_demand.v3 import on_demand_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from envoy.extensions.filters.network.set_filter_state.v3 import set_filter_state_pb2
from envoy.extensions.http.early_header_mutation.header_mutation.v3 import header_mutation_pb2

from pilotfish.api.demand import DESTINATION_HEADER
from pilotfish.mesh.records import Record
from pilotfish.xds.build import common, names

TIMEOUT = 5.0
"""For how many seconds a connection or a request waits for the control plane to say where it goes."""

_NETWORKS = "pilotfish.networks"
_FILTER = "envoy.filters.http.on_demand"
_MUTATION = "envoy.http.early_header_mutation.header_mutation"


class OnDemand(Record):
    """`ranges` are those about whose addresses the control plane is asked when nothing is known of them; `period` how
    the names by which it is asked change with time (strftime). Idle HTTP connections are closed after `http_idle`
    seconds; 0: after Envoy's own time.
    """

    ranges: tuple[str, ...]
    period: str = ""
    http_idle: float = 0.0


def note_networks(terms: OnDemand) -> listener_components_pb2.Filter:
    """The network filter that notes the networks of a connection's destination."""
    lengths = sorted({network.prefixlen for network in map(ipaddress.ip_network, terms.ranges)})
    masked = (f"%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT({length})%" for length in lengths)
    value = value_pb2.FilterStateValue(object_key=_NETWORKS, factory_key="envoy.string")
    value.format_string.text_format_source.inline_string = _listed(masked)
    config = set_filter_state_pb2.Config(on_new_connection=[value])
    return listener_components_pb2.Filter(
        name="envoy.filters.network.set_filter_state", typed_config=common.any_of(config)
    )


def let_ask(manager: hcm_pb2.HttpConnectionManager, terms: OnDemand) -> None:
    """Have a connection manager ask where the routes of `asking_routes` say so."""
    config = header_mutation_pb2.HeaderMutation()
    append = config.mutations.add().append
    append.header.key = DESTINATION_HEADER
    append.header.value = names.destination_format(terms.period)
    append.append_action = append.OVERWRITE_IF_EXISTS_OR_ADD
    mutation = manager.early_header_mutation_extensions.add(name=_MUTATION)
    mutation.typed_config.CopyFrom(common.any_of(config))
    # It does nothing by itself: a route without its cluster answers at once, as ever.
    filter_ = hcm_pb2.HttpFilter(name=_FILTER, typed_config=common.any_of(on_demand_pb2.OnDemand()))
    manager.http_filters.insert(0, filter_)


def asking_routes(route: route_components_pb2.Route, ranges: Iterable[str]) -> Iterator[route_components_pb2.Route]:
    """What becomes of a route's requests for addresses in these ranges: they go to the cluster of their destination."""
    per_route = on_demand_pb2.PerRouteConfig()
    per_route.odcds.source.CopyFrom(common.from_ads())
    per_route.odcds.timeout.CopyFrom(common.duration(TIMEOUT))
    for network in ranges:
        asking: Any = route_components_pb2.Route()
        asking.CopyFrom(route)
        asking.route.cluster_header = DESTINATION_HEADER
        matcher = asking.match.filter_state.add(key=_NETWORKS)
        matcher.string_match.contains = _listed([str(ipaddress.ip_network(network))])
        asking.typed_per_filter_config[_FILTER].CopyFrom(common.any_of(per_route))
        yield asking


def _listed(networks: Iterable[str]) -> str:
    """Networks one after another, each between spaces, so that none is found within another."""
    return f" {'  '.join(networks)} "
