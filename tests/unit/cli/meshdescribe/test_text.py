"""What `x describe` says, from manifests."""

from __future__ import annotations

from typing import Any

import yaml

from pilotfish.analysis.snapshot import Snapshot
from pilotfish.api.decode import decode
from pilotfish.api.kinds import POD, SCHEME, SERVICE
from pilotfish.cli.meshdescribe import text

POD_MANIFEST = """
apiVersion: v1
kind: Pod
metadata:
  name: web-1
  namespace: shop
  labels: {app: web, version: v1}
  annotations: {istio.io/rev: default}
spec:
  containers:
  - {name: app, image: x, ports: [{name: http, containerPort: 8080}, {containerPort: 53, protocol: UDP}]}
  - {name: istio-proxy, image: istio/proxyv2:1, ports: [{containerPort: 15090}]}
status: {phase: Running, containerStatuses: [{name: app, ready: true}, {name: istio-proxy, ready: true}]}
"""
SERVICE_MANIFEST = """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: http}, {name: dns, port: 53, protocol: UDP}]}
"""
RULE = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web, namespace: shop}
spec:
  host: web
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
  trafficPolicy:
    tls: {mode: ISTIO_MUTUAL}
    loadBalancer: {simple: RANDOM}
    portLevelSettings: [{port: {number: 80}, tls: {mode: DISABLE}, outlierDetection: {interval: 1s}}]
"""


def snapshot(*manifests: str) -> Snapshot:
    found = []
    for document in (one for manifest in manifests for one in yaml.safe_load_all(manifest)):
        kind = SCHEME.by_kind(document["apiVersion"], document["kind"])
        assert kind is not None
        kind.default(document)
        found.append((kind, decode(kind, document)))
    return Snapshot(found)


def of_pod(*manifests: str, namespace: str = "shop", **options: Any) -> list[str]:
    objects = snapshot(*manifests)
    return list(text.pod(objects, objects.of(POD)[0], namespace, **options))


def of_service(*manifests: str) -> list[str]:
    objects = snapshot(*manifests)
    return list(text.service(objects, objects.of(SERVICE)[0], "shop"))


def virtual_service(spec: str, name: str = "web") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}, namespace: shop}}
spec: {spec}
"""


NO_GATEWAY = [text.RULE, "Skipping Gateway information (no ingress gateway pods)"]


def test_a_pod_and_its_service() -> None:
    assert of_pod(POD_MANIFEST, SERVICE_MANIFEST) == [
        "Pod: web-1",
        "   Pod Revision: default",
        "   Pod Ports: 8080 (app), 53/UDP (app), 15090 (istio-proxy)",
        text.RULE,
        "Service: web",
        "   Port: http 80/HTTP targets pod port 8080",
        *NO_GATEWAY,
    ]
    assert of_pod(POD_MANIFEST, SERVICE_MANIFEST, namespace="default")[0] == "Pod: web-1.shop"


def test_what_is_wrong_with_a_pod() -> None:
    lines = of_pod(POD_MANIFEST.replace("ready: true", "ready: false").replace("labels: {app", "labels: {x"))
    assert "WARNING: Pod web-1 Container app NOT READY" in lines
    assert any(line.startswith("Suggestion: add required service name label") for line in lines)
    assert any(line.startswith("Warning: No Kubernetes Services select pod web-1") for line in lines)
    unmeshed = POD_MANIFEST.replace("istio-proxy", "other")
    assert "WARNING: web-1 is not part of mesh; no Istio sidecar" in of_pod(unmeshed, SERVICE_MANIFEST)
    assert not any("WARNING" in line for line in of_pod(unmeshed, SERVICE_MANIFEST, ignore_unmeshed=True))
    assert "   Pod is not Running (Pending)" in of_pod(POD_MANIFEST.replace("Running", "Pending"))
    user = POD_MANIFEST.replace("image: x,", "image: x, securityContext: {runAsUser: 1337},")
    assert of_pod(user)[0] == "WARNING: User ID (UID) 1337 is reserved for the sidecar proxy."


def test_a_destination_rule() -> None:
    lines = of_service(POD_MANIFEST, SERVICE_MANIFEST, RULE)
    assert lines[2:-2] == [
        'DestinationRule: web for "web"',
        "   Matching subsets: v1",
        "      (Non-matching subsets v2)",
        "   Traffic Policy TLS Mode: ISTIO_MUTUAL",
        "   Policies: load balancer",
        "   Port Level Settings:",
        "    80:",
        "      TLS Mode: DISABLE",
        "      Policies: outlier detection",
    ]
    nobody = RULE.replace("{version: v1}", "{version: v3}")
    assert "   WARNING POD DOES NOT MATCH ANY SUBSETS.  (Non matching subsets v1,v2)" in of_service(
        POD_MANIFEST, SERVICE_MANIFEST, nobody
    )


