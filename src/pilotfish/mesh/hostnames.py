"""Host names as configuration writes them: short names, wildcards, and which of them mean a given host."""

from __future__ import annotations

from collections.abc import Iterator


def resolve(name: str, namespace: str, cluster_domain: str) -> str:
    """The whole name, in lower case: one without a dot is that of a Kubernetes service of the namespace (Istio:
    ResolveShortnameToFQDN).
    """
    name = name.lower()
    return name if "." in name or name.startswith("*") else f"{name}.{namespace}.svc.{cluster_domain}"


def patterns(hostname: str) -> Iterator[str]:
    """What configuration may call a host: its name, then wildcards from the most specific to "*"."""
    yield hostname
    _, _, rest = hostname.removeprefix("*.").partition(".")
    while rest:
        yield f"*.{rest}"
        _, _, rest = rest.partition(".")
    if hostname != "*":
        yield "*"


def matches(hostname: str, pattern: str) -> bool:
    """Whether a pattern means a host (which may be a wildcard itself, then all of it)."""
    return hostname == pattern or pattern == "*" or (pattern.startswith("*") and hostname.endswith(pattern[1:]))
