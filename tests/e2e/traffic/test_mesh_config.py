"""Fields of MeshConfig, seen on the wire. They hold for every workload, so that each test waits until they are gone."""

from __future__ import annotations

from typing import Any

import pytest

from traffic.cases import http, substituted, tcp

pytestmark = pytest.mark.root

SERVER_FIRST = """
apiVersion: v1
kind: Service
metadata: {name: $name, namespace: traffic}
spec:
  selector: {app: b}
  ports: [{name: unnamed, port: 86, targetPort: 8084}]
"""


@pytest.mark.covers("MeshConfig.outboundTrafficPolicy.mode")
def test_destinations_that_nobody_registered_are_refused(site: Any) -> None:
    url = "http://$outside:$outside_http/"
    there = substituted(http(url, arrives={"version": "outside"}), site.names)
    closed = substituted(http(url, error="disconnected|reset|ReadError"), site.names)
    # The port that all HTTP hosts share has an answer of its own.
    refused = substituted(http("http://unknown.test/", address="$outside:80", status=502, arrives=None), site.names)
    with site.configured("outboundTrafficPolicy: {mode: REGISTRY_ONLY}"):
        site.settle(closed, "nothing passes that is not registered")
        with site.applied("") as names:
            site.settle(substituted(http("http://$name/"), names), "what is registered passes")
        site.hold(refused)
    site.settle(there, "everything passes again")


@pytest.mark.covers("MeshConfig.protocolDetectionTimeout")
def test_a_server_that_speaks_first_is_waited_for_as_long_as_told(site: Any) -> None:
    greeted = tcp("tcp://$name:86", listen_first=True, arrives={"protocol": "TCP"}, took=(0.15, 5.0), timeout=8.0)
    with site.configured("protocolDetectionTimeout: 0.2s"), site.applied("", SERVER_FIRST) as names:
        site.settle(substituted(greeted, names), "the greeting comes when nobody has spoken for long enough")
