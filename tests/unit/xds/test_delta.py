"""The incremental protocol, request by request, without a connection."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.service.discovery.v3 import discovery_pb2

from pilotfish.api.protos import NAME_TABLE_TYPE
from pilotfish.xds import delta
from pilotfish.xds.delta import DELTA
from pilotfish.xds.session import HOLD, Session
from pilotfish.xds.source import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, ProxyNode, Resource
from pilotfish.xds.status import Rejection, Versions

NODE = ProxyNode("sidecar~10.0.0.1~web.default~x", "sidecar", "10.0.0.1", "web", "default")


def plain(name: str, version: str = "1") -> Resource:
    return Resource(name, version, b"\x0a" + bytes([len(name)]) + name.encode())


def eds_cluster(name: str, version: str = "1") -> Resource:
    cluster = cluster_pb2.Cluster(name=name, type=cluster_pb2.Cluster.EDS, alt_stat_name=version)
    cluster.eds_cluster_config.eds_config.ads.SetInParent()
    return Resource(name, version, cluster.SerializeToString())


class Recording:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.accepted: list[tuple[str, dict[str, str | None]]] = []
        self.refused: list[Rejection] = []

    def connected(self, node: ProxyNode) -> None: ...

    def disconnected(self, node: ProxyNode) -> None: ...

    def acknowledged(self, node: ProxyNode, type_url: str, versions: Versions) -> None:
        self.accepted.append((type_url, dict(versions)))

    def rejected(self, node: ProxyNode, rejection: Rejection) -> None:
        self.refused.append(rejection)


class DeltaProxy:
    """The proxy's side of a session. Times are seconds since its beginning."""

    def __init__(self, source: Any) -> None:
        self.observer = Recording()
        self.now = 0.0
        config = source.connect(NODE, lambda changes: self.session.changed(changes))
        self.session = Session(DELTA, NODE, config, self.observer)

    def ask(
        self,
        type_url: str,
        subscribe: Sequence[str] = (),
        unsubscribe: Sequence[str] = (),
        versions: Mapping[str, str] | None = None,
    ) -> None:
        self.session.receive(
            discovery_pb2.DeltaDiscoveryRequest(
                type_url=type_url,
                resource_names_subscribe=subscribe,
                resource_names_unsubscribe=unsubscribe,
                initial_resource_versions=versions or {},
            )
        )

    def answer(self, response: Any, error: str = "", nonce: str = "") -> None:
        request = discovery_pb2.DeltaDiscoveryRequest(
            type_url=response.type_url, response_nonce=nonce or response.nonce
        )
        if error:
            request.error_detail.code = 13
            request.error_detail.message = error
        self.session.receive(request)

    def unanswered(self) -> Any:
        """The next response, parsed, or None."""
        body = self.session.next_response(self.now)
        return None if body is None else discovery_pb2.DeltaDiscoveryResponse.FromString(body)

    def told(self) -> list[tuple[str, list[str], list[str]]]:
        """All that comes, acknowledged one by one: type, resources as name@version, removed."""
        out = []
        while response := self.unanswered():
            kind = response.type_url.rpartition(".")[2]
            out.append((kind, [f"{r.name}@{r.version}" for r in response.resources], list(response.removed_resources)))
            self.answer(response)
        return out


@pytest.fixture
def proxy(source: Any) -> DeltaProxy:
    return DeltaProxy(source)


Fake = Any


def test_a_first_request_without_names_is_a_wildcard(source: Fake, proxy: DeltaProxy) -> None:
    source.set(LISTENER, plain("a"), plain("b"))
    proxy.ask(LISTENER)
    assert proxy.told() == [("Listener", ["a@1", "b@1"], [])]
    source.set(LISTENER, plain("c"))
    assert proxy.told() == [("Listener", ["c@1"], [])]
    source.remove(LISTENER, "a")
    assert proxy.told() == [("Listener", [], ["a"])]


def test_a_wildcard_with_nothing_behind_it_is_answered(source: Fake, proxy: DeltaProxy) -> None:
    proxy.ask(CLUSTER)
    assert proxy.told() == [("Cluster", [], [])]
    source.set(CLUSTER, plain("late"))
    assert proxy.told() == [("Cluster", ["late@1"], [])]


