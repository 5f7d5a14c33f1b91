"""What of EnvoyFilters has no effect on what they mean: found while resources are built, and known while those are.

A value that cannot be read, or that is of another type than what it is to be merged into, changes nothing (as in Istio,
where the log tells). Resources are built when they are first asked for, so that nobody knows it earlier.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import NamedTuple
from weakref import WeakKeyDictionary

from pilotfish.mesh.envoy_filters import EnvoyFilters, Patch
from pilotfish.mesh.records import ObjectKey

log = logging.getLogger(__name__)


class Fault(NamedTuple):
    """A patch, and why it changes nothing."""

    patch: Patch
    why: str


_noted: ContextVar[list[Fault] | None] = ContextVar("noted", default=None)


class _Held:
    """The faults of all that lives, by whom they were found with."""

    def __init__(self) -> None:
        self._by_owner: WeakKeyDictionary[object, tuple[Fault, ...]] = WeakKeyDictionary()
        self._put = 0

    def put(self, owner: object, faults: list[Fault]) -> None:
        self._by_owner[owner] = tuple(dict.fromkeys(faults))
        self._put += 1

    @property
    def state(self) -> tuple[int, int]:
        """Something else whenever there may be other faults than before."""
        return self._put, len(self._by_owner)

    def faults(self) -> dict[Fault, None]:
        """Each once."""
        return {fault: None for faults in list(self._by_owner.values()) for fault in faults}


_held = _Held()


def note(patch: Patch, why: str) -> None:
    """Have it known, with whatever is being built, that a patch changes nothing."""
    fault = Fault(patch, why)
    _log(fault)
    if (noted := _noted.get()) is not None:
        noted.append(fault)


@functools.lru_cache(maxsize=1024)
def _log(fault: Fault) -> None:
    """Once for all resources that it is found with."""
    source = fault.patch.source
    log.error("EnvoyFilter %s/%s: %s", source.namespace, source.name, fault.why)


@contextlib.contextmanager
def held_by(owner: object) -> Iterator[None]:
    """What is noted within the context is known as long as the owner lives."""
    noted: list[Fault] = []
    token = _noted.set(noted)
    try:
        yield
    finally:
        _noted.reset(token)
    if noted:
        _held.put(owner, noted)


class Unapplied:
    """Tells of EnvoyFilters that have no effect somewhere, and when they have again."""

    def __init__(self, filters: EnvoyFilters, report: Callable[[ObjectKey, str | None], None]) -> None:
        self._filters = filters
        self._report = report
        self._told: dict[ObjectKey, str] = {}
        self._seen: object = None

    def look(self) -> None:
        """Tell what is not as it was."""
        seen = _held.state, self._filters.changes
        if seen == self._seen:
            return
        self._seen = seen
        before, self._told = self._told, self._standing()
        for key in before.keys() | self._told.keys():
            if before.get(key) != self._told.get(key):
                self._report(key, self._told.get(key))

    def _standing(self) -> dict[ObjectKey, str]:
        """By EnvoyFilter, leaving out patches that it no longer has: what they made may live on for a while."""
        found: dict[ObjectKey, dict[str, None]] = {}
        for patch, why in _held.faults():
            if self._filters.has(patch):
                found.setdefault(patch.source, {})[why] = None
        return {key: "; ".join(reasons) for key, reasons in found.items()}
