"""One site of traffic a test process: its workloads start with the first test that asks for it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from traffic.site import Site


@pytest.fixture(scope="session")
def site(mesh: Any) -> Iterator[Site]:
    """The workloads between which traffic flows, in a mesh that other end-to-end tests may share."""
    # Not pytest's folder, which is for its owner alone: proxies, which are another user, read certificates here.
    with tempfile.TemporaryDirectory(prefix="traffic-") as folder:
        Path(folder).chmod(0o755)
        found = Site(mesh, Path(folder))
        try:
            found.start()
            with found.outside():
                yield found
        finally:
            found.close()


@pytest.fixture(scope="session")
def ingress(site: Site) -> Site:
    """The site with the ingress gateway: `$ingress` is its Service's address, `$ingress_pod` its pod's."""
    mesh = site.mesh
    mesh.kubectl("rollout", "status", "deployment/istio-ingressgateway", "-n", "istio-system", "--timeout=60s")
    service = mesh.get("service", "istio-ingressgateway", "-n", "istio-system")
    (pod,) = mesh.get("pods", "-n", "istio-system", "-l", "istio=ingressgateway")["items"]
    site.names["ingress"] = service["status"]["loadBalancer"]["ingress"][0]["ip"]
    site.names["ingress_pod"] = pod["status"]["podIP"]
    return site
