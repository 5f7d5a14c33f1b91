"""How proxies on demand ask for what they reach without a lookup."""

from __future__ import annotations

from pilotfish.mesh.records import Record


class OnDemand(Record):
    """`ranges` are those about whose addresses the control plane is asked when nothing is known of them; `period` how
    the names by which it is asked change with time (strftime). Idle HTTP connections are closed after `http_idle`
    seconds; 0: after Envoy's own time.
    """

    ranges: tuple[str, ...]
    period: str = ""
    http_idle: float = 0.0