def routes(*manifests: str) -> list[str]:
    """The lines about the VirtualService, without its name."""
    lines = of_service(POD_MANIFEST, SERVICE_MANIFEST, *manifests)
    start = next(i for i, line in enumerate(lines) if line.startswith("VirtualService: web"))
    return lines[start + 1 : -2]


def test_routes_to_the_pod_and_elsewhere() -> None:
    spec = """{hosts: [web], http: [
      {match: [{uri: {prefix: /a}, headers: {x: {exact: y}}}],
       fault: {abort: {httpStatus: 503, percentage: {value: 10}}},
       route: [{destination: {host: web, subset: v1}, weight: 90}, {destination: {host: api}, weight: 10}]},
      {route: [{destination: {host: web, subset: v2}}]}]}"""
    assert routes(RULE, virtual_service(spec)) == [
        '   Route to host "web" subset "v1" with weight 90%',
        '   Route to host "api" with weight 10%',
        "   Fault injection abort 503 for 10%, Match: /a* when headers are x=y",
        "   1 additional destination(s) that will not reach this pod",
    ]


def test_routes_that_do_not_reach_the_pod() -> None:
    spec = virtual_service("{hosts: [web], http: [{route: [{destination: {host: web, subset: v2}}]}]}")
    nothing = "   WARNING: No destinations match pod subsets (checked 1 HTTP routes)"
    assert routes(RULE, spec) == [nothing, "      Route to non-matching subset v2 for (everything)"]
    assert routes(spec)[1] == "      Warning: Route to subset v2 but NO DESTINATION RULE defining subsets!"
    unknown = RULE.replace("name: v2", "name: v3")
    assert routes(unknown, spec)[1] == "      Warning: Route to UNKNOWN subset v2; check DestinationRule web"


def test_a_plain_route_is_counted() -> None:
    plain = virtual_service("{hosts: [web], http: [{route: [{destination: {host: web}}]}]}")
    assert routes(plain) == ["   1 HTTP route(s)"]
    tcp = virtual_service("{hosts: [web], tcp: [{route: [{destination: {host: web}}]}]}")
    assert routes(tcp) == ["   1 TCP route(s)"]


def test_where_it_is_reached_from_outside() -> None:
    ingress = """
apiVersion: v1
kind: Pod
metadata: {name: in-1, namespace: edge, labels: {istio: ingressgateway}}
spec: {containers: [{name: istio-proxy, image: x}]}
status: {phase: Running, hostIP: 192.0.2.1}
---
apiVersion: v1
kind: Service
metadata: {name: in, namespace: edge}
spec: {selector: {istio: ingressgateway}, ports: [{name: http2, port: 80, targetPort: 8080}, {name: https, port: 443}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: front, namespace: shop}
spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]}
"""
    spec = virtual_service(
        "{hosts: ['*'], gateways: [front], http: [{route: [{destination: {host: web}}]}]}", "outside"
    )
    objects = snapshot(POD_MANIFEST, SERVICE_MANIFEST, ingress, spec)
    web = objects.find(SERVICE, "shop", "web")
    assert web is not None
    assert list(text.service(objects, web, "shop"))[2:] == [
        text.RULE,
        "Exposed on Ingress Gateway http://192.0.2.1",
        "VirtualService: outside",
        "   1 HTTP route(s)",
    ]


def test_services_without_pods_in_the_mesh() -> None:
    assert of_service(SERVICE_MANIFEST) == ['Service "web" has no pods.']
    lines = of_service(SERVICE_MANIFEST, POD_MANIFEST.replace("istio-proxy", "other"))
    assert lines[:2] == [
        "Pod web-1: no container istio-proxy",
        'Service "web" has no Istio pods.  (1 pods in service).',
    ]
    waiting = POD_MANIFEST.replace("name: istio-proxy, ready: true", "name: istio-proxy, ready: false")
    assert of_service(SERVICE_MANIFEST, waiting)[0] == "WARNING: Pod web-1 Container istio-proxy NOT READY"


def test_a_named_port_that_the_pod_has_not() -> None:
    lines = of_service(POD_MANIFEST.replace("name: http,", "name: web,"), SERVICE_MANIFEST)
    assert lines[1] == "   Port: http 80 targets http, which no container of the pod has"
