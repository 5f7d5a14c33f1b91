"""Parts that show entries of a scope, so that whatever a proxy has is what it would have with everything, built and
serialised once for all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from pilotfish.xds.build.routes import VirtualHostSpec
from pilotfish.xds.parts import Part
from pilotfish.xds.scope import Scope

Key = tuple[str, str]
"""Type URL and name."""


class Shown(Part):
    """A part that shows entries of a scope, each as long as something wants it."""

    def __init__(self, scope: Scope) -> None:
        super().__init__(scope.patching)
        self.scope = scope
        self._wanted: dict[str, frozenset[Key]] = {}
        self._wanting: Counter[Key] = Counter()

    def show(self, owner: str, keys: frozenset[Key]) -> None:
        """Have an owner want these resources and no others, and show them as they are now."""
        before = self._wanted.pop(owner, frozenset())
        if keys:
            self._wanted[owner] = keys
        self._wanting.update(keys - before)
        for key in before - keys:
            self._wanting[key] -= 1
            if not self._wanting[key]:
                del self._wanting[key]
                self.drop(*key)
        for type_url, name in keys:
            self.keep(type_url, name, self.scope.entries(type_url).get(name))

    def put_routes(self, port: int, hosts: Iterable[VirtualHostSpec]) -> None:
        """Have a route configuration of these virtual hosts for a port that many hosts share."""
        ordered = tuple(sorted(hosts, key=lambda host: host.name))
        audience = self.scope.audience
        asked_for = audience.on_demand.ranges if audience.on_demand else ()
        self.put(audience.settings.route_configuration(port, ordered, asked_for))
