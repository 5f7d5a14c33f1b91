"""resolv.conf is read as glibc reads it."""

from __future__ import annotations

from pilotfish.node.dns.resolvconf import ResolvConf, parse_resolv_conf


def test_servers_and_search_domains() -> None:
    text = """
    # a comment
    domain one.example
    nameserver 192.0.2.1
    nameserver fe80::1%eth0
    nameserver nonsense
    nameserver 192.0.2.1
    options ndots:5
    search corp.example. example.com
    nameserver 192.0.2.2
    nameserver 192.0.2.3
    """
    expected = ResolvConf(("192.0.2.1", "fe80::1%eth0", "192.0.2.2"), ("corp.example", "example.com"))
    assert parse_resolv_conf(text) == expected


def test_nothing_is_nothing() -> None:
    assert parse_resolv_conf("nameserver\nsearch\n; x\n") == ResolvConf()
