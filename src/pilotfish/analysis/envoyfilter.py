"""EnvoyFilters: operations that do nothing where they are applied, or that count on others (Istio: envoyfilter.go)."""

from __future__ import annotations

from collections.abc import Iterator

from pilotfish.analysis import messages
from pilotfish.analysis.messages import Message, Path
from pilotfish.analysis.snapshot import Snapshot
from pilotfish.api.kinds import ENVOY_FILTER
from pilotfish.api.networking import EnvoyFilter
from pilotfish.api.networking.envoy_filter import EnvoyConfigObjectPatch

_ROUTES = frozenset({"ROUTE_CONFIGURATION", "HTTP_ROUTE"})
_REPLACEABLE = frozenset({"NETWORK_FILTER", "HTTP_FILTER", "VIRTUAL_HOST"})
_RELATIVE = frozenset({"REMOVE", "REPLACE", "INSERT_BEFORE", "INSERT_AFTER"})


def patches(snapshot: Snapshot) -> Iterator[Message]:
    """What is wrong with each patch by itself, and with relative ones without a priority."""
    versioned: set[str] = set()
    for obj in snapshot.of(ENVOY_FILTER):
        for position, patch in enumerate(obj.spec.config_patches):
            if patch.patch is None:
                break
            name = _name(patch)
            yield from _patch(obj, patch, ("spec", "configPatches", position, "patch", "value"), name in versioned)
            if patch.match.proxy is not None and patch.match.proxy.proxy_version:
                versioned.add(name)


def _patch(obj: EnvoyFilter, patch: EnvoyConfigObjectPatch, at: Path, versioned: bool) -> Iterator[Message]:
    """`versioned`: an earlier patch of the same name is for certain versions of proxies alone."""
    assert patch.patch is not None
    operation, target = patch.patch.operation, patch.apply_to
    if operation == "ADD" and target in _ROUTES:
        yield messages.ADD_INCORRECT.about(obj, at=at)
    elif operation == "REMOVE" and target in _ROUTES:
        yield messages.REMOVE_INCORRECT.about(obj, at=at)
    elif operation == "REPLACE" and target not in _REPLACEABLE:
        yield messages.REPLACE_INCORRECT.about(obj, at=at)
    elif operation in _RELATIVE and not obj.spec.priority:
        relative = messages.RELATIVE_OPERATION_WITH_VERSION if versioned else messages.RELATIVE_OPERATION
        yield relative.about(obj, at=at)


def _name(patch: EnvoyConfigObjectPatch) -> str:
    """The filter that a patch is about, as far as it says."""
    value = patch.patch.value if patch.patch is not None else None
    if not value:
        return ""
    if "name" in value:
        return str(value["name"])
    chain = patch.match.listener.filter_chain if patch.match.listener is not None else None
    return chain.filter.name if chain is not None and chain.filter is not None else ""
