"""From a lookup to the proxy and back: who gets what, and when the answer may go out."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import pytest

from pilotfish.api import kinds
from pilotfish.api.decode import decode
from pilotfish.api.demand import Demand, demand_name, on_demand, read_demand
from pilotfish.api.meta import Object
from pilotfish.api.protos import NAME_TABLE_TYPE
from pilotfish.mesh.model import Model
from pilotfish.xds import source
from pilotfish.xds.generator import Generator
from pilotfish.xds.settings import ProxySettings
from pilotfish.xds.source import Changes, ProxyNode

LAZY: Mapping[str, Any] = {"DNS_CAPTURE": "true"}


class Answering:
    """A proxy's state as a test wants it: it has answered for all but what is `open`."""

    def __init__(self, *unanswered: str) -> None:
        self.open = set(unanswered)

    def settled(self, type_url: str, name: str) -> bool:
        return name not in self.open


def entry_of(name: str, address: str = "240.240.0.1", **spec: Any) -> Object:
    ports = [{"number": 9000, "name": "tcp", "protocol": "TCP"}, {"number": 80, "name": "http", "protocol": "HTTP"}]
    body = {"hosts": [f"{name}.test"], "resolution": "STATIC", "ports": ports, "endpoints": [{"address": "10.0.0.7"}]}
    document = {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {**body, **spec},
        "status": {"addresses": [{"value": address}]},
    }
    return decode(kinds.SERVICE_ENTRY, document)


class Scene:
    """A mesh of a few hosts, a DNS process, and sidecars by address."""

    def __init__(self, *names: str) -> None:
        self.generator = Generator(Model(), audit=True)
        self.objects = {name: entry_of(name, f"240.240.0.{i}") for i, name in enumerate(names, 1)}
        self.generator.apply([(None, obj) for obj in self.objects.values()])
        self.told: list[Changes] = []
        self.dns = self.connect("dns", "10.0.0.1")

    def connect(self, type: str, ip: str, metadata: Mapping[str, Any] = LAZY) -> Any:
        node = ProxyNode(f"{type}~{ip}", type, ip, "p", "default", metadata)
        return self.generator.connect(node, self.told.append)

    def look_up(self, ip: str, host: str) -> None:
        self.dns.asked(NAME_TABLE_TYPE, [demand_name(Demand(ip, host))], (), ())

    def granted(self, ip: str, host: str) -> bool:
        return demand_name(Demand(ip, host)) in self.dns.resources(NAME_TABLE_TYPE)


def hosts_of(proxy: Any) -> set[str]:
    return {n.split("|")[3] for n in proxy.resources(source.CLUSTER) if n.startswith("outbound|")}


def test_a_demands_name_is_read_back_and_no_hosts_name_is_one() -> None:
    demand = Demand("10.0.0.2", "*.wild.test")
    assert read_demand(demand_name(demand)) == demand
    assert read_demand("*/a.test") is None
    assert read_demand("default/a.test") is None
    assert read_demand("@10.0.0.2/") is None


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({}, False),
        ({"DNS_CAPTURE": "false"}, False),
        (LAZY, True),
        ({**LAZY, "ANNOTATIONS": {"pilotfish.dev/config": "eager"}}, False),
        ({**LAZY, "PILOTFISH_CONFIG": "eager"}, False),
        ({**LAZY, "PILOTFISH_CONFIG": "eager", "ANNOTATIONS": {"pilotfish.dev/config": "on-demand"}}, True),
    ],
)
def test_who_is_on_demand(metadata: Mapping[str, Any], expected: bool) -> None:
    assert on_demand(metadata) is expected


def test_the_answer_waits_for_all_that_the_host_needs() -> None:
    scene = Scene("a", "b")
    proxy = scene.connect("sidecar", "10.0.0.2")
    assert hosts_of(proxy) == set()
    scene.look_up("10.0.0.2", "A.test")
    assert hosts_of(proxy) == {"a.test"}
    assert "240.240.0.1_9000" in proxy.resources(source.LISTENER)
    assert not scene.granted("10.0.0.2", "A.test")
    for missing in ("outbound|9000||a.test", "240.240.0.1_9000", "80"):
        proxy.answered(Answering(missing))
        assert not scene.granted("10.0.0.2", "A.test")
    proxy.answered(Answering("outbound|9000||b.test"))
    assert scene.granted("10.0.0.2", "A.test")


def test_where_nothing_is_to_wait_for_the_grant_is_there_at_once() -> None:
    scene = Scene("a")
    eager = scene.connect("sidecar", "10.0.0.3", {})
    scene.look_up("10.0.0.3", "a.test")
    assert scene.granted("10.0.0.3", "a.test"), "it has everything"
    assert hosts_of(eager) == {"a.test"}
    lazy = scene.connect("sidecar", "10.0.0.2")
    scene.look_up("10.0.0.2", "nobody.test")
    lazy.answered(Answering())
    assert scene.granted("10.0.0.2", "nobody.test"), "no such host"


