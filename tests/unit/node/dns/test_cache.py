"""Upstream answers are kept as long as their TTLs say, and no longer."""

from __future__ import annotations

from dataclasses import dataclass

import dnslib
import pytest
from dnstools import pack, query, read, resolver_reply

from pilotfish.node.dns.cache import MAX_TTL, AnswerCache, freshness
from pilotfish.node.dns.wire import Malformed

SOA = "example.com 600 IN SOA ns.example.com. root.example.com. 1 2 3 4 60"


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def response(*records: str, rcode: str = "NOERROR", soa: str = "", name: str = "www.example.com") -> bytes:
    return resolver_reply(*records, rcode=rcode, soa=soa)(read(query(name)), False)


@pytest.mark.parametrize(
    ("packet", "seconds"),
    [
        (response("www.example.com 30 IN A 1.1.1.1", "www.example.com 20 IN A 1.1.1.2"), 20),
        (response("www.example.com 0 IN A 1.1.1.1"), 0),
        (response("www.example.com 9999999 IN A 1.1.1.1"), MAX_TTL),
        (response(rcode="NXDOMAIN", soa=SOA), 60),
        (response(soa=SOA), 60),
        (response(rcode="NXDOMAIN"), 0),
        (response(rcode="SERVFAIL", soa=SOA), 0),
    ],
)
def test_how_long_a_response_is_fresh(packet: bytes, seconds: int) -> None:
    assert freshness(packet)[0] == seconds


def test_a_truncated_response_is_not_kept() -> None:
    record = dnslib.DNSRecord.parse(response("www.example.com 30 IN A 1.1.1.1"))
    record.header.tc = 1
    assert freshness(pack(record))[0] == 0


def test_a_cut_off_response_is_told() -> None:
    with pytest.raises(Malformed):
        freshness(response("www.example.com 30 IN A 1.1.1.1")[:-2])


def test_ttls_count_down_until_the_response_is_gone() -> None:
    clock = Clock()
    cache = AnswerCache(clock)
    cache.put(b"q", response("www.example.com 30 IN A 1.1.1.1"))
    clock.now += 12.4
    kept = cache.get(b"q")
    assert kept is not None
    assert read(kept).rr[0].ttl == 18
    clock.now += 17.6
    assert cache.get(b"q") is None
    assert len(cache) == 0


def test_the_oldest_goes_when_it_is_full() -> None:
    cache = AnswerCache(Clock(), capacity=2)
    for key in (b"1", b"2", b"3"):
        cache.put(key, response("www.example.com 30 IN A 1.1.1.1"))
    assert [cache.get(key) is not None for key in (b"1", b"2", b"3")] == [False, True, True]
