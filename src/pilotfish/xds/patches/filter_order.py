"""Where filters go that EnvoyFilters add without naming a neighbour.

Istio puts them last, behind the filter with which each chain ends, which Envoy refuses; and reads no `filterClass`.
Here they are where its documentation has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pilotfish.mesh.envoy_filters import Patch
from pilotfish.xds.build.peers import HEAR_PEER, TELL_PEER
from pilotfish.xds.patches.values import value_of

_HTTP = "envoy.filters.http."
_FIRST = frozenset(f"{_HTTP}{name}" for name in ("grpc_web", "grpc_stats", TELL_PEER, HEAR_PEER))
"""They see requests before anybody decides about them."""
_AUTHENTICATION = frozenset({f"{_HTTP}jwt_authn", "istio_authn"})
_AUTHORIZATION = frozenset({f"{_HTTP}rbac", f"{_HTTP}ext_authz", "envoy.filters.network.rbac"})
_AFTER = {"AUTHN": _FIRST | _AUTHENTICATION, "AUTHZ": _FIRST | _AUTHENTICATION | _AUTHORIZATION}
"""What filters of a class come after."""


def place_of(patch: Patch, filters: Any, before: Sequence[Patch]) -> int:
    """The index at which to insert the filter that a patch adds; `before` are the patches that were applied already.

    Those that decide about clients come after the mesh's own of their sort, all others before the filter that ends the
    chain; of one class in the order of their patches.
    """
    anchors = _AFTER.get(patch.filter_class)
    if anchors is None:
        return max(len(filters) - 1, 0)
    earlier = ("AUTHN",) if patch.filter_class == "AUTHN" else ("AUTHN", "AUTHZ")
    added = {value_of(other).name for other in before if other.filter_class in earlier and value_of(other) is not None}
    last = max((i for i, found in enumerate(filters) if found.name in anchors or found.name in added), default=-1)
    return last + 1