def test_a_proxy_that_connects_has_what_was_asked_for_before() -> None:
    scene = Scene("a", "b")
    scene.look_up("10.0.0.2", "a.test")
    proxy = scene.connect("sidecar", "10.0.0.2")
    assert hosts_of(proxy) == {"a.test"}
    assert hosts_of(scene.connect("sidecar", "10.0.0.3")) == set()


@pytest.mark.parametrize("metadata", [{}, LAZY])
def test_while_no_proxy_is_connected_what_was_there_stays_and_new_things_wait(metadata: Mapping[str, Any]) -> None:
    scene = Scene("a", "b")
    known, new = (demand_name(Demand("10.0.0.2", host)) for host in ("a.test", "b.test"))
    scene.dns.asked(NAME_TABLE_TYPE, ["*", known, new], (), {known: "1"})
    assert scene.granted("10.0.0.2", "a.test")
    assert not scene.granted("10.0.0.2", "b.test")
    proxy = scene.connect("sidecar", "10.0.0.2", metadata)
    proxy.answered(Answering())
    assert scene.granted("10.0.0.2", "b.test")


def test_a_proxy_that_is_there_twice_has_what_one_of_its_streams_has() -> None:
    scene = Scene("a")
    scene.connect("sidecar", "10.0.0.2")
    proxy = scene.connect("sidecar", "10.0.0.2")
    scene.look_up("10.0.0.2", "a.test")
    assert not scene.granted("10.0.0.2", "a.test")
    proxy.answered(Answering())
    assert scene.granted("10.0.0.2", "a.test")


def test_a_proxy_that_comes_back_and_is_told_nothing_keeps_nobody_waiting() -> None:
    scene = Scene("a")
    scene.look_up("10.0.0.2", "a.test")
    proxy = scene.connect("sidecar", "10.0.0.2")
    proxy.asked(source.CLUSTER, (), (), ["outbound|9000||a.test"])
    assert scene.granted("10.0.0.2", "a.test")


def test_a_proxy_keeps_what_it_had_over_a_restart_of_everything_else() -> None:
    scene = Scene("a", "b", "c")
    proxy = scene.connect("sidecar", "10.0.0.2")
    proxy.asked(source.CLUSTER, (), (), ["outbound|9000||a.test", "PassthroughCluster", "inbound|80||"])
    proxy.asked(source.LISTENER, (), (), ["virtualOutbound", "0.0.0.0_80", "240.240.0.2_9000"])
    assert hosts_of(proxy) == {"a.test", "b.test"}


def test_it_keeps_it_when_the_dns_process_goes_and_not_for_the_next_pod() -> None:
    scene = Scene("a")
    proxy = scene.connect("sidecar", "10.0.0.2")
    scene.look_up("10.0.0.2", "a.test")
    scene.dns.close()
    assert hosts_of(proxy) == {"a.test"}
    proxy.close()
    assert hosts_of(scene.connect("sidecar", "10.0.0.2")) == set()


def test_a_host_that_comes_back_is_waited_for_anew() -> None:
    scene = Scene("a")
    proxy = scene.connect("sidecar", "10.0.0.2")
    scene.look_up("10.0.0.2", "a.test")
    proxy.answered(Answering())
    assert scene.granted("10.0.0.2", "a.test")
    scene.generator.apply([(scene.objects["a"], None)])
    assert not scene.granted("10.0.0.2", "a.test")
    assert hosts_of(proxy) == set()
    proxy.answered(Answering("outbound|9000||a.test"))
    scene.generator.apply([(None, entry_of("a", "240.240.0.9"))])
    assert hosts_of(proxy) == {"a.test"}
    assert "240.240.0.9_9000" in proxy.resources(source.LISTENER)
    assert not scene.granted("10.0.0.2", "a.test")
    proxy.answered(Answering())
    assert scene.granted("10.0.0.2", "a.test")


def test_what_no_lookup_announces_everybody_has() -> None:
    scene = Scene("a")
    proxy = scene.connect("sidecar", "10.0.0.2")
    written = entry_of("written", addresses=["192.0.2.1"])
    scene.generator.apply([(None, written)])
    assert hosts_of(proxy) == {"written.test"}
    scene.look_up("10.0.0.2", "written.test")
    assert scene.granted("10.0.0.2", "written.test")
    scene.look_up("10.0.0.2", "a.test")
    route = proxy.resources(source.ROUTE)["80"].body
    assert b"written.test" in route
    assert b"a.test" in route


