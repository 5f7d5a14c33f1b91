"""Metrics: Istio's standard metrics, counted by Envoy's stats logger, and what Telemetry changes of them."""

from __future__ import annotations

from typing import Any

SERVICES = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.1.0.5, ports: [{name: http, port: 80}, {name: tcp, port: 5432}]}
"""
METRICS = "defaultProviders: {metrics: [prometheus]}"


def test_x(mesh: Any) -> None:
    mesh.apply(SERVICES)
    proxy = mesh.sidecar()
    mesh.configure(METRICS)
    print(len(proxy.message("listeners", "0.0.0.0_80").SerializeToString()), len(proxy.message("listeners", "10.1.0.5_5432").SerializeToString()),len(proxy.message("listeners", "virtualInbound").SerializeToString()))