@pytest.mark.parametrize("type_url", [ENDPOINT, ROUTE, SECRET])
def test_types_that_are_asked_for_by_name_have_no_implicit_wildcard(
    source: Fake, proxy: DeltaProxy, type_url: str
) -> None:
    source.set(type_url, plain("a"))
    proxy.ask(type_url)
    assert proxy.told() == []


def test_explicit_wildcards_begin_and_end(source: Fake, proxy: DeltaProxy) -> None:
    source.set(LISTENER, plain("a"), plain("b"))
    proxy.ask(LISTENER, ["a"])
    assert proxy.told() == [("Listener", ["a@1"], [])]
    proxy.ask(LISTENER, ["*"])
    assert proxy.told() == [("Listener", ["b@1"], [])]
    proxy.ask(LISTENER, unsubscribe=["*"])
    source.set(LISTENER, plain("a", "2"), plain("b", "2"))
    assert proxy.told() == [("Listener", ["a@2"], [])]


def test_subscribing_and_unsubscribing_at_once_asks_for_nothing_yet(source: Fake, proxy: DeltaProxy) -> None:
    source.set(LISTENER, plain("a"))
    proxy.ask(LISTENER, ["*"], ["*"])
    assert proxy.told() == []
    proxy.ask(LISTENER, ["a"])
    assert proxy.told() == [("Listener", ["a@1"], [])]


def test_named_resources_come_and_missing_ones_are_told(source: Fake, proxy: DeltaProxy) -> None:
    source.set(ROUTE, plain("r"))
    proxy.ask(ROUTE, ["r", "missing"])
    assert proxy.told() == [("RouteConfiguration", ["r@1"], ["missing"])]
    source.set(ROUTE, plain("missing"), plain("other"))
    assert proxy.told() == [("RouteConfiguration", ["missing@1"], [])]


def test_what_a_name_table_client_waits_for_is_not_called_missing(source: Fake, proxy: DeltaProxy) -> None:
    source.set(NAME_TABLE_TYPE, plain("names"))
    proxy.ask(NAME_TABLE_TYPE, ["*"])
    assert proxy.told() == [("NameTable", ["names@1"], [])]
    proxy.ask(NAME_TABLE_TYPE, ["@10.0.0.1/a"])
    assert proxy.told() == []
    source.set(NAME_TABLE_TYPE, plain("@10.0.0.1/a"))
    assert proxy.told() == [("NameTable", ["@10.0.0.1/a@1"], [])]
    source.remove(NAME_TABLE_TYPE, "@10.0.0.1/a")
    assert proxy.told() == [("NameTable", [], ["@10.0.0.1/a"])]


def test_a_name_below_a_wildcard_is_answered(source: Fake, proxy: DeltaProxy) -> None:
    """As Envoy asks for clusters on demand in the stream that tells it of all."""
    source.set(CLUSTER, plain("a"))
    proxy.ask(CLUSTER)
    assert proxy.told() == [("Cluster", ["a@1"], [])]
    proxy.ask(CLUSTER, ["a", "none"])
    assert proxy.told() == [("Cluster", ["a@1"], ["none"])]
    source.set(CLUSTER, plain("b"), plain("none"))
    assert proxy.told() == [("Cluster", ["b@1", "none@1"], [])]


def test_asking_again_is_answered_again(source: Fake, proxy: DeltaProxy) -> None:
    source.set(ROUTE, plain("r"))
    proxy.ask(ROUTE, ["r"])
    proxy.told()
    proxy.ask(ROUTE, ["r"])
    assert proxy.told() == [("RouteConfiguration", ["r@1"], [])]


def test_unsubscribing_ends_it(source: Fake, proxy: DeltaProxy) -> None:
    source.set(ROUTE, plain("r"))
    proxy.ask(ROUTE, ["r"])
    proxy.told()
    proxy.ask(ROUTE, unsubscribe=["r"])
    source.set(ROUTE, plain("r", "2"))
    assert proxy.told() == []


