"""Where a route leads: a host of the registry, one of its subsets, one of its ports (virtual_service.proto)."""

from __future__ import annotations

from pilotfish.api.istio_types import UInt32
from pilotfish.api.meta import Struct


class PortSelector(Struct):
    number: UInt32 = 0


class Destination(Struct):
    """`port` may be left out where the host has one port only."""

    host: str
    subset: str = ""
    port: PortSelector | None = None


class RouteDestination(Struct):
    """`weight` is relative to the other destinations of the route."""

    destination: Destination
    weight: int = 0
