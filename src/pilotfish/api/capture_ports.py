"""The proxy's ports to which a pod's connections are captured, and how those who need to know are told of them.

A pod keeps the ports that it was injected with: its capture rules and its proxy's listeners must name the same, also
when MeshConfig says another port by now. (Istio's listeners change then, and pods are cut off until they are made
anew.)
"""

from __future__ import annotations

OUTBOUND, INBOUND = "ENVOY_PORT", "INBOUND_CAPTURE_PORT"
"""The names in a proxy's metadata, which are those of istio-iptables; with META before them, in its environment."""

META = "ISTIO_META_"
"""What is before the name of a variable that becomes a proxy's metadata."""
