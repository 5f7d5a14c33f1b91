"""Connection tracking: forgetting UDP flows that rules would translate otherwise by now.

A connection is translated when it begins. A UDP client that goes on sending from one port never ends, so it would stay
with an endpoint that is long gone; its flow has to be forgotten, and the next packet begins a new one.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.nfnetlink.nfctsocket import NFCTAttrTuple, NFCTSocket

Address = tuple[IPv4Address, int]


@dataclass(frozen=True)
class Flow:
    """A UDP flow of this namespace: who sends, to which address, and who really answers."""

    client: Address
    destination: Address
    answered_by: Address


def forget_udp_flows(stale: Callable[[Flow], bool]) -> int:
    """Forgets the UDP flows that are stale, and returns how many. Blocks. Raises OSError or NetlinkError."""
    with NFCTSocket() as table:
        udp = NFCTAttrTuple(socket.AF_INET, proto=socket.IPPROTO_UDP)
        flows = [flow for flow in map(_flow, table.dump(tuple_orig=udp)) if stale(flow)]
        for flow in flows:
            with _already_gone():
                table.entry("del", tuple_orig=_tuple_of(flow))
    return len(flows)


def _flow(entry: Any) -> Flow:
    original, reply = entry.get_attr("CTA_TUPLE_ORIG"), entry.get_attr("CTA_TUPLE_REPLY")
    return Flow(_end(original, "SRC"), _end(original, "DST"), _end(reply, "SRC"))


def _end(tuple_: Any, end: str) -> Address:
    address = tuple_.get_attr("CTA_TUPLE_IP").get_attr(f"CTA_IP_V4_{end}")
    return IPv4Address(address), tuple_.get_attr("CTA_TUPLE_PROTO").get_attr(f"CTA_PROTO_{end}_PORT")


def _tuple_of(flow: Flow) -> NFCTAttrTuple:
    (source, source_port), (destination, destination_port) = flow.client, flow.destination
    return NFCTAttrTuple(
        socket.AF_INET,
        saddr=str(source),
        daddr=str(destination),
        proto=socket.IPPROTO_UDP,
        sport=source_port,
        dport=destination_port,
    )


@contextlib.contextmanager
def _already_gone() -> Iterator[None]:
    try:
        yield
    except NetlinkError as error:
        if error.code != errno.ENOENT:
            raise
