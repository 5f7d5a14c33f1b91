"""What a URL names (apiserver pkg/endpoints/request/requestinfo.go)."""

from __future__ import annotations

from dataclasses import dataclass

_NAMESPACE_SUBRESOURCES = ("status", "finalize")


@dataclass(frozen=True, slots=True)
class RequestInfo:
    """The parts of /api/v1/… and /apis/{group}/{version}/…; what the path does not say is "".

    `namespace` "" with a namespaced kind means all namespaces.
    """

    group: str = ""
    version: str = ""
    resource: str = ""
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    watch: bool = False


def parse_path(path: str) -> RequestInfo | None:
    """What a path names; None when it is not the shape of an API path."""
    parts = [part for part in path.split("/") if part]
    match parts:
        case ["api", version, *rest]:
            group = ""
        case ["apis", group, version, *rest]:
            pass
        case ["apis", group]:
            return RequestInfo(group)
        case _:
            return None
    # The old form of a watch, /api/v1/watch/…, which some clients still use.
    watch = rest[:1] == ["watch"]
    rest = rest[1:] if watch else rest
    match rest:
        case []:
            return RequestInfo(group, version)
        case ["namespaces", name, subresource] if not group and subresource in _NAMESPACE_SUBRESOURCES:
            return RequestInfo(group, version, "namespaces", "", name, subresource)
        case ["namespaces", namespace, resource, *more] if len(more) <= 2:
            name, subresource = [*more, "", ""][:2]
            return RequestInfo(group, version, resource, namespace, name, subresource, watch)
        case [resource, *more] if len(more) <= 2:
            name, subresource = [*more, "", ""][:2]
            return RequestInfo(group, version, resource, "", name, subresource, watch)
    return None
