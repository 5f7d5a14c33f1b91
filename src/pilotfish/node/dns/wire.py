"""DNS messages as bytes (RFC 1035, EDNS of RFC 6891): queries read, answers written.

Names are kept in wire form, length-prefixed labels with the root's zero byte at the end. Lower-casing such bytes is
safe: a label's length is at most 63, and the letters start at 65.
An answer is written without its first two bytes, the id: the same bytes then serve everyone who asks the same.
"""

from __future__ import annotations

import enum
import itertools
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

HEADER_SIZE = 12
ID_SIZE = 2
MAX_NAME = 255
CLASSIC_UDP_SIZE = 512
MAX_UDP_SIZE = 4096
"""The largest datagram that we send, however much a client says it takes."""
RECEIVE_SIZE = 1232
"""What our OPT record says that we take: no fragments on any usual link."""
TTL = 30
"""Seconds that our own names may be kept (Istio's default for the names of its table)."""

QR, AA, TC, RD, RA, AD, CD = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080, 0x0020, 0x0010
_OPCODE = 0x7800
_POINTER = 0xC0
_QUESTION_POINTER = _POINTER << 8 | HEADER_SIZE
_DO = 0x8000

_header = struct.Struct(">HHHHHH")
_two = struct.Struct(">HH")
_record = struct.Struct(">HHIH")


class Type(enum.IntEnum):
    A = 1
    NS = 2
    CNAME = 5
    SOA = 6
    PTR = 12
    TXT = 16
    AAAA = 28
    OPT = 41
    ANY = 255


class Class(enum.IntEnum):
    IN = 1
    ANY = 255


class Rcode(enum.IntEnum):
    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5
    BADVERS = 16


class Malformed(ValueError):
    """Bytes that are no DNS message."""


@dataclass(frozen=True, slots=True)
class Edns:
    """A query's OPT record: the datagram size its sender takes, and whether it carries options (cookies, subnets …)."""

    size: int
    version: int
    dnssec_ok: bool
    options: bool


@dataclass(frozen=True, slots=True)
class Query:
    """One query with one question. `question` is name, type and class as asked; `name` is in lower case."""

    packet: bytes
    flags: int
    question: bytes
    name: bytes
    qtype: int
    qclass: int
    edns: Edns | None

    @property
    def udp_limit(self) -> int:
        """The size in bytes of the largest datagram that may answer it."""
        return min(max(self.edns.size, CLASSIC_UDP_SIZE), MAX_UDP_SIZE) if self.edns else CLASSIC_UDP_SIZE

    @property
    def plain(self) -> bool:
        """Whether two such queries of equal bytes mean the same thing: nothing in it belongs to one client alone."""
        return self.edns is None or not self.edns.options


def asking_for(query: Query, name: bytes) -> Query:
    """The same query about another name, in wire form."""
    kind = query.question[-4:]
    packet = query.packet[:HEADER_SIZE] + name + kind + query.packet[HEADER_SIZE + len(query.question) :]
    return replace(query, packet=packet, question=name + kind, name=name.lower())


@dataclass(frozen=True, slots=True)
class Refusal:
    """A packet that gets an error at once; `body` is the answer without its id."""

    rcode: Rcode
    body: bytes


def encode_name(name: str) -> bytes:
    """The wire form of a dotted name, case kept. Raises ValueError for what cannot be a DNS name."""
    labels = [label.encode() for label in name.removesuffix(".").split(".")] if name.strip(".") else []
    if any(not 0 < len(label) < 64 for label in labels):
        raise ValueError(f"{name!r} is not a DNS name: each label needs 1 to 63 bytes")
    wire = b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
    if len(wire) > MAX_NAME:
        raise ValueError(f"{name!r} is not a DNS name: it is longer than {MAX_NAME} bytes")
    return wire


def decode_name(wire: bytes) -> str:
    """The dotted form of an uncompressed name without the last dot, for people; odd bytes are escaped."""
    labels = (wire[start + 1 : start + 1 + wire[start]] for start in label_offsets(wire))
    return ".".join(label.decode("ascii", "backslashreplace") for label in labels) or "."


def label_offsets(wire: bytes) -> list[int]:
    """Where each label of an uncompressed, well-formed name starts; the root is left out."""
    offsets, at = [], 0
    while wire[at]:
        offsets.append(at)
        at += wire[at] + 1
    return offsets


def _skip_name(packet: bytes, at: int) -> int:
    """The offset after the name at `at`, which may end in a compression pointer."""
    while length := packet[at]:
        if length >= _POINTER:
            return at + 2
        if length > 63:
            raise Malformed("a label of an unknown kind")
        at += length + 1
    return at + 1


@dataclass(frozen=True, slots=True)
class Record:
    """A resource record's place in a message. `ttl_at` is the offset of its TTL, `data` the bounds of its data."""

    type: int
    rclass: int
    ttl: int
    ttl_at: int
    data: slice


def records(packet: bytes, at: int, count: int) -> Iterator[Record]:
    """The `count` records that start at `at`, which must end where the packet ends. Raises Malformed."""
    try:
        for _ in range(count):
            at = _skip_name(packet, at)
            rtype, rclass, ttl, length = _record.unpack_from(packet, at)
            end = at + _record.size + length
            if end > len(packet):
                raise Malformed("a record goes beyond the end")
            yield Record(rtype, rclass, ttl, at + 4, slice(at + _record.size, end))
            at = end
    except (IndexError, struct.error):
        raise Malformed("a record is cut off") from None
    if at != len(packet):
        raise Malformed("bytes after the last record")


