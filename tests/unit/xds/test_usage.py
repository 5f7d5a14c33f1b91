"""What is not used for the idle time is withdrawn, in two steps, and what is used or asked for stays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from pilotfish.api import kinds
from pilotfish.api.decode import decode
from pilotfish.api.demand import Demand, demand_name
from pilotfish.api.protos import NAME_TABLE_TYPE
from pilotfish.mesh.model import Model
from pilotfish.xds import source
from pilotfish.xds.generator import Generator
from pilotfish.xds.settings import ProxySettings
from pilotfish.xds.source import Changes, ProxyNode

POD = "10.0.0.2"
IDLE = 100.0
NOON = 1706702400.0  # of 31 January 2024


class Mesh:
    """A few hosts, a DNS process and a sidecar, in a time that a test moves."""

    def __init__(self, *names: str, idle: str = "100s") -> None:
        self.now = 0.0
        self.date = NOON
        self.generator = Generator(Model(), audit=True, clock=lambda: self.now, date=lambda: self.date)
        self.told: list[Changes] = []
        self.revoked: list[str] = []
        self.generator.apply([(None, entry(name, f"240.240.0.{i}")) for i, name in enumerate(names, 1)])
        self.dns = self.generator.connect(ProxyNode("dns", "dns", "10.0.0.1", "n", "default"), lambda _: None)
        metadata: Mapping[str, Any] = {"DNS_CAPTURE": "true", "PILOTFISH_IDLE_TIMEOUT": idle}
        self.node = ProxyNode("p", "sidecar", POD, "p", "default", metadata)
        self.proxy = self.generator.connect(self.node, self.told.append)
        self.proxy.answered(self)

    def settled(self, type_url: str, name: str) -> bool:
        """The proxy takes everything into force at once."""
        return True

    def look_up(self, *names: str) -> None:
        self.dns.asked(NAME_TABLE_TYPE, [demand_name(Demand(POD, f"{name}.test")) for name in names], (), ())

    def granted(self, name: str) -> bool:
        return demand_name(Demand(POD, f"{name}.test")) in self.dns.resources(NAME_TABLE_TYPE)

    def report(self, *used: str, after: float = 10.0) -> None:
        """What was used until so many seconds after the report before."""
        self.now += after
        self.generator.used(self.node, frozenset(used))

    @property
    def clusters(self) -> set[str]:
        return {name for name in self.proxy.resources(source.CLUSTER) if name.startswith("outbound|")}

    @property
    def hosts(self) -> set[str]:
        return {name.split("|")[3].removesuffix(".test") for name in self.clusters}


def entry(name: str, address: str, **spec: Any) -> Any:
    ports = [{"number": 9000, "name": "tcp", "protocol": "TCP"}, {"number": 80, "name": "http", "protocol": "HTTP"}]
    body = {"hosts": [f"{name}.test"], "resolution": "STATIC", "ports": ports, "endpoints": [{"address": "10.0.0.7"}]}
    metadata = {"name": name, "namespace": "default"}
    status = {"addresses": [{"value": address}]}
    return decode(kinds.SERVICE_ENTRY, {"metadata": metadata, "spec": {**body, **spec}, "status": status})


def test_a_host_is_given_notice_and_then_withdrawn() -> None:
    mesh = Mesh("a", "b")
    mesh.look_up("a", "b")
    mesh.report("outbound|80||b.test", after=IDLE - 1)
    assert mesh.hosts == {"a", "b"}
    assert mesh.granted("a")
    mesh.report(after=1)
    assert not mesh.granted("a"), "the next lookup is to be a first one"
    assert mesh.hosts == {"a", "b"}, "who was answered just before may still come"
    mesh.told.clear()
    mesh.report(after=1)
    assert mesh.hosts == {"b"}
    assert mesh.granted("b")
    (changes,) = mesh.told
    assert changes[source.LISTENER] == {"240.240.0.1_9000"}
    assert changes[source.ROUTE] == {"80"}
    assert "outbound|9000||a.test" in changes[source.CLUSTER]
    assert b"a.test" not in mesh.proxy.resources(source.ROUTE)["80"].body


def test_use_of_any_port_keeps_a_host_for_as_long_as_it_lasts() -> None:
    mesh = Mesh("a")
    mesh.look_up("a")
    for _ in range(5):
        mesh.report("outbound|9000||a.test", after=IDLE)
    assert mesh.hosts == {"a"}
    mesh.report(after=IDLE)
    mesh.report(after=1)
    assert mesh.hosts == set()


@pytest.mark.parametrize("again", ["lookup", "use"])
def test_who_has_notice_stays_when_it_is_wanted_again(again: str) -> None:
    mesh = Mesh("a")
    mesh.look_up("a")
    mesh.report(after=IDLE)
    assert not mesh.granted("a")
    mesh.dns.asked(NAME_TABLE_TYPE, (), [demand_name(Demand(POD, "a.test"))], ())
    if again == "lookup":
        mesh.look_up("a")
        assert mesh.granted("a"), "it is there, so that nobody waits"
        mesh.report(after=1)
    else:
        mesh.report("outbound|9000||a.test", after=1)
    mesh.report(after=1)
    assert mesh.hosts == {"a"}
    mesh.report(after=IDLE)
    mesh.report(after=1)
    assert mesh.hosts == set()


def test_a_withdrawn_host_comes_back_by_a_lookup() -> None:
    mesh = Mesh("a")
    mesh.look_up("a")
    mesh.report(after=IDLE)
    mesh.dns.asked(NAME_TABLE_TYPE, (), [demand_name(Demand(POD, "a.test"))], ())
    mesh.report(after=1)
    assert mesh.hosts == set()
    mesh.look_up("a")
    assert mesh.hosts == {"a"}


def test_what_is_routed_elsewhere_is_used_there() -> None:
    """Requests for `a` all go to `b`, so that only the clusters of `b` tell of them."""
    mesh = Mesh("a", "b")
    spec = {"hosts": ["a.test"], "http": [{"route": [{"destination": {"host": "b.test"}}]}]}
    rule = decode(kinds.VIRTUAL_SERVICE, {"metadata": {"name": "r", "namespace": "default"}, "spec": spec})
    mesh.generator.apply([(None, rule)])
    mesh.look_up("a")
    for _ in range(4):
        mesh.report("outbound|80||b.test", after=IDLE / 2)
    assert "80" in mesh.proxy.resources(source.ROUTE)
    assert b"a.test" in mesh.proxy.resources(source.ROUTE)["80"].body


def test_a_restart_of_the_control_plane_counts_as_use() -> None:
    mesh = Mesh("a")
    mesh.now = 1000.0
    mesh.proxy.asked(source.CLUSTER, (), (), ["outbound|9000||a.test"])
    mesh.report(after=IDLE - 1)
    assert mesh.hosts == {"a"}
    mesh.report(after=1)
    mesh.report(after=1)
    assert mesh.hosts == set()


def test_never_is_never() -> None:
    mesh = Mesh("a", idle="0s")
    mesh.look_up("a")
    mesh.report(after=1e9)
    mesh.report(after=1e9)
    assert mesh.hosts == {"a"}
    assert mesh.generator.report_interval(mesh.node) == 0


def test_addresses_go_by_themselves_and_their_hosts_after_them() -> None:
    mesh = Mesh("a", "b")
    address = "outbound|9000|20240131|240.240.0.1"
    mesh.proxy.asked(source.CLUSTER, (), (), [address])
    assert mesh.clusters == {address, "outbound|80||a.test", "outbound|9000||a.test"}
    mesh.report(address, after=IDLE)
    mesh.report("outbound|9000||a.test", after=IDLE - 1)
    mesh.report(after=1)
    assert mesh.clusters == {"outbound|80||a.test", "outbound|9000||a.test"}, "later connections found the listener"
    mesh.generator.reconfigure(ProxySettings(connect_timeout=3))
    assert mesh.hosts == {"a"}, "it stays, though nobody asked for it by name"
    mesh.report(after=IDLE)
    mesh.report(after=1)
    assert mesh.clusters == set()
    assert "240.240.0.1_9000" not in mesh.proxy.resources(source.LISTENER)


def test_a_host_stays_while_its_address_leads_to_it() -> None:
    """Where the cluster of an address is, nobody asks for the host that has the address."""
    mesh = Mesh("a")
    mesh.look_up("a")
    mesh.now = IDLE / 2
    mesh.proxy.asked(source.CLUSTER, (), (), ["outbound|9000||240.240.0.1"])
    mesh.report(after=IDLE / 2)
    mesh.report(after=1)
    assert mesh.hosts == {"a", "240.240.0.1"}
    mesh.report(after=IDLE / 2)
    mesh.report(after=1)
    assert mesh.hosts == set()


def test_names_of_periods_that_are_over_are_not_made_again() -> None:
    """With a new stream Envoy asks for all that it ever asked for."""
    mesh = Mesh("a")
    old, kept = "outbound|9000|20010101|240.240.0.1", "outbound|9000|20010102|240.240.0.1"
    mesh.proxy.asked(source.CLUSTER, ["*", old, kept], (), [kept])
    assert mesh.clusters == {kept, "outbound|80||a.test", "outbound|9000||a.test"}


def test_statistics_have_other_colons() -> None:
    mesh = Mesh()
    address = "outbound|9000||2001:2::5"
    mesh.proxy.asked(source.CLUSTER, [address], (), ())
    for _ in range(3):
        mesh.report("outbound|9000||2001_2__5", after=IDLE)
    assert address in mesh.clusters


def test_addresses_that_are_used_again_and_again_have_their_next_name_before_it_is_asked_for() -> None:
    """When a period begins, the control plane may be away."""
    mesh = Mesh()
    today, tomorrow, after = (f"outbound|81|{day}|240.240.0.9" for day in (20240131, 20240201, 20240202))
    mesh.proxy.asked(source.CLUSTER, [today], (), ())
    mesh.report(today)
    assert mesh.clusters == {today}, "it may have been once"
    mesh.told.clear()
    mesh.report(today)
    assert mesh.clusters == {today, tomorrow}
    assert mesh.told == [{source.CLUSTER: {tomorrow}}]
    mesh.report(today, after=IDLE)
    mesh.report(after=IDLE / 2)
    assert mesh.clusters == {today, tomorrow}
    mesh.report(after=IDLE / 2)
    assert mesh.clusters == set()
    mesh.proxy.asked(source.CLUSTER, [today], (), ())
    mesh.report(today)
    mesh.report(today)
    mesh.date += 86400
    mesh.report(tomorrow)
    mesh.report(tomorrow, today)
    assert mesh.clusters == {today, tomorrow, after}, "of a day that is over nothing follows"
