"""Where an injected pod's metrics are scraped: at its proxy, which shows those of the application among its own.

Injection notes for the proxy what the pod's annotations `prometheus.io/…` said, and has them point at the proxy (Istio:
enablePrometheusMerge, pkg/kube/inject applyPrometheusMerge).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from pilotfish.mesh.meshconfig import MeshConfig

VARIABLE = "ISTIO_PROMETHEUS_ANNOTATIONS"
"""In the proxy's environment."""

MERGE = "prometheus.istio.io/merge-metrics"
PATH = "/stats/prometheus"
_TARGETS = "prometheus_istio_io_scrape_targets"
_TOLD_BY = {"prometheus_io_scrape": "scrape", "prometheus_io_port": "port", "prometheus_io_path": "path"}
_WORDS = {**dict.fromkeys(("1", "t", "true"), True), **dict.fromkeys(("0", "f", "false"), False)}
_OWN_PORTS = frozenset({15000, 15001, 15004, 15006, 15008, 15020, 15021, 15053, 15090})


class Merge(NamedTuple):
    """`annotations` take the place of the pod's; `variable` is what the proxy is told, "" for nothing."""

    annotations: dict[str, str]
    variable: str = ""


def merge(annotations: Mapping[str, str], mesh: MeshConfig, status_port: int) -> Merge:
    """What becomes of a pod's annotations, whose proxy shows merged metrics at `status_port`.

    Raises ValueError where they name a port that cannot be asked.
    """
    said = {found: value for name, value in annotations.items() if (found := _TOLD_BY.get(_label(name)))}
    wanted = _WORDS.get(annotations.get(MERGE, "").lower(), mesh.enable_prometheus_merge)
    scraped = _WORDS.get(said.get("scrape", "").lower(), True)
    if not wanted or not scraped or said.get("port") == str(status_port):  # the last: it was injected before
        return Merge(dict(annotations))
    told: dict[str, Any] = dict(said)
    if targets := next((text for name, text in annotations.items() if _label(name) == _TARGETS), ""):
        told["targets"] = [_target(text) for text in targets.split(",") if text.strip()]
    for port in (each.get("port", "") for each in (told, *told.get("targets", ()))):
        if port and (not port.isdecimal() or not 0 < int(port) < 65536 or int(port) in {*_OWN_PORTS, status_port}):
            raise ValueError(f'"{port}" is no port at which the application could show metrics')
    kept = {name: text for name, text in annotations.items() if _label(name) not in {*_TOLD_BY, _TARGETS}}
    points = {"prometheus.io/port": str(status_port), "prometheus.io/path": PATH, "prometheus.io/scrape": "true"}
    return Merge({**kept, **points}, json.dumps(told, separators=(",", ":")) if told else "")


def _label(annotation: str) -> str:
    """Prometheus' name for an annotation: those that differ in other characters than letters and digits are one."""
    return re.sub(r"[^a-zA-Z0-9_]", "_", annotation)


def _target(text: str) -> dict[str, str]:
    """One of `prometheus.istio.io/scrape-targets`: "<port>" or "<port>:<path>"."""
    port, _, path = (part.strip() for part in text.partition(":"))
    return {"port": port, "path": path or "/metrics"}
