"""The assertion behind the incremental core: what many small updates made must equal what is made from nothing.

Istio has the same (UNSAFE_PILOT_ENABLE_RUNTIME_ASSERTIONS). It is on in tests.
"""

from __future__ import annotations

from collections.abc import Iterable

from pilotfish.api.meta import Object
from pilotfish.mesh.model import Change, Model
from pilotfish.xds.parts import Part, differences


class Audit:
    """Remembers every object, to make the model and every part again after each change and compare."""

    def __init__(self) -> None:
        self._objects: dict[tuple[type, str, str], Object] = {}

    def check(self, model: Model, changes: Iterable[Change], parts: Iterable[Part]) -> None:
        """Raises AssertionError, naming the resources, when something differs."""
        for old, new in changes:
            obj = new or old
            assert obj is not None
            key = (type(obj), obj.namespace, obj.name)
            if new is None:
                self._objects.pop(key, None)
            else:
                self._objects[key] = new
        fresh = model.empty()
        fresh.apply((None, obj) for obj in self._objects.values())
        was = {host.key: host for host in model.hosts()}
        should = {host.key: host for host in fresh.hosts()}
        assert was == should, (
            f"hosts differ: {sorted(k for k in was.keys() | should.keys() if was.get(k) != should.get(k))}"
        )
        for part in parts:
            wrong = differences(part.specs(), part.anew(fresh).specs())
            assert not wrong, f"{type(part).__name__} differs from one made anew: {wrong}"
            for url, name in part.specs():
                entry = part.entries(url)[name]
                assert entry.resource.body == entry.spec.body(), f"{url} {name} is not what its spec builds"
