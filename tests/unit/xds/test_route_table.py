"""Domains: each in one virtual host, whatever came in whatever order."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from pilotfish.xds.build.routes import Route, VirtualHostSpec
from pilotfish.xds.route_table import RouteTable
from pilotfish.xds.wanted_hosts import WantedHost

_domains = st.lists(st.sampled_from(["a", "A", "b", "c", "d.e"]), max_size=3, unique=True).map(tuple)
_hosts = st.builds(
    WantedHost,
    port=st.just(80),
    name=st.sampled_from("pqrs"),
    age=st.sampled_from([("1", "", "", ""), ("2", "", "", "")]),
    own=_domains,
    short=_domains,
    addresses=_domains,
    routes=st.just((Route("c"),)),
)


@given(st.lists(st.one_of(_hosts, st.sampled_from("pqrs")), max_size=12))
@settings(deadline=None)
def test_any_order_ends_the_same(steps: list[WantedHost | str]) -> None:
    table = RouteTable()
    wanted: dict[str, WantedHost] = {}
    for step in steps:
        if isinstance(step, str):
            table.drop(step)
            wanted.pop(step, None)
        else:
            table.put(step)
            wanted[step.name] = step
        found = table.virtual_hosts()
        assert found == _fresh(list(wanted.values()))
        assert found == _fresh(list(wanted.values())[::-1])
        everything = [domain.lower() for host in found for domain in host.domains]
        assert len(set(everything)) == len(everything)
        asked = {d.lower() for host in wanted.values() for d in (*host.own, *host.short, *host.addresses)}
        assert set(everything) == asked


def _fresh(hosts: list[WantedHost]) -> tuple[VirtualHostSpec, ...]:
    table = RouteTable()
    for host in hosts:
        table.put(host)
    return table.virtual_hosts()


def test_a_name_of_ones_own_goes_first_then_the_oldest() -> None:
    table = RouteTable()

    def put(name: str, age: str, own: tuple[str, ...], short: tuple[str, ...]) -> None:
        table.put(WantedHost(80, name, (age, "", "", ""), own, short, (), (Route("c"),)))

    put("old", "1", ("old.ns.test",), ("x", "y"))
    put("young", "2", ("x",), ("y",))
    assert [host.domains for host in table.virtual_hosts()] == [("old.ns.test", "y"), ("x",)]
    table.drop("old")
    assert [host.domains for host in table.virtual_hosts()] == [("x", "y")]
