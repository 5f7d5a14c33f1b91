"""Gateways as VirtualServices name them."""

from __future__ import annotations

MESH_GATEWAY = "mesh"
"""The gateway that stands for all sidecars (Istio)."""


def gateway_name(name: str, namespace: str) -> str:
    """A gateway as "<namespace>/<name>"; "mesh" is no gateway and stays as it is."""
    return name if name == MESH_GATEWAY or "/" in name else f"{namespace}/{name}"