def test_ports_of_http_are_there_for_everybody() -> None:
    scene = Scene("a")
    proxy = scene.connect("sidecar", "10.0.0.2")
    assert set(proxy.resources(source.LISTENER)) == {"virtualOutbound", "virtualInbound", "0.0.0.0_80"}
    assert set(proxy.resources(source.ROUTE)) == {"80"}
    assert b"a.test" not in proxy.resources(source.ROUTE)["80"].body


def test_settings_that_change_take_nothing_away() -> None:
    scene = Scene("a", "b")
    proxy = scene.connect("sidecar", "10.0.0.2")
    scene.look_up("10.0.0.2", "a.test")
    scene.generator.reconfigure(ProxySettings(connect_timeout=3))
    assert hosts_of(proxy) == {"a.test"}
    assert scene.dns.resources(NAME_TABLE_TYPE).keys() == {"*/a.test", "*/b.test"}
    proxy.answered(Answering())
    assert scene.granted("10.0.0.2", "a.test")


def test_where_unknown_destinations_are_refused_everybody_has_everything() -> None:
    scene = Scene("a", "b")
    proxy = scene.connect("sidecar", "10.0.0.2")
    scene.look_up("10.0.0.2", "a.test")
    scene.generator.reconfigure(ProxySettings(allow_any=False))
    assert hosts_of(proxy) == {"a.test", "b.test"}
    scene.look_up("10.0.0.2", "b.test")
    assert scene.granted("10.0.0.2", "b.test")
    scene.generator.reconfigure(ProxySettings())
    assert hosts_of(proxy) == {"a.test", "b.test"}, "what it asked for meanwhile it keeps"


def reach(proxy: Any, *clusters: str, kept: Collection[str] = ()) -> None:
    proxy.asked(source.CLUSTER, clusters, (), kept)


def test_a_connection_without_a_lookup_gets_a_cluster_and_the_next_its_host() -> None:
    scene = Scene("a", "b")
    proxy = scene.connect("sidecar", "10.0.0.2")
    reach(proxy, "*", "outbound|9000||240.240.0.2")
    assert hosts_of(proxy) == {"b.test", "240.240.0.2"}
    assert "240.240.0.2_9000" in proxy.resources(source.LISTENER)
    assert "outbound|9000||240.240.0.2" in scene.told[-1][source.CLUSTER]
    scene.look_up("10.0.0.2", "b.test")
    assert not scene.granted("10.0.0.2", "b.test")
    proxy.answered(Answering())
    assert scene.granted("10.0.0.2", "b.test")


def test_a_destination_outlives_a_stream_and_new_settings() -> None:
    scene = Scene("a")
    proxy = scene.connect("sidecar", "10.0.0.2")
    reach(proxy, "*", kept=["outbound|9000||240.240.0.1", "BlackHoleCluster"])
    assert hosts_of(proxy) == {"a.test", "240.240.0.1"}
    scene.generator.reconfigure(ProxySettings(allow_any=False))
    assert hosts_of(proxy) == {"a.test"}
    reach(proxy, "outbound|9001||240.240.0.1")
    assert hosts_of(proxy) == {"a.test"}
    scene.generator.reconfigure(ProxySettings(connect_timeout=1))
    assert hosts_of(proxy) == {"a.test", "240.240.0.1"}
    assert "outbound|9001||240.240.0.1" in proxy.resources(source.CLUSTER)


def test_a_host_that_comes_to_have_the_address_is_reached() -> None:
    scene = Scene()
    proxy = scene.connect("sidecar", "10.0.0.2")
    reach(proxy, "outbound|9000||240.240.0.1")
    before = proxy.resources(source.CLUSTER)["outbound|9000||240.240.0.1"].version
    entry = entry_of("late")
    scene.told.clear()
    scene.generator.apply([(None, entry)])
    assert hosts_of(proxy) == {"late.test", "240.240.0.1"}
    assert any("outbound|9000||240.240.0.1" in changes.get(source.CLUSTER, ()) for changes in scene.told)
    scene.generator.apply([(entry, None)])
    assert hosts_of(proxy) == {"240.240.0.1"}
    assert proxy.resources(source.CLUSTER)["outbound|9000||240.240.0.1"].version == before


def test_names_that_are_no_destination_and_proxies_with_everything_get_nothing() -> None:
    scene = Scene("a")
    proxy, eager = scene.connect("sidecar", "10.0.0.2"), scene.connect("sidecar", "10.0.0.3", {})
    before = set(proxy.resources(source.CLUSTER))
    reach(proxy, "outbound|9000||a.test", "outbound|x||240.240.0.1", "inbound|9000||240.240.0.1", "outbound")
    reach(eager, "outbound|9000||240.240.0.1")
    assert set(proxy.resources(source.CLUSTER)) == before
    assert "outbound|9000||240.240.0.1" not in eager.resources(source.CLUSTER)
