"""`proxy-config routes` (istioctl/pkg/writer/envoy/configdump: route.go)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pilotfish.api.demand import DESTINATION_HEADER
from pilotfish.cli.proxyconfig.dump import Message, written_in
from pilotfish.cli.tables import Row

HEADER = ["NAME", "VHOST NAME", "DOMAINS", "MATCH", "VIRTUAL SERVICE"]
SHORT_HEADER = ["NAME", "VIRTUAL HOSTS"]
PASSTHROUGH = "PassthroughCluster"
_SHOWN_DOMAINS = 2


@dataclass(frozen=True)
class RouteFilter:
    name: str = ""

    def matches(self, route: Message) -> bool:
        return self.name in ("", route.get("name", ""))


def select(routes: Iterable[Message], wanted: RouteFilter) -> list[Message]:
    """Those that match: ports in their order, then the others as Envoy has them."""
    return sorted(filter(wanted.matches, routes), key=_order)


def _order(route: Message) -> tuple[bool, int]:
    name = str(route.get("name", ""))
    return not name.isdecimal(), int(name) if name.isdecimal() else 0


def table(routes: Iterable[Message], *, verbose: bool = True, named: bool = False) -> list[Row]:
    """One row for each route, or for each route configuration. `named`: with the kind of configuration."""
    prefix = "route/" if named else ""
    if not verbose:
        counted = [[f"{prefix}{r.get('name', '')}", str(len(r.get("virtual_hosts", ())))] for r in routes]
        return [SHORT_HEADER, *counted]
    rows = [HEADER]
    for config in routes:
        for host in config.get("virtual_hosts", ()):
            common = [f"{prefix}{config.get('name', '')}", host.get("name", ""), domains_text(host.get("domains", ()))]
            routed = host.get("routes", ())
            rows += [
                [*common, match_text(route.get("match", {})), written_in(route)]
                for route in routed
                if not _is_for_anybody(route.get("route", {}))
            ]
            if not routed:
                rows.append([*common, "/*", "404"])
    return rows


def _is_for_anybody(action: Message) -> bool:
    """Whether a route is for requests that no host takes (istioctl leaves them out)."""
    return action.get("cluster") == PASSTHROUGH or action.get("cluster_header") == DESTINATION_HEADER


def match_text(match: Message) -> str:
    """The path that a route matches; headers and the like are left out."""
    forms = {"prefix": "{}*", "path_separated_prefix": "PathPrefix:{}", "path": "{}"}
    parts = [form.format(match[field]) for field, form in forms.items() if match.get(field)]
    if "safe_regex" in match:
        parts.append(f"regex {match['safe_regex'].get('regex', '')}")
    return " ".join(parts)


def domains_text(domains: Sequence[str]) -> str:
    """The first few domains that are not another's longer form or the same with a port, and how many more there are."""
    if len(domains) < 2:
        return "".join(domains)
    plain = [name for name in domains if ":" not in name or name.endswith("]")]
    known = set(plain)
    short = [name for name in plain if not _shortened(name, known)]
    more = len(short) - _SHOWN_DOMAINS
    shown = ", ".join(short[:_SHOWN_DOMAINS])
    return f"{shown} + {more} more..." if more > 0 else shown


def _shortened(name: str, known: set[str]) -> bool:
    """Whether a shorter form of a Kubernetes name is there too."""
    forms = {name.removesuffix(".svc.cluster.local"), name.removesuffix(".svc")} - {name}
    return not forms.isdisjoint(known)