def test_unsubscribing_below_a_wildcard_tells_whether_it_still_covers_the_name(source: Fake, proxy: DeltaProxy) -> None:
    source.set(LISTENER, plain("a"))
    proxy.ask(LISTENER, ["*", "a", "b"])
    assert proxy.told() == [("Listener", ["a@1"], ["b"])]
    proxy.ask(LISTENER, unsubscribe=["a", "b"])
    assert proxy.told() == [("Listener", ["a@1"], ["b"])]


def test_a_reconnect_is_sent_only_what_differs(source: Fake, proxy: DeltaProxy) -> None:
    source.set(CLUSTER, plain("same"), plain("changed", "2"), plain("new"))
    source.set(ENDPOINT, plain("same"), plain("changed", "2"))
    proxy.ask(CLUSTER, versions={"same": "1", "changed": "1", "gone": "1"})
    proxy.ask(ENDPOINT, ["same", "changed"], versions={"same": "1", "changed": "1"})
    assert proxy.told() == [
        ("Cluster", ["changed@2", "new@1"], []),
        ("ClusterLoadAssignment", ["changed@2"], []),
        ("Cluster", [], ["gone"]),
    ]


def test_a_reconnect_that_holds_everything_is_sent_nothing(source: Fake, proxy: DeltaProxy) -> None:
    source.set(CLUSTER, eds_cluster("c"))
    source.set(ENDPOINT, plain("c"))
    source.set(LISTENER, plain("l"))
    source.set(ROUTE, plain("r"))
    proxy.ask(CLUSTER, versions={"c": "1"})
    proxy.ask(ENDPOINT, ["c"], versions={"c": "1"})
    proxy.ask(LISTENER, versions={"l": "1"})
    proxy.ask(ROUTE, ["r"], versions={"r": "1"})
    assert proxy.told() == []
    assert all(state.resources[0].state == "ACKED" for state in proxy.session.state().values())


def test_one_response_at_a_time_and_later_changes_are_merged(source: Fake, proxy: DeltaProxy) -> None:
    source.set(LISTENER, plain("a"))
    proxy.ask(LISTENER)
    first = proxy.unanswered()
    for version in ("2", "3", "4"):
        source.set(LISTENER, plain("a", version))
    source.set(LISTENER, plain("b"))
    assert proxy.unanswered() is None
    proxy.answer(first, nonce="stale")
    assert proxy.unanswered() is None
    proxy.answer(first)
    assert proxy.told() == [("Listener", ["a@4", "b@1"], [])]


def test_a_change_that_was_undone_while_waiting_is_not_sent(source: Fake, proxy: DeltaProxy) -> None:
    source.set(LISTENER, plain("a"))
    proxy.ask(LISTENER)
    first = proxy.unanswered()
    source.set(LISTENER, plain("a", "2"))
    source.set(LISTENER, plain("a", "1"))
    proxy.answer(first)
    assert proxy.told() == []


def test_types_do_not_wait_for_each_other_to_be_answered(source: Fake, proxy: DeltaProxy) -> None:
    source.set(SECRET, plain("s"))
    source.set(ROUTE, plain("r"))
    proxy.ask(ROUTE, ["r"])
    proxy.ask(SECRET, ["s"])
    assert [proxy.unanswered().type_url, proxy.unanswered().type_url] == [SECRET, ROUTE]


def test_new_clusters_and_their_endpoints_come_before_listeners_and_routes(source: Fake, proxy: DeltaProxy) -> None:
    for type_url in (CLUSTER, LISTENER):
        proxy.ask(type_url)
    proxy.ask(ROUTE, ["r"])
    proxy.told()
    source.update((ROUTE, plain("r")), (LISTENER, plain("l")), (CLUSTER, eds_cluster("c")), (ENDPOINT, plain("c")))
    clusters = proxy.unanswered()
    assert clusters.type_url == CLUSTER
    assert proxy.unanswered() is None
    proxy.answer(clusters)
    assert proxy.unanswered() is None
    proxy.ask(ENDPOINT, ["c"])
    assert proxy.told() == [
        ("ClusterLoadAssignment", ["c@1"], []),
        ("Listener", ["l@1"], []),
        ("RouteConfiguration", ["r@1"], []),
    ]


