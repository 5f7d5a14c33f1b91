"""The hosts that share a listener, and what it does for them."""

from __future__ import annotations

from pilotfish.xds.build.listeners import Chain, HttpChain
from pilotfish.xds.chains import apart
from pilotfish.xds.outbound import Claim


class Claims:
    """What hosts want of one listener. HTTP hosts want one and the same chain, so their number costs nothing; it looks
    names up when one of them wants that.
    """

    def __init__(self) -> None:
        self._http: dict[str, HttpChain] = {}
        self._looked_up: set[str] = set()
        self._others: dict[str, Claim] = {}
        self.bound = False
        """Whether the proxy itself listens there."""

    def put(self, hostname: str, claim: Claim) -> None:
        self.bound = claim.bound
        if claim.protocol.is_http and isinstance(claim.chains[0], HttpChain):
            self._http[hostname] = claim.chains[0]
            if claim.chains[0].lookup:
                self._looked_up.add(hostname)
        else:
            self._others[hostname] = claim

    def drop(self, hostname: str) -> None:
        self._http.pop(hostname, None)
        self._looked_up.discard(hostname)
        self._others.pop(hostname, None)

    @property
    def hostnames(self) -> tuple[str, ...]:
        """All of them."""
        return (*self._http, *self._others)

    @property
    def has_http(self) -> bool:
        """Whether any of them wants requests to be routed."""
        return bool(self._http) or any(
            isinstance(c, HttpChain) for other in self._others.values() for c in other.chains
        )

    def chains(self) -> tuple[Chain, ...]:
        """The chains of the listener: what several hosts ask for the oldest has.

        A protocol in which the server speaks first cannot share a listener with one that must be looked at: the oldest
        of them has it (Istio drops the younger in the same way).
        """
        others = sorted(self._others.values(), key=lambda claim: claim.age)
        http: tuple[Chain, ...] = ()
        if self._http:
            others = [claim for claim in others if not claim.protocol.server_first]
            http = (HttpChain(next(iter(self._http.values())).route, lookup=bool(self._looked_up)),)
        elif others and any(claim.protocol.server_first for claim in others):
            others = [claim for claim in others if claim.protocol is others[0].protocol]
        return apart((*http, *(chain for claim in others for chain in claim.chains)))
