from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.node.ipam import AddressPool, OutOfAddresses, choose_free_networks, networks_of_host


@given(st.text("0123456789abcdef", min_size=6, max_size=6), st.lists(st.integers(0, 255), max_size=40))
def test_networks_are_free_and_stable_and_apart(home_id: str, second_octets: list[int]) -> None:
    taken = [IPv4Network(f"10.{octet}.0.0/16") for octet in second_octets]
    pods, services = choose_free_networks(home_id, taken)
    assert (pods.prefixlen, services.prefixlen) == (16, 20)
    assert not pods.overlaps(services)
    assert not any(network.overlaps(each) for network in (pods, services) for each in taken)
    assert (pods, services) == choose_free_networks(home_id, reversed(taken))
    assert pods.subnet_of(IPv4Network("10.0.0.0/8"))


def test_the_last_free_network_is_found_and_none_is_an_error_that_says_so() -> None:
    taken = [IPv4Network(f"10.{octet}.0.0/16") for octet in range(256) if octet not in (77, 78)]
    pods, services = choose_free_networks("abcdef", taken)
    assert {pods.network_address.packed[1], services.network_address.packed[1]} == {77, 78}
    with pytest.raises(OutOfAddresses, match="podCidr"):
        choose_free_networks("abcdef", [IPv4Network("10.0.0.0/8")])


def test_the_networks_of_this_host_hold_its_addresses() -> None:
    assert any(IPv4Address("127.0.0.1") in network for network in networks_of_host())
    assert IPv4Network("0.0.0.0/0") not in networks_of_host()


def test_addresses_go_round_and_a_freed_one_comes_last() -> None:
    pool = AddressPool(IPv4Network("10.1.0.0/29"))
    first = [str(pool.take()) for _ in range(3)]
    assert first == ["10.1.0.2", "10.1.0.3", "10.1.0.4"]
    pool.give_back(IPv4Address("10.1.0.3"))
    assert [str(pool.take()) for _ in range(3)] == ["10.1.0.5", "10.1.0.6", "10.1.0.3"]
    with pytest.raises(OutOfAddresses, match=r"10\.1\.0\.0/29"):
        pool.take()


def test_what_exists_is_not_given_out_again_after_a_restart() -> None:
    in_use = {IPv4Address("10.1.0.2"), IPv4Address("10.1.0.5")}
    pool = AddressPool(IPv4Network("10.1.0.0/29"), in_use)
    assert {pool.take() for _ in range(3)} == {IPv4Address(f"10.1.0.{last}") for last in (3, 4, 6)}
