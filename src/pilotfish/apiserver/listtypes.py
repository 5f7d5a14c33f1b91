"""How lists and objects inside Kubernetes' types merge, as its types declare it (patchStrategy, listType, mapType).

Types that say nothing here merge as JSON does: objects field by field, lists as a whole. That holds for all of Istio's
kinds, whose schemas declare no more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pilotfish.api import core, discovery, meta
from pilotfish.api.apps import DeploymentSpec, DeploymentStatus, ReplicaSetStatus
from pilotfish.api.decode import fields_of
from pilotfish.api.meta import Struct
from pilotfish.api.pods import Container, EnvVarSource, PodSpec, PodStatus


@dataclass(frozen=True, slots=True)
class Merge:
    """How the value of one field merges.

    `patch_key` identifies the items of a list in strategic merge patches; `patch_set` makes a list of plain values a
    set in them. `keys` identify the items in server-side apply; `as_set` makes a list of plain values a set in it.
    `atomic` objects are replaced as a whole by server-side apply. `retain_keys` lets a patch say which fields stay.
    """

    patch_key: str = ""
    patch_set: bool = False
    keys: tuple[str, ...] = ()
    as_set: bool = False
    atomic: bool = False
    retain_keys: bool = False


PLAIN = Merge()


def _by(*keys: str, patch: str = "", retain_keys: bool = False) -> Merge:
    return Merge(patch_key=patch or keys[0], keys=keys, retain_keys=retain_keys)


_SET = Merge(patch_set=True, as_set=True)
_ATOMIC = Merge(atomic=True)

_FIELDS: dict[tuple[type[Struct], str], Merge] = {
    (meta.ObjectMeta, "ownerReferences"): _by("uid"),
    (meta.ObjectMeta, "finalizers"): _SET,
    (PodSpec, "containers"): _by("name"),
    (PodSpec, "initContainers"): _by("name"),
    (PodSpec, "ephemeralContainers"): _by("name"),
    (PodSpec, "volumes"): _by("name", retain_keys=True),
    (PodSpec, "imagePullSecrets"): _by("name"),
    (PodSpec, "hostAliases"): _by("ip"),
    (PodSpec, "topologySpreadConstraints"): _by("topologyKey", "whenUnsatisfiable"),
    (PodSpec, "schedulingGates"): _by("name"),
    (PodSpec, "resourceClaims"): _by("name", retain_keys=True),
    (PodSpec, "nodeSelector"): _ATOMIC,
    (Container, "ports"): _by("containerPort", "protocol"),
    (Container, "env"): _by("name"),
    (Container, "volumeMounts"): _by("mountPath"),
    (Container, "volumeDevices"): _by("devicePath"),
    (EnvVarSource, "fieldRef"): _ATOMIC,
    (EnvVarSource, "configMapKeyRef"): _ATOMIC,
    (EnvVarSource, "secretKeyRef"): _ATOMIC,
    (EnvVarSource, "resourceFieldRef"): _ATOMIC,
    (PodStatus, "conditions"): _by("type"),
    (PodStatus, "podIPs"): _by("ip"),
    (PodStatus, "hostIPs"): Merge(patch_key="ip"),
    (core.ServiceSpec, "ports"): _by("port", "protocol"),
    (core.ServiceSpec, "selector"): _ATOMIC,
    (core.ServiceStatus, "conditions"): _by("type"),
    (core.ServiceAccount, "secrets"): _by("name"),
    (core.NodeSpec, "podCIDRs"): _SET,
    (core.NodeStatus, "addresses"): _by("type"),
    (core.NodeStatus, "conditions"): _by("type"),
    (core.NamespaceStatus, "conditions"): _by("type"),
    (core.Event, "involvedObject"): _ATOMIC,
    (core.Event, "related"): _ATOMIC,
    (DeploymentSpec, "strategy"): Merge(retain_keys=True),
    (DeploymentSpec, "selector"): _ATOMIC,
    (DeploymentStatus, "conditions"): _by("type"),
    (ReplicaSetStatus, "conditions"): _by("type"),
    (discovery.Endpoint, "targetRef"): _ATOMIC,
    (discovery.Endpoint, "addresses"): Merge(as_set=True),
}

KEY_DEFAULTS = {"protocol": "TCP"}
"""What a list key is taken for where an item leaves it out (Kubernetes declares these defaults on the key fields)."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What is known about a value: how it merges, and the type of the object it is or of the items it holds."""

    merge: Merge = PLAIN
    type: type[Struct] | None = None

    def field(self, name: str) -> Shape:
        """The shape of a field of this object, or of the object that an item of this list is."""
        if self.type is None:
            return UNKNOWN
        known = fields_of(self.type).get(name)
        return Shape(_FIELDS.get((self.type, name), PLAIN), known[1] if known else None)


UNKNOWN = Shape()


def key_of(merge: Merge, item: Any) -> tuple[Any, ...] | None:
    """The values that identify a list item for server-side apply, or None when it lacks them."""
    if not isinstance(item, dict):
        return None
    values = tuple(item.get(key, KEY_DEFAULTS.get(key)) for key in merge.keys)
    return None if None in values else values
