"""Which chain of a listener has connections that several ask for: Envoy refuses a listener in which two match alike."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from pilotfish.xds.build.listeners import Chain, HttpChain, TcpChain


def apart(chains: Iterable[Chain]) -> tuple[Chain, ...]:
    """The chains, where an earlier one has what a later one asks for, too; HTTP comes last."""
    http: HttpChain | None = None
    taken: set[tuple[str, str]] = set()
    found: list[TcpChain] = []
    for chain in chains:
        if isinstance(chain, HttpChain):
            http = http or chain
        elif (left := _left(chain, taken)) is not None:
            taken.update(_pairs(left))
            found.append(left)
    found.sort(key=lambda chain: repr(chain.match))
    return (*found, http) if http else tuple(found)


def _left(chain: TcpChain, taken: set[tuple[str, str]]) -> TcpChain | None:
    """What of a chain is not taken: fewer server names, or fewer ranges; None for nothing at all."""
    if taken.isdisjoint(_pairs(chain)):
        return chain
    names = tuple(name for name in chain.server_names if taken.isdisjoint((r, name) for r in chain.ranges or ("",)))
    if names:
        return msgspec.structs.replace(chain, server_names=names)
    ranges = tuple(r for r in chain.ranges if taken.isdisjoint((r, name) for name in chain.server_names or ("",)))
    return msgspec.structs.replace(chain, ranges=ranges) if ranges else None


def _pairs(chain: TcpChain) -> list[tuple[str, str]]:
    """What it matches: destinations with server names, "" for any."""
    return [(where, name) for where in chain.ranges or ("",) for name in chain.server_names or ("",)]
