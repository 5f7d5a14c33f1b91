"""What the server offers: /api, /apis and the what is below them, also in one document (aggregated discovery)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pilotfish import __version__
from pilotfish.api.meta import Document
from pilotfish.api.scheme import AnyKind, Scheme
from pilotfish.apiserver.content import JSON, media_type
from pilotfish.apiserver.reviews import REVIEWS, Review
from pilotfish.apiserver.subresources import SCALE_API_VERSION

KUBERNETES_VERSION = (1, 33)
"""The Kubernetes release whose protocol is spoken; kubectl compares it with its own."""

VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
SUBRESOURCE_VERBS = ["get", "patch", "update"]
POD_STREAMS: dict[str, tuple[str, list[str]]] = {
    "log": ("Pod", ["get"]),
    "exec": ("PodExecOptions", ["create", "get"]),
    "attach": ("PodAttachOptions", ["create", "get"]),
    "portforward": ("PodPortForwardOptions", ["create", "get"]),
}
"""Subresources of pods that are streams, served by routes that the composition adds: their kinds and verbs."""

GroupVersion = tuple[str, str]


def version_info() -> Document:
    """The answer of /version."""
    major, minor = KUBERNETES_VERSION
    return {
        "major": str(major),
        "minor": str(minor),
        "gitVersion": f"v{major}.{minor}.0+pilotfish-{__version__}",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "",
        "platform": "linux/amd64",
    }


def group_versions(scheme: Scheme) -> dict[GroupVersion, list[AnyKind]]:
    """The kinds of each group and version; within a group, the preferred version comes first."""
    found: dict[GroupVersion, list[AnyKind]] = {}
    for kind in scheme:
        for version in kind.versions:
            found.setdefault((kind.group, version), []).append(kind)
    return found


def _groups(scheme: Scheme) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    pairs = [*group_versions(scheme), *((r.group, r.version) for r in REVIEWS)]
    for group, version in pairs:
        versions = groups.setdefault(group, [])
        if version not in versions:
            versions.append(version)
    return groups


def api_version_of(group: str, version: str) -> str:
    return f"{group}/{version}" if group else version


def api_versions(address: str) -> Document:
    """The answer of /api."""
    return {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    }


def api_group_list(scheme: Scheme) -> Document:
    """The answer of /apis."""
    groups = [_api_group(group, versions) for group, versions in _groups(scheme).items() if group]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def api_group(scheme: Scheme, group: str) -> Document | None:
    """The answer of /apis/{group}; None when there is no such group."""
    versions = _groups(scheme).get(group)
    return {"kind": "APIGroup", "apiVersion": "v1", **_api_group(group, versions)} if versions else None


def _api_group(group: str, versions: list[str]) -> Document:
    entries = [{"groupVersion": f"{group}/{version}", "version": version} for version in versions]
    return {"name": group, "versions": entries, "preferredVersion": entries[0]}


def api_resource_list(scheme: Scheme, group: str, version: str) -> Document | None:
    """The answer of /api/v1 and /apis/{group}/{version}; None when it is not served."""
    kinds = group_versions(scheme).get((group, version), [])
    reviews = [r for r in REVIEWS if (r.group, r.version) == (group, version)]
    if not kinds and not reviews:
        return None
    resources: list[Document] = []
    for kind in kinds:
        resources.append(
            {
                "name": kind.plural,
                "singularName": kind.singular or kind.kind.lower(),
                "namespaced": kind.namespaced,
                "kind": kind.kind,
                "verbs": VERBS,
                **({"shortNames": list(kind.short_names)} if kind.short_names else {}),
                **({"categories": list(kind.categories)} if kind.categories else {}),
            }
        )
        for name, (of_group, of_version, of_kind), verbs in _subresources(kind, version):
            identity = {} if of_group == group else {"group": of_group, "version": of_version}
            resources.append(
                {
                    "name": f"{kind.plural}/{name}",
                    "singularName": "",
                    "namespaced": kind.namespaced,
                    **identity,
                    "kind": of_kind,
                    "verbs": verbs,
                }
            )
    resources += (
        {"name": r.plural, "singularName": r.kind.lower(), "namespaced": False, "kind": r.kind, "verbs": ["create"]}
        for r in reviews
    )
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": api_version_of(group, version),
        "resources": resources,
    }


def _subresources(kind: AnyKind, version: str) -> Iterator[tuple[str, tuple[str, str, str], list[str]]]:
    """A kind's subresources: name, (group, version, kind) of what they take and give, verbs."""
    for name in sorted(kind.subresources):
        if name == "scale":
            group, _, scale_version = SCALE_API_VERSION.partition("/")
            yield name, (group, scale_version, "Scale"), SUBRESOURCE_VERBS
        elif name in POD_STREAMS:
            yield name, (kind.group, version, POD_STREAMS[name][0]), POD_STREAMS[name][1]
        else:
            verbs = ["update"] if name == "finalize" else SUBRESOURCE_VERBS
            yield name, (kind.group, version, kind.kind), verbs


def aggregated_form(accept: str) -> str | None:
    """The media type of aggregated discovery to answer with, when the client prefers it to the separate documents."""
    for entry in accept.split(","):
        name, parameters = media_type(entry)
        if name != JSON:
            continue
        if parameters.get("as") == "APIGroupDiscoveryList":
            version = parameters.get("v", "")
            if parameters.get("g") == "apidiscovery.k8s.io" and version in ("v2", "v2beta1"):
                return f"{JSON};g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
            continue
        return None
    return None


def aggregated(scheme: Scheme, *, core: bool, form: str) -> Document:
    """All resources of /api (`core`) or of /apis in one document, in the form that `aggregated_form` chose."""
    _, parameters = media_type(form)
    kinds = group_versions(scheme)
    items = []
    for group, versions in _groups(scheme).items():
        if bool(group) == core:
            continue
        items.append(
            {
                "metadata": {"name": group, "creationTimestamp": None} if group else {"creationTimestamp": None},
                "versions": [
                    {
                        "version": version,
                        "freshness": "Current",
                        "resources": [
                            *(_aggregated_kind(kind, version) for kind in kinds.get((group, version), ())),
                            *_aggregated_reviews(r for r in REVIEWS if (r.group, r.version) == (group, version)),
                        ],
                    }
                    for version in versions
                ],
            }
        )
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": f"apidiscovery.k8s.io/{parameters['v']}",
        "metadata": {},
        "items": items,
    }


def _aggregated_kind(kind: AnyKind, version: str) -> Document:
    described: dict[str, Any] = {
        "resource": kind.plural,
        "responseKind": {"group": kind.group, "version": version, "kind": kind.kind},
        "scope": "Namespaced" if kind.namespaced else "Cluster",
        "singularResource": kind.singular or kind.kind.lower(),
        "verbs": VERBS,
    }
    if kind.short_names:
        described["shortNames"] = list(kind.short_names)
    if kind.categories:
        described["categories"] = list(kind.categories)
    subresources = [
        {"subresource": name, "responseKind": {"group": group, "version": of_version, "kind": of_kind}, "verbs": verbs}
        for name, (group, of_version, of_kind), verbs in _subresources(kind, version)
    ]
    if subresources:
        described["subresources"] = subresources
    return described


def _aggregated_reviews(reviews: Iterable[Review]) -> Iterator[Document]:
    for review in reviews:
        yield {
            "resource": review.plural,
            "responseKind": {"group": review.group, "version": review.version, "kind": review.kind},
            "scope": "Cluster",
            "singularResource": review.kind.lower(),
            "verbs": ["create"],
        }