def test_what_depends_on_a_response_follows_it_at_once(source: Fake, proxy: DeltaProxy) -> None:
    responses = looked_ahead(source, proxy)
    assert [response.type_url for response in responses] == [CLUSTER, ENDPOINT, LISTENER]
    # Envoy asks for a cluster's endpoints while it takes in the cluster, and so before it answers for them.
    proxy.ask(ENDPOINT, ["new"])
    for response in responses:
        proxy.answer(response)
    assert proxy.told() == []
    source.set(ENDPOINT, plain("new", "2"))
    assert proxy.told() == [("ClusterLoadAssignment", ["new@2"], [])]


def test_endpoints_that_came_before_a_proxy_asked_for_them_come_again(source: Fake, proxy: DeltaProxy) -> None:
    for response in looked_ahead(source, proxy):
        proxy.answer(response)
    assert "new" not in {resource.name for resource in proxy.session.state()[ENDPOINT].resources}
    proxy.ask(ENDPOINT, ["new"])
    assert proxy.told() == [("ClusterLoadAssignment", ["new@1"], [])]


def test_endpoints_on_their_way_are_replaced_by_newer_ones(source: Fake, proxy: DeltaProxy) -> None:
    responses = looked_ahead(source, proxy)
    source.set(ENDPOINT, plain("new", "2"))
    proxy.ask(ENDPOINT, ["new"])
    for response in responses:
        proxy.answer(response)
    assert proxy.told() == [("ClusterLoadAssignment", ["new@2"], [])]


def test_endpoints_that_are_gone_before_they_went_out_are_no_news(source: Fake, proxy: DeltaProxy) -> None:
    responses = looked_ahead(source, proxy, first=(ENDPOINT, plain("old", "2")))
    source.update(removed=((ENDPOINT, "new"),))
    for response in responses:
        proxy.answer(response)
    assert proxy.told() == [("Listener", ["l@1"], [])]
    proxy.ask(ENDPOINT, ["new"])
    assert proxy.told() == [("ClusterLoadAssignment", [], ["new"])]


def looked_ahead(source: Fake, proxy: DeltaProxy, first: Any = None) -> list[Any]:
    """The unanswered responses when a proxy that has everything gets a cluster with endpoints and a listener."""
    source.update((CLUSTER, eds_cluster("old")), (ENDPOINT, plain("old")))
    for type_url in (CLUSTER, LISTENER):
        proxy.ask(type_url)
    proxy.ask(ENDPOINT, ["old"])
    proxy.told()
    responses = []
    if first is not None:  # something that is yet to be answered
        source.update(first)
        responses.append(proxy.unanswered())
    source.update((CLUSTER, eds_cluster("new")), (ENDPOINT, plain("new")), (LISTENER, plain("l")))
    return [*responses, *iter(proxy.unanswered, None)]


def test_superfluous_clusters_are_removed_after_routes_have_let_go_of_them(source: Fake, proxy: DeltaProxy) -> None:
    source.update((CLUSTER, plain("old")), (ROUTE, plain("r")))
    proxy.ask(CLUSTER)
    proxy.ask(ROUTE, ["r"])
    proxy.told()
    source.update((CLUSTER, plain("new")), (ROUTE, plain("r", "2")), removed=((CLUSTER, "old"),))
    assert proxy.told() == [
        ("Cluster", ["new@1"], []),
        ("RouteConfiguration", ["r@2"], []),
        ("Cluster", [], ["old"]),
    ]


def test_a_cluster_that_comes_back_in_time_is_not_removed(source: Fake, proxy: DeltaProxy) -> None:
    source.update((CLUSTER, plain("c")), (ROUTE, plain("r")))
    proxy.ask(CLUSTER)
    proxy.ask(ROUTE, ["r"])
    proxy.told()
    source.update((ROUTE, plain("r", "2")), removed=((CLUSTER, "c"),))
    routes = proxy.unanswered()
    source.set(CLUSTER, plain("c"))
    proxy.answer(routes)
    assert proxy.told() == []


