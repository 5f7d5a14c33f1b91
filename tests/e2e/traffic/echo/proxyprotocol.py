"""The PROXY protocol, from the receiver's side (haproxy.org: proxy-protocol.txt)."""

from __future__ import annotations

import ipaddress
from typing import Any

_V2 = b"\r\n\r\n\0\r\nQUIT\n"


def strip(first: bytes) -> tuple[dict[str, Any], bytes]:
    """What the header at the start of a connection tells, and what follows; nothing where there is none."""
    if first.startswith(b"PROXY "):
        line, _, rest = first.partition(b"\r\n")
        words = line.decode().split()
        return {"proxied": {"version": 1, "source": words[2] if len(words) > 2 else ""}}, rest
    if first.startswith(_V2):
        length = int.from_bytes(first[14:16])
        size = {1: 4, 2: 16}.get(first[13] >> 4, 0)
        source = str(ipaddress.ip_address(first[16 : 16 + size])) if size else ""
        return {"proxied": {"version": 2, "source": source}}, first[16 + length :]
    return {}, first
