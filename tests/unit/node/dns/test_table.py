"""Which names a client finds: those of Istio's agent, by the scopes that it sees."""

from __future__ import annotations

import pytest
from dnstools import DOMAIN, external, service
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.node.dns import wire
from pilotfish.node.dns.table import GATEWAY, Lookup, NameRecord, Table, parse_addresses


def table(*records: NameRecord) -> Table:
    made = Table(DOMAIN)
    made.update(records, ())
    return made


def lookup(names: Table, name: str, namespace: str = "default", *more_search: str) -> Lookup:
    search = (f"{namespace}.svc.{DOMAIN}", f"svc.{DOMAIN}", DOMAIN, *more_search)
    wanted = frozenset(wire.encode_name(s) for s in search)
    return names.lookup((namespace, "*"), wanted, wire.encode_name(name).lower())


def found(names: Table, name: str, namespace: str = "default", *more_search: str) -> tuple[str, str] | None:
    """Addresses and, for an alias, the name that it stands for."""
    outcome = lookup(names, name, namespace, *more_search)
    if outcome.addresses is None:
        return None
    target = wire.encode_name(name)[: outcome.alias_length] + b"\0" if outcome.alias_length else b""
    ips = ",".join(".".join(map(str, a)) for a in outcome.addresses.ipv4)
    return ips, wire.decode_name(target) if target else ""


@pytest.mark.parametrize("name", ["web.shop", "web.shop.svc", f"web.shop.svc.{DOMAIN}", "WEB.Shop.SVC"])
def test_a_service_is_found_by_its_forms_from_everywhere(name: str) -> None:
    assert found(table(service("web", "shop", "10.0.0.1")), name) == ("10.0.0.1", "")


def test_the_shortest_form_is_for_the_own_namespace() -> None:
    names = table(service("web", "shop", "10.0.0.1"))
    assert found(names, "web", "shop") == ("10.0.0.1", "")
    assert found(names, "web", "default") is None


def test_a_service_of_another_domain_has_no_short_forms() -> None:
    record = NameRecord("*/web.shop.svc.other.example", "1", ("10.0.0.1",), "Kubernetes", "web", "shop")
    assert found(table(record), "web.shop") is None
    assert found(table(record), "web.shop.svc.other.example") == ("10.0.0.1", "")


def test_alternative_hosts_are_names_too() -> None:
    record = NameRecord(
        f"*/web-0.web.shop.svc.{DOMAIN}", "1", ("10.0.0.1",), "Kubernetes", "web-0.web", "shop", ("other.example",)
    )
    names = table(record)
    assert found(names, "other.example") == found(names, "web-0.web.shop") == ("10.0.0.1", "")
    assert found(names, "web-0.web", "shop") == ("10.0.0.1", "")


def test_a_scope_is_seen_by_its_namespace_alone_and_goes_first() -> None:
    names = table(external("api.mesh", "1.1.1.1"), external("api.mesh", "2.2.2.2", scope="shop"))
    assert found(names, "api.mesh", "shop") == ("2.2.2.2", "")
    assert found(names, "api.mesh", "default") == ("1.1.1.1", "")


def test_a_full_name_goes_before_the_short_form_of_another() -> None:
    names = table(service("web", "shop", "10.0.0.1"), external("web.shop", "1.1.1.1"))
    assert found(names, "web.shop") == ("1.1.1.1", "")
    names.update((), ["*/web.shop"])
    assert found(names, "web.shop") == ("10.0.0.1", "")


@pytest.mark.parametrize("domain", [f"default.svc.{DOMAIN}", f"svc.{DOMAIN}", DOMAIN, "corp.example"])
def test_a_name_with_a_search_domain_is_an_alias(domain: str) -> None:
    names = table(external("AppMeshClient.mesh", "240.240.0.63"))
    expected = ("240.240.0.63", "AppMeshClient.mesh")
    assert found(names, f"AppMeshClient.mesh.{domain}", "default", "corp.example") == expected


def test_a_service_with_the_search_domain_that_completes_it_is_no_alias() -> None:
    names = table(service("web", "default", "10.0.0.1"))
    assert found(names, f"web.default.svc.{DOMAIN}") == ("10.0.0.1", "")