def test_nothing_is_held_back_for_ever(source: Fake, proxy: DeltaProxy) -> None:
    source.update((CLUSTER, eds_cluster("c")), (LISTENER, plain("l")))
    proxy.ask(CLUSTER)
    proxy.ask(LISTENER)
    assert proxy.unanswered().type_url == CLUSTER
    assert proxy.unanswered() is None
    assert proxy.session.wake_at == HOLD
    proxy.now = HOLD
    assert proxy.unanswered().type_url == LISTENER
    assert proxy.session.wake_at is None


def test_endpoints_follow_a_changed_cluster_unasked(source: Fake, proxy: DeltaProxy) -> None:
    source.update((CLUSTER, eds_cluster("c")), (ENDPOINT, plain("c")))
    proxy.ask(CLUSTER)
    proxy.ask(ENDPOINT, ["c"])
    proxy.told()
    source.set(CLUSTER, eds_cluster("c", "2"))
    assert proxy.told() == [("Cluster", ["c@2"], []), ("ClusterLoadAssignment", ["c@1"], [])]


def test_endpoints_follow_a_cluster_that_changed_over_a_reconnect(source: Fake, proxy: DeltaProxy) -> None:
    source.update((CLUSTER, eds_cluster("c", "2")), (ENDPOINT, plain("c")))
    proxy.ask(CLUSTER, versions={"c": "1"})
    clusters = proxy.unanswered()
    proxy.ask(ENDPOINT, ["c"], versions={"c": "1"})
    proxy.answer(clusters)
    assert proxy.told() == [("ClusterLoadAssignment", ["c@1"], [])]


def test_what_was_refused_is_told_and_not_sent_again_until_it_changes(source: Fake, proxy: DeltaProxy) -> None:
    source.set(LISTENER, plain("good"), plain("bad"))
    proxy.ask(LISTENER)
    proxy.told()
    proxy.observer.accepted.clear()
    source.set(LISTENER, plain("good", "2"), plain("bad", "2"))
    proxy.answer(proxy.unanswered(), "Error adding/updating listener(s) bad: no such filter\n")
    (rejection,) = proxy.observer.refused
    assert (rejection.names, rejection.message) == (("bad",), "Error adding/updating listener(s) bad: no such filter\n")
    assert proxy.observer.accepted == [(LISTENER, {"good": "2"})]
    state = proxy.session.state()[LISTENER]
    assert not state.synced
    assert [(r.name, r.version, r.accepted, r.state) for r in state.resources] == [
        ("bad", "2", "1", "NACKED"),
        ("good", "2", "2", "ACKED"),
    ]
    assert proxy.told() == []
    source.set(LISTENER, plain("good", "3"))
    assert proxy.told() == [("Listener", ["good@3"], [])]
    assert proxy.session.state()[LISTENER].rejection == rejection
    source.set(LISTENER, plain("bad", "3"))
    assert proxy.told() == [("Listener", ["bad@3"], [])]
    assert proxy.session.state()[LISTENER].synced


def test_a_refusal_that_names_nothing_is_of_the_whole_response(source: Fake, proxy: DeltaProxy) -> None:
    source.set(ROUTE, plain("a"), plain("ab"))
    proxy.ask(ROUTE, ["a", "ab"])
    proxy.answer(proxy.unanswered(), "Proto constraint validation failed")
    assert proxy.observer.refused[0].names == ("a", "ab")
    assert proxy.observer.accepted == []


def test_large_responses_are_divided_and_listeners_are_not(
    source: Fake, proxy: DeltaProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delta, "RESPONSE_BYTES", 10)
    names = [f"n{i}" for i in range(8)]
    for type_url in (CLUSTER, LISTENER):
        source.set(type_url, *map(plain, names))
        proxy.ask(type_url)
    told = proxy.told()
    assert [len(resources) for kind, resources, _ in told if kind == "Cluster"] == [3, 3, 2]
    assert [len(resources) for kind, resources, _ in told if kind == "Listener"] == [8]


def test_a_change_of_what_nobody_asked_for_is_no_news(source: Fake, proxy: DeltaProxy) -> None:
    proxy.ask(ROUTE, ["r"])
    proxy.told()
    heard: Callable[..., bool] = proxy.session.changed
    assert not heard({ROUTE: frozenset({"other"}), LISTENER: frozenset({"l"})})
    assert heard({ROUTE: frozenset({"other", "r"})})
