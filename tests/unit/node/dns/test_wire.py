"""Messages are read and written as an independent implementation (dnslib) reads and writes them."""

from __future__ import annotations

import dnslib
import pytest
from dnstools import pack, query, read
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.node.dns import wire
from pilotfish.node.dns.wire import Query, Rcode, Refusal


def asked(packet: bytes) -> Query:
    found = wire.read_query(packet)
    assert isinstance(found, Query)
    return found


def refused(packet: bytes) -> Rcode:
    found = wire.read_query(packet)
    assert isinstance(found, Refusal)
    parsed = read(packet[:2] + found.body)
    assert parsed.header.qr == 1
    return found.rcode


def test_a_query_is_read() -> None:
    packet = query("WWW.Example.com", "AAAA")
    found = asked(packet)
    assert found.name == b"\x03www\x07example\x03com\0"
    assert found.question == packet[12:]
    assert (found.qtype, found.qclass, found.edns) == (28, 1, None)
    assert found.udp_limit == 512


@pytest.mark.parametrize(("said", "limit"), [(100, 512), (1232, 1232), (65535, wire.MAX_UDP_SIZE)])
def test_edns_gives_the_size_limit(said: int, limit: int) -> None:
    found = asked(query("a.b", edns=said, flags="do"))
    assert found.udp_limit == limit
    assert found.edns is not None
    assert found.edns.dnssec_ok


def test_a_query_with_edns_options_belongs_to_one_client() -> None:
    record = dnslib.DNSRecord.question("a.b")
    record.add_ar(dnslib.EDNS0(udp_len=1232, opts=[dnslib.EDNSOption(10, b"12345678")]))
    assert not asked(pack(record)).plain
    assert asked(query("a.b", edns=1232)).plain


@pytest.mark.parametrize("packet", [b"", b"\0" * 11, query("a.b")[:2] + b"\x80" + query("a.b")[3:]])
def test_what_must_not_be_answered_is_not(packet: bytes) -> None:
    assert wire.read_query(packet) is None


def test_refusals() -> None:
    good = query("a.b")
    status = good[:2] + b"\x11\0" + good[4:]
    assert refused(status) is Rcode.NOTIMP
    assert refused(good[:4] + b"\0\2" + good[6:]) is Rcode.FORMERR
    assert refused(good[:4] + b"\0\0" + good[6:]) is Rcode.FORMERR
    assert refused(good + b"more") is Rcode.FORMERR
    assert refused(good[:-1]) is Rcode.FORMERR
    assert refused(good[:12] + b"\xc0\x0c\0\1\0\1") is Rcode.FORMERR
    assert refused(good[:12] + (b"\x3f" + b"a" * 63) * 4 + b"\0\0\1\0\1") is Rcode.FORMERR
    two_opts = dnslib.DNSRecord.question("a.b")
    two_opts.add_ar(dnslib.EDNS0(), dnslib.EDNS0())
    assert refused(pack(two_opts)) is Rcode.FORMERR


def test_an_unknown_edns_version_gets_badvers() -> None:
    record = dnslib.DNSRecord.question("a.b")
    record.add_ar(dnslib.EDNS0(version=1, udp_len=1232))
    packet = pack(record)
    found = wire.read_query(packet)
    assert isinstance(found, Refusal)
    opt = read(packet[:2] + found.body).ar[0]
    assert (opt.edns_ver, opt.edns_rcode, opt.edns_len) == (0, 1, wire.RECEIVE_SIZE)


def test_an_answer_is_what_dnslib_reads() -> None:
    packet = query("Web.mesh", edns=1232, flags="do")
    found = asked(packet)
    records = wire.address_records([b"\x0a\0\0\1", bytes(15) + b"\1"])
    response = read(packet[:2] + wire.answer(found, records=records))
    assert response.header.id == 0x1234
    assert (response.header.qr, response.header.aa, response.header.rd, response.header.ra) == (1, 1, 1, 1)
    assert str(response.q.qname) == "Web.mesh."
    assert [(str(r.rname), str(r.rdata), r.ttl) for r in response.rr] == [
        ("Web.mesh.", "10.0.0.1", 30),
        ("Web.mesh.", "::1", 30),
    ]
    assert response.ar[0].edns_do


def test_an_alias_answer_chains() -> None:
    packet = query("Web.Mesh.default.svc.cluster.local")
    target = wire.encode_name("Web.Mesh")
    response = read(
        packet[:2] + wire.answer(asked(packet), records=wire.alias_records(asked(packet), target, [b"\1\2\3\4"]))
    )
    assert [(str(r.rname), str(r.rdata)) for r in response.rr] == [
        ("Web.Mesh.default.svc.cluster.local.", "Web.Mesh."),
        ("Web.Mesh.", "1.2.3.4"),
    ]


def test_a_truncated_answer_has_the_records_that_fit() -> None:
    packet = query("web.mesh")
    addresses = [bytes((10, 0, 0, n)) for n in range(100)]
    for records, kept in (([], 0), (wire.address_records(addresses), (512 - len(packet)) // 16)):
        response = read(packet[:2] + wire.truncated(asked(packet), records))
        assert response.header.tc == 1
        assert len(response.rr) == kept


@pytest.mark.parametrize("bad", ["a..b", "x" * 64, ".".join(["abcdefgh"] * 30)])
def test_what_is_no_name_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="not a DNS name"):
        wire.encode_name(bad)


labels = st.text(alphabet="abcXYZ019-_*", min_size=1, max_size=20)


@given(st.lists(labels, min_size=1, max_size=6), st.sampled_from(["A", "AAAA", "TXT", "SRV"]), st.booleans())
def test_every_query_of_dnslib_is_understood(name: list[str], qtype: str, edns: bool) -> None:
    packet = query(".".join(name), qtype, edns=1232 if edns else 0)
    found = asked(packet)
    assert wire.decode_name(found.name) == ".".join(name).lower()
    assert read(packet[:2] + wire.answer(found)).q == read(packet).q


@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    found = wire.read_query(data)
    assert found is None or isinstance(found, Query | Refusal)


@given(st.binary(max_size=60), st.binary(min_size=4, max_size=4))
def test_any_bytes_after_a_good_header_are_read_or_refused(data: bytes, counts: bytes) -> None:
    found = wire.read_query(b"\1\2\1\0\0\1\0" + counts[:1] + b"\0" + counts[1:2] + b"\0" + counts[2:3] + data)
    assert isinstance(found, Query | Refusal)
