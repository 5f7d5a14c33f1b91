"""A host as one viewer sees it: all that the configuration of proxies depends on for it, as one record."""

from __future__ import annotations

from pilotfish.mesh.policies import Routing, Rule
from pilotfish.mesh.records import Host, Record, Service


class Destination(Record):
    """A host to which requests for another are routed, and what is to be done on the way there."""

    hostname: str
    service: Service
    rule: Rule | None


class Seen(Record):
    """A host name (in lower case) with what applies to it.

    `host` is None for a name that a VirtualService routes and that no registry has. `routings` are as in
    `Policies.routings`; `destinations` are the hosts to which they lead, as far as the viewer sees them. `aside`: the
    viewer does not import the host, but a VirtualService leads there (Istio brings it in as well). `stands_for` is the
    service that an alias means in the end.
    """

    hostname: str
    host: Host | None
    rule: Rule | None = None
    routings: tuple[tuple[Routing, ...], ...] = ()
    destinations: tuple[Destination, ...] = ()
    aside: bool = False
    stands_for: Service | None = None

    def destination(self, hostname: str) -> Destination | None:
        return next((found for found in self.destinations if found.hostname == hostname), None)
