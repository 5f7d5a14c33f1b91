"""An Envoy's answer to `/config_dump`, by section.

It is read as plain JSON, so that extensions which we do not know are shown like all others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

Message = Mapping[str, Any]
"""A protobuf message in JSON, with its fields' own names: Envoy's admin interface writes them so."""


class DumpError(Exception):
    """A text is no configuration dump, or lacks what is looked for; the message says which."""


@dataclass(frozen=True)
class ConfigDump:
    """The sections of a dump by the name of their message, e.g. "ListenersConfigDump"."""

    sections: Mapping[str, Message]

    @staticmethod
    def parse(text: bytes) -> ConfigDump:
        """Raises DumpError."""
        try:
            document = msgspec.json.decode(text)
            configs = document["configs"]
            return ConfigDump({str(config["@type"]).rpartition(".")[2]: config for config in configs})
        except (msgspec.DecodeError, KeyError, TypeError) as error:
            raise DumpError(f"this is not what an Envoy answers to /config_dump: {error}") from error

    def section(self, name: str) -> Message:
        """Raises DumpError where the dump has none."""
        try:
            return self.sections[name]
        except KeyError:
            raise DumpError(f"the configuration dump has no {name}") from None

    def clusters(self) -> list[Message]:
        """Those in force, dynamic and static ones. Raises DumpError when there is none, as the others do."""
        section = self.section("ClustersConfigDump")
        held = (*section.get("dynamic_active_clusters", ()), *section.get("static_clusters", ()))
        return _found("clusters", (one["cluster"] for one in held if "cluster" in one))

    def listeners(self) -> list[Message]:
        section = self.section("ListenersConfigDump")
        active = [one["active_state"] for one in section.get("dynamic_listeners", ()) if "active_state" in one]
        held = (*active, *section.get("static_listeners", ()))
        return _found("listeners", (one["listener"] for one in held if "listener" in one))

    def routes(self) -> list[Message]:
        section = self.section("RoutesConfigDump")
        held = (*section.get("dynamic_route_configs", ()), *section.get("static_route_configs", ()))
        return _found("routes", (one["route_config"] for one in held if "route_config" in one))

    def endpoints(self) -> list[Message]:
        """Load assignments, which a dump has when it was asked for with `include_eds`; none where it has not."""
        section = self.sections.get("EndpointsConfigDump", {})
        held = (*section.get("dynamic_endpoint_configs", ()), *section.get("static_endpoint_configs", ()))
        return [one["endpoint_config"] for one in held if "endpoint_config" in one]

    def extensions(self) -> list[Message]:
        """Filters that came by ECDS, as TypedExtensionConfig."""
        section = self.sections.get("EcdsConfigDump", {})
        return [one["ecds_filter"] for one in section.get("ecds_filters", ()) if "ecds_filter" in one]


def _found(what: str, messages: Iterator[Message]) -> list[Message]:
    found = list(messages)
    if not found:
        raise DumpError(f"no {what} found")
    return found


def address_of(address: Message) -> str:
    """An `Address` without its port: an IP address, a pipe's path, or the name of an internal listener."""
    if "socket_address" in address:
        return str(address["socket_address"].get("address", ""))
    if "pipe" in address:
        return str(address["pipe"].get("path", ""))
    if "envoy_internal_address" in address:
        internal = address["envoy_internal_address"]
        return f"envoy://{internal.get('server_listener_name', '')}/{internal.get('endpoint_id', '')}"
    return ""


def port_of(address: Message) -> int:
    """The port of an `Address`; 0 where it has none."""
    return int(address.get("socket_address", {}).get("port_value", 0))


def written_in(message: Message) -> str:
    """The Istio resource that a cluster or route says it comes from, as name.namespace; "" where it says nothing."""
    path = str(message.get("metadata", {}).get("filter_metadata", {}).get("istio", {}).get("config", ""))
    if not path:
        return ""
    # /apis/networking.istio.io/v1/namespaces/default/destination-rule/reviews
    parts = path.split("/")
    if not path.startswith("/apis/networking.istio.io/"):
        return "<unknown>"
    return f"{parts[7]}.{parts[5]}" if len(parts) == 8 else ""