def question_end(packet: bytes) -> int:
    """The offset after a message's first question. Raises Malformed when its name is compressed, long or cut off."""
    at = HEADER_SIZE
    try:
        while length := packet[at]:
            if length > 63:
                raise Malformed("a compressed name in a question")
            at += length + 1
    except IndexError:
        raise Malformed("a question is cut off") from None
    if at + 1 - HEADER_SIZE > MAX_NAME or at + 5 > len(packet):
        raise Malformed("a question is too long or cut off")
    return at + 5


def read_query(packet: bytes) -> Query | Refusal | None:
    """What a packet asks; or the error that it gets at once; or None for what must not be answered.

    Short packets and answers are dropped, lest two servers send each other errors for ever.
    """
    if len(packet) < HEADER_SIZE:
        return None
    _, flags, questions, *counts = _header.unpack_from(packet)
    if flags & QR:
        return None
    if flags & _OPCODE:
        return _bare_refusal(flags, Rcode.NOTIMP)
    if questions != 1 or flags & TC:
        return _bare_refusal(flags, Rcode.FORMERR)
    try:
        end = question_end(packet)
        edns = _edns(packet, end, counts) if any(counts) or end != len(packet) else None
    except Malformed:
        return _bare_refusal(flags, Rcode.FORMERR)
    name_end = end - 4
    qtype, qclass = _two.unpack_from(packet, name_end)
    name = packet[HEADER_SIZE:name_end].lower()
    query = Query(packet, flags, packet[HEADER_SIZE:end], name, qtype, qclass, edns)
    if edns and edns.version:
        return Refusal(Rcode.BADVERS, answer(query, Rcode.BADVERS, authoritative=False))
    return query


def _edns(packet: bytes, at: int, counts: Sequence[int]) -> Edns | None:
    found: Edns | None = None
    additional_from = counts[0] + counts[1]
    for position, record in enumerate(records(packet, at, sum(counts))):
        if record.type != Type.OPT:
            continue
        if found or position < additional_from:
            raise Malformed("an OPT record where none may be")
        found = Edns(
            size=record.rclass,
            version=record.ttl >> 16 & 0xFF,
            dnssec_ok=bool(record.ttl & _DO),
            options=record.data.stop > record.data.start,
        )
    return found


def _bare_refusal(flags: int, rcode: Rcode) -> Refusal:
    """An error without the question, which could not be read or means something else in this opcode."""
    return Refusal(rcode, struct.pack(">HHHHH", QR | flags & (_OPCODE | RD) | rcode, 0, 0, 0, 0))


def answer(
    query: Query, rcode: Rcode = Rcode.NOERROR, records: Sequence[bytes] = (), *, authoritative: bool = True
) -> bytes:
    """The answer to a query, without its id; an OPT record is in it exactly when the query had one."""
    flags = QR | RA | query.flags & (RD | CD) | rcode & 0xF | (AA if authoritative else 0)
    return _assemble(query, flags, rcode, records)


def truncated(query: Query, records: Sequence[bytes] = ()) -> bytes:
    """The answer that sends a client to TCP; what fits of the records is for resolvers that never go there (musl)."""
    flags = QR | RA | AA | TC | query.flags & (RD | CD)
    room = query.udp_limit - ID_SIZE - len(_assemble(query, flags, Rcode.NOERROR, ()))
    ends = itertools.accumulate(map(len, records))
    fitting = sum(1 for end in ends if end <= room)
    return _assemble(query, flags, Rcode.NOERROR, records[:fitting])


def _assemble(query: Query, flags: int, rcode: Rcode, records: Sequence[bytes]) -> bytes:
    additional = b""
    if query.edns:
        ttl = (rcode >> 4) << 24 | (_DO if query.edns.dnssec_ok else 0)
        additional = b"\0" + _record.pack(Type.OPT, RECEIVE_SIZE, ttl, 0)
    header = struct.pack(">HHHHH", flags, 1, len(records), 0, 1 if additional else 0)
    return b"".join((header, query.question, *records, additional))


def address_records(addresses: Sequence[bytes], owner: int = _QUESTION_POINTER) -> list[bytes]:
    """A and AAAA records for packed addresses; `owner` is a compression pointer, the question's name if not given."""
    return [
        struct.pack(">H", owner) + _record.pack(Type.A if len(a) == 4 else Type.AAAA, Class.IN, TTL, len(a)) + a
        for a in addresses
    ]


def alias_records(query: Query, target: bytes, addresses: Sequence[bytes]) -> list[bytes]:
    """A CNAME from the question's name to `target`, and the target's addresses."""
    head = struct.pack(">H", _QUESTION_POINTER) + _record.pack(Type.CNAME, Class.IN, TTL, len(target))
    target_at = HEADER_SIZE + len(query.question) + len(head)
    return [head + target, *address_records(addresses, _POINTER << 8 | target_at)]


def addresses_in(response: bytes, qtype: int) -> list[bytes]:
    """The packed addresses in a response, of one type, to whatever names they belong. Raises Malformed."""
    counts = _header.unpack_from(response)[3:]
    found = records(response, question_end(response), sum(counts))
    return [response[r.data] for r in itertools.islice(found, counts[0]) if r.type == qtype]


def id_of(packet: bytes) -> bytes:
    """A message's id, two bytes."""
    return packet[:2]


def rcode_of(body: bytes) -> int:
    """The header's response code of a message without its id."""
    return body[1] & 0xF