def test_a_search_domain_of_another_namespace_is_none() -> None:
    assert found(table(external("api.mesh", "1.1.1.1")), f"api.mesh.shop.svc.{DOMAIN}", "default") is None


def test_the_most_specific_wildcard_wins() -> None:
    names = table(external("*.example.com", "1.1.1.1"), external("*.eu.example.com", "2.2.2.2"))
    assert found(names, "a.example.com") == ("1.1.1.1", "")
    assert found(names, "a.b.eu.example.com") == ("2.2.2.2", "")
    assert found(names, "eu.example.com") == ("1.1.1.1", "")
    assert found(names, "example.com") is None
    assert found(names, "aexample.com") is None


def test_an_exact_host_goes_before_a_wildcard() -> None:
    names = table(external("*.example.com", "1.1.1.1"), external("a.example.com", "2.2.2.2"))
    assert found(names, "a.example.com") == ("2.2.2.2", "")


def test_a_wildcard_with_a_search_domain_is_an_alias() -> None:
    names = table(external("*.example.com", "1.1.1.1"), external("*.local", "2.2.2.2"))
    assert found(names, f"a.example.com.default.svc.{DOMAIN}") == ("1.1.1.1", "a.example.com")


def test_the_gateway_sees_kubernetes_names_only() -> None:
    names = table(service("web", "shop", "10.0.0.1", scope="shop"), external("api.mesh", "1.1.1.1"))
    see = lambda name: names.lookup((GATEWAY,), frozenset(), wire.encode_name(name)).addresses  # noqa: E731
    assert see(f"web.shop.svc.{DOMAIN}") is not None
    assert see("api.mesh") is None
    assert see("web") is None


def test_what_is_no_address_is_left_out() -> None:
    addresses = parse_addresses(["10.0.0.0/8", "10.0.0.1", "2001:2::1", "junk"])
    assert (len(addresses.ipv4), len(addresses.ipv6)) == (1, 1)
    assert addresses.of_type(wire.Type.ANY) == (*addresses.ipv4, *addresses.ipv6)


def test_a_host_that_is_no_name_is_left_out_alone() -> None:
    names = table(external("a..b", "1.1.1.1"), external("good.mesh", "2.2.2.2"))
    assert found(names, "good.mesh") == ("2.2.2.2", "")


def test_a_change_says_which_names_it_touched() -> None:
    names = table(service("web", "shop", "10.0.0.1"))
    touched = names.update([service("web", "shop", "10.0.0.2")], ())
    assert touched is not None
    assert {wire.decode_name(n) for n in touched} == {"web", "web.shop", "web.shop.svc", f"web.shop.svc.{DOMAIN}"}
    assert names.update([external("*.example.com", "1.1.1.1")], ()) is None


hosts = st.sampled_from(["a.mesh", "b.mesh", "*.mesh", "*.x.mesh", "c.x.mesh", "a.shop", "shop"])
records = st.one_of(
    st.builds(
        external, hosts, st.sampled_from(["1.1.1.1", "2.2.2.2"]), scope=st.sampled_from(["*", "default", "shop"])
    ),
    st.builds(service, st.sampled_from(["a", "b"]), st.sampled_from(["default", "shop"]), st.just("10.0.0.1")),
)


@given(st.lists(st.tuples(st.lists(records, max_size=3), st.lists(hosts, max_size=2)), max_size=6))
def test_a_table_is_what_its_records_make_it(steps: list[tuple[list[NameRecord], list[str]]]) -> None:
    """However it came about, by changes in any order, it answers like one that was filled at once."""
    names = Table(DOMAIN)
    for changed, removed in steps:
        names.update(changed, [f"*/{host}" for host in removed])
    anew = table(*reversed(names.records.values()))
    for name in (
        "a.mesh",
        "z.x.mesh",
        "c.x.mesh",
        "a.shop",
        "shop",
        "a",
        f"a.default.svc.{DOMAIN}",
        f"a.mesh.{DOMAIN}",
    ):
        for namespace in ("default", "shop"):
            assert lookup(names, name, namespace) == lookup(anew, name, namespace)
