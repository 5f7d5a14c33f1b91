"""`proxy-config bootstrap` and `ecds` (istioctl/pkg/writer/envoy/configdump: configdump.go, ecds.go)."""

from __future__ import annotations

from collections.abc import Iterable

from pilotfish.cli.proxyconfig.dump import Message
from pilotfish.cli.tables import Row

PADDING = 1
"""Spaces between the two columns."""

_TYPE_PREFIX = "type.googleapis.com/"


def summary(section: Message) -> list[Row]:
    """The versions of mesh and Envoy, from a BootstrapConfigDump."""
    node = section.get("bootstrap", {}).get("node", {})
    metadata = node.get("metadata", {})
    build = node.get("user_agent_build_version", {})
    rows = [
        ["Istio Version:", str(metadata.get("ISTIO_VERSION", ""))],
        ["Istio Proxy Version:", str(metadata.get("ISTIO_PROXY_SHA", "")).rpartition(":")[2]],
        ["Envoy Version:", _envoy_version(build)],
    ]
    return [row for row in rows if row[1]]


def _envoy_version(build: Message) -> str:
    version = build.get("version", {})
    numbers = ".".join(str(version.get(part, 0)) for part in ("major_number", "minor_number", "patch"))
    about = build.get("metadata", {})
    label = f"-{about['build.label']}" if "build.label" in about else ""
    more = (about.get(key) for key in ("revision.status", "build.type", "ssl.version"))
    return "/".join([f"{numbers}{label}", *filter(None, more)])


def extension_table(extensions: Iterable[Message]) -> list[Row]:
    """Filters that came by ECDS, ordered by type and name."""
    rows = [
        [str(one.get("name", "")), str(one.get("typed_config", {}).get("@type", "")).removeprefix(_TYPE_PREFIX)]
        for one in extensions
    ]
    return [["ECDS NAME", "TYPE"], *sorted(rows, key=lambda row: (row[1], row[0]))]
