"""Where things are in the Kubernetes API: the URL paths of kinds and objects."""

from __future__ import annotations

from urllib.parse import quote

from pilotfish.api.scheme import AnyKind


def path_of(kind: AnyKind, namespace: str | None = None, name: str = "", subresource: str = "") -> str:
    """The path of a collection, an object or a subresource, in the kind's stored version.

    `namespace` None (or "") is the collection across all namespaces, and all there is for cluster-scoped kinds.
    """
    parts = ["apis", kind.group] if kind.group else ["api"]
    parts.append(kind.versions[0])
    if kind.namespaced and namespace:
        parts += ["namespaces", namespace]
    parts += [part for part in (kind.plural, name, subresource) if part]
    return "/" + "/".join(quote(part, safe="") for part in parts)
