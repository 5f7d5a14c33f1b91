"""Other programs' firewalls: a way through for pods where everything forwarded is dropped, as Docker and ufw set it.

In nftables every table has its say, so nothing in ours can undo a drop in theirs. Two rules are put in front of each
such chain, for our links alone; their comment is the mesh's name, and by it they are found and removed again.
Rules of the older iptables-legacy are invisible to nft and stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pilotfish.node.meshnetwork import host_table, link_prefix
from pilotfish.node.nft import query_nft, run_nft

_FAMILIES = ("ip", "inet")
_OURS = "pilotfish-"


def open_foreign_chains(home_id: str) -> None:
    """Lets the mesh's traffic through chains of others that drop what they do not know. Blocks; raises NftError."""
    admitted = {_place(rule) for rule in _our_rules(home_id)}
    script = ""
    for item in query_nft("list chains"):
        chain = item.get("chain", {})
        place = f"{chain.get('family')} {chain.get('table')} {chain.get('name')}"
        if _drops_forwarded(chain) and place not in admitted:
            for direction in ("iifname", "oifname"):
                links = f'{direction} "{link_prefix(home_id)}*"'
                script += f'insert rule {place} {links} accept comment "{host_table(home_id)}"\n'
    if script:
        run_nft(script)


def close_foreign_chains(home_id: str) -> None:
    """Removes what `open_foreign_chains` put into others' chains. Blocks; raises NftError."""
    script = "".join(f"delete rule {_place(rule)} handle {rule['handle']}\n" for rule in _our_rules(home_id))
    if script:
        run_nft(script)


def _drops_forwarded(chain: dict[str, Any]) -> bool:
    return (
        chain.get("family") in _FAMILIES
        and (chain.get("type"), chain.get("hook"), chain.get("policy")) == ("filter", "forward", "drop")
        and not chain["table"].startswith(_OURS)
    )


def _our_rules(home_id: str) -> Iterator[dict[str, Any]]:
    for item in query_nft("list ruleset"):
        rule = item.get("rule", {})
        if rule.get("comment") == host_table(home_id):
            yield rule


def _place(rule: dict[str, Any]) -> str:
    return f"{rule['family']} {rule['table']} {rule['chain']}"
