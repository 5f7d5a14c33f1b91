"""The host's resolver configuration, resolv.conf(5)."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

_MAX_SERVERS = 3  # glibc's MAXNS


@dataclass(frozen=True, slots=True)
class ResolvConf:
    """The name servers' addresses and the search domains."""

    servers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()


def parse_resolv_conf(text: str) -> ResolvConf:
    """What a resolv.conf says; as in glibc the last search line counts, and lines that make no sense do not."""
    servers: list[str] = []
    search: tuple[str, ...] = ()
    for line in text.splitlines():
        match line.split():
            case ["nameserver", address, *_] if _is_address(address):
                servers.append(address)
            case ["search" | "domain", *domains]:
                search = tuple(d.rstrip(".") for d in domains if d.strip("."))
    return ResolvConf(tuple(dict.fromkeys(servers))[:_MAX_SERVERS], search)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
