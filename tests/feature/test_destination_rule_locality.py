"""Which endpoints a client prefers by where it is: shares, failover, and labels that decide first."""

from __future__ import annotations

from typing import Any

PLACES = {"10.0.1.1": "r1/z1/s1", "10.0.1.2": "r1/z1/s2", "10.0.1.3": "r1/z2", "10.0.2.1": "r2/z1", "10.0.3.1": "r3/z1"}
WEB = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: web}
spec:
  hosts: [web.test]
  addresses: [10.1.0.5]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints:
  - {address: 10.0.1.1, locality: r1/z1/s1, labels: {version: v1}}
  - {address: 10.0.1.2, locality: r1/z1/s2, labels: {version: v2}, weight: 3}
  - {address: 10.0.1.3, locality: r1/z2, labels: {version: v1}}
  - {address: 10.0.2.1, locality: r2/z1, labels: {version: v2}, network: n2}
  - {address: 10.0.3.1, locality: r3/z1, labels: {version: v1}, network: n2}
"""
EJECT = "outlierDetection: {consecutive5xxErrors: 1}"
CLUSTER = "outbound|80||web.test"


def client_at(mesh: Any, name: str, place: str, ip: str, **labels: str) -> Any:
    told = ", ".join(f"{key}: {value}" for key, value in {"istio-locality": place, **labels}.items())
    mesh.apply(f"""
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{{told}}}}}
spec: {{containers: [{{name: app, image: app}}]}}
status: {{podIP: {ip}}}
""")
    return mesh.sidecar(name, ip=ip)


def rule(policy: str) -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: web}}
spec:
  host: web.test
  trafficPolicy: {{{policy}}}
"""


def preferred(proxy: Any, name: str = CLUSTER) -> list[list[str]]:
    """The addresses of each priority."""
    found: dict[int, list[str]] = {}
    for group in proxy.get("endpoints", name)["endpoints"]:
        addresses = [e["endpoint"]["address"]["socket_address"]["address"] for e in group["lb_endpoints"]]
        found.setdefault(group.get("priority", 0), []).extend(addresses)
    assert sorted(found) == list(range(len(found)))
    return [sorted(found[priority]) for priority in sorted(found)]


def weights(proxy: Any) -> dict[str, int]:
    return {
        "/".join(group["locality"].values()): group["load_balancing_weight"]
        for group in proxy.get("endpoints", CLUSTER)["endpoints"]
    }


def by_weight(proxy: Any) -> bool:
    return "locality_weighted_lb_config" in proxy.get("clusters", CLUSTER).get("common_lb_config", {})


def test_the_nearest_first_once_endpoints_are_ejected(mesh: Any) -> None:
    here, there, nowhere = (
        client_at(mesh, "here", "r1.z1.s1", "10.0.0.11"),
        client_at(mesh, "there", "r2.z1", "10.0.0.12"),
        mesh.sidecar("nowhere", ip="10.0.0.13"),
    )
    mesh.apply(WEB)
    everyone = [sorted(PLACES)]
    assert preferred(here) == preferred(there) == everyone
    assert here.config.shared == there.config.shared
    mesh.apply(rule(EJECT))
    near = ["10.0.1.1"], ["10.0.1.2"], ["10.0.1.3"], ["10.0.2.1", "10.0.3.1"]
    assert preferred(here) == [*near]
    assert preferred(there) == [["10.0.2.1"], ["10.0.1.1", "10.0.1.2", "10.0.1.3", "10.0.3.1"]]
    assert preferred(nowhere) == everyone
    assert not by_weight(here)
    mesh.apply(rule(f"{EJECT}, loadBalancer: {{localityLbSetting: {{enabled: false}}}}"))
    assert preferred(here) == everyone
    mesh.configure("localityLbSetting: {enabled: false}")
    mesh.apply(rule(EJECT))
    assert preferred(here) == everyone
    mesh.delete("DestinationRule", "web")
    assert here.config.shared == there.config.shared


def test_the_region_to_fail_over_to(mesh: Any) -> None:
    here = client_at(mesh, "here", "r1.z1.s1", "10.0.0.11")
    failover = "loadBalancer: {localityLbSetting: {failover: [{from: r1, to: r3}]}}"
    mesh.apply(WEB + "---" + rule(f"{failover}, {EJECT}"))
    assert preferred(here) == [["10.0.1.1"], ["10.0.1.2"], ["10.0.1.3"], ["10.0.3.1"], ["10.0.2.1"]]
    assert by_weight(here)
    mesh.apply(rule(failover))
    assert preferred(here) == [sorted(PLACES)]
    assert not by_weight(here)
    mesh.configure("localityLbSetting: {failover: [{from: r1, to: r2}]}")
    mesh.apply(rule(EJECT))
    assert preferred(here)[3:] == [["10.0.2.1"], ["10.0.3.1"]]


def test_labels_decide_first(mesh: Any) -> None:
    one = client_at(mesh, "one", "r1.z1.s1", "10.0.0.11", version="v1")
    two = client_at(mesh, "two", "r1.z1.s1", "10.0.0.12", version="v2")

    def rules(*labels: str, failover: str = "") -> str:
        return rule(
            f"loadBalancer: {{localityLbSetting: {{failoverPriority: [{', '.join(labels)}]{failover}}}}}, {EJECT}"
        )

    mesh.apply(WEB + "---" + rules("version"))
    v1, v2 = ["10.0.1.1", "10.0.1.3", "10.0.3.1"], ["10.0.1.2", "10.0.2.1"]
    assert (preferred(one), preferred(two)) == ([v1, v2], [v2, v1])
    assert by_weight(one)
    mesh.delete("DestinationRule", "web")
    mesh.configure(
        "{localityLbSetting: {failoverPriority: [version]},"
        " defaultTrafficPolicy: {outlierDetection: {consecutive5xxErrors: 1}}}"
    )
    assert (preferred(one), preferred(two)) == ([v1, v2], [v2, v1])
    mesh.configure("{}")
    mesh.apply(rules("version=v2"))
    assert preferred(one) == preferred(two) == [v2, v1]
    assert one.config.shared == two.config.shared
    mesh.apply(rules("topology.kubernetes.io/region", "version"))
    assert preferred(one) == [["10.0.1.1", "10.0.1.3"], ["10.0.1.2"], ["10.0.2.1", "10.0.3.1"]]
    mesh.apply(rules("topology.istio.io/network", "version=v2"))
    assert preferred(one) == [["10.0.1.2"], ["10.0.1.1", "10.0.1.3"], ["10.0.2.1"], ["10.0.3.1"]]
    mesh.apply(rules("version", failover=", failover: [{from: r1, to: r3}]"))
    assert preferred(one) == [["10.0.1.1"], ["10.0.1.3"], ["10.0.3.1"], ["10.0.1.2"], ["10.0.2.1"]]


def test_shares(mesh: Any) -> None:
    here = client_at(mesh, "here", "r1.z1.s1", "10.0.0.11")
    there = client_at(mesh, "there", "r3.z1", "10.0.0.12")
    shares = "{from: r1/z1/*, to: {r1/z1/*: 80, r2/*: 20}}"
    mesh.apply(WEB)
    unshared = weights(here)
    assert unshared == {"r1/z1/s1": 1, "r1/z1/s2": 3, "r1/z2": 1, "r2/z1": 1, "r3/z1": 1}
    mesh.apply(rule(f"loadBalancer: {{localityLbSetting: {{distribute: [{shares}]}}}}"))
    assert weights(here) == {"r1/z1/s1": 20, "r1/z1/s2": 60, "r2/z1": 20}
    assert weights(there) == unshared
    assert by_weight(here)
    assert by_weight(there)
    mesh.delete("DestinationRule", "web")
    mesh.configure(f"localityLbSetting: {{distribute: [{shares.replace('80', '60').replace('20', '40')}]}}")
    mesh.apply(rule(EJECT))
    assert weights(here) == {"r1/z1/s1": 15, "r1/z1/s2": 45, "r2/z1": 40}
    assert preferred(here) == [["10.0.1.1", "10.0.1.2", "10.0.2.1"]]


def test_names_that_are_looked_up(mesh: Any) -> None:
    here = client_at(mesh, "here", "r1.z1.s1", "10.0.0.11")
    mesh.apply(WEB.replace("resolution: STATIC", "resolution: DNS").replace("10.0.2.1", "a.test") + "---" + rule(EJECT))
    groups = here.get("clusters", CLUSTER)["load_assignment"]["endpoints"]
    assert [group.get("priority", 0) for group in groups] == [0, 1, 2, 3, 3]


def zones(proxy: Any) -> Any:
    return proxy.get("clusters", CLUSTER).get("common_lb_config", {}).get("zone_aware_lb_config")


def test_zones_are_balanced_by_envoy_and_regions_by_priority(mesh: Any) -> None:
    here = client_at(mesh, "here", "r1.z1.s1", "10.0.0.11")
    mesh.apply(WEB)
    assert zones(here) is None
    mesh.apply(rule("loadBalancer: {zoneAwareLbSetting: {minClusterSize: 3}}"))
    region = ["10.0.1.1", "10.0.1.2", "10.0.1.3"]
    assert preferred(here) == [region, ["10.0.2.1", "10.0.3.1"]]
    assert zones(here) == {"min_cluster_size": "3"}
    assert not by_weight(here)
    mesh.apply(rule("loadBalancer: {zoneAwareLbSetting: {enabled: true, failover: [{from: r1, to: r3}]}}"))
    assert preferred(here) == [region, ["10.0.3.1"], ["10.0.2.1"]]
    assert zones(here) == {}
    labels = "zoneAwareLbSetting: {failoverPriority: [version=v1]}"
    mesh.apply(rule(f"loadBalancer: {{{labels}}}"))
    assert preferred(here) == [["10.0.1.1", "10.0.1.3"], ["10.0.3.1"], ["10.0.1.2"], ["10.0.2.1"]]
    mesh.apply(rule("loadBalancer: {zoneAwareLbSetting: {enabled: false}}"))
    assert preferred(here) == [sorted(PLACES)]
    assert zones(here) == {"routing_enabled": {}}


def test_zones_as_the_mesh_says(mesh: Any) -> None:
    here = client_at(mesh, "here", "r1.z1.s1", "10.0.0.11")
    mesh.apply(WEB)
    of_mesh = "{enabled: true, minClusterSize: 4, failover: [{from: r1, to: r3}], failoverPriority: [version=v1]}"
    mesh.configure(f"zoneAwareLbSetting: {of_mesh}")
    assert zones(here) == {"min_cluster_size": "4"}
    assert preferred(here) == [["10.0.1.1", "10.0.1.3"], ["10.0.3.1"], ["10.0.1.2"], ["10.0.2.1"]]
    mesh.apply(rule("loadBalancer: {localityLbSetting: {enabled: false}}"))
    assert zones(here) is None
    assert preferred(here) == [sorted(PLACES)]


def test_clients_of_a_service_can_prefer_what_is_close(mesh: Any) -> None:
    """Whether endpoints are ejected or not."""
    here = client_at(mesh, "here", "r1.z1.s1", "10.0.0.11")
    mesh.apply(WEB)
    assert preferred(here) == [sorted(PLACES)]
    close = WEB.replace(
        "name: web}", "name: web, annotations: {networking.istio.io/traffic-distribution: PreferClose}}"
    )
    mesh.apply(close)
    assert preferred(here) == [["10.0.1.1", "10.0.1.2"], ["10.0.1.3"], ["10.0.2.1", "10.0.3.1"]]
    mesh.apply(rule("loadBalancer: {localityLbSetting: {enabled: false}}"))
    assert preferred(here) == [sorted(PLACES)]


def test_a_kubernetes_service_says_that_it_is_to_be_close(mesh: Any) -> None:
    here = client_at(mesh, "here", "r1.z1", "10.0.0.11")
    backends = "\n---".join(
        f"""
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: web, istio-locality: {place}}}}}
spec: {{containers: [{{name: app, image: app}}]}}
status: {{podIP: {ip}}}
"""
        for name, place, ip in (("near", "r1.z1", "10.0.1.1"), ("far", "r2.z1", "10.0.2.1"))
    )
    mesh.apply(f"""{backends}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec: {{clusterIP: 10.1.0.6, trafficDistribution: PreferClose, ports: [{{name: http, port: 80}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: web-1, labels: {{kubernetes.io/service-name: web}}}}
ports: [{{name: http, port: 8080}}]
endpoints:
- {{addresses: [10.0.1.1], conditions: {{ready: true}}, targetRef: {{kind: Pod, name: near}}}}
- {{addresses: [10.0.2.1], conditions: {{ready: true}}, targetRef: {{kind: Pod, name: far}}}}
""")
    assert preferred(here, "outbound|80||web.default.svc.cluster.local") == [["10.0.1.1"], ["10.0.2.1"]]


def test_a_proxy_that_asks_knows_those_of_its_own_kind(mesh: Any) -> None:
    """Without them Envoy keeps no request in its zone."""

    def web(name: str, template: str, place: str, ip: str) -> str:
        return f"""
apiVersion: v1
kind: Pod
metadata:
  name: {name}
  labels: {{app: web, pod-template-hash: {template}, istio-locality: {place}}}
  ownerReferences: [{{apiVersion: apps/v1, kind: ReplicaSet, name: web-{template}, uid: u, controller: true}}]
spec: {{containers: [{{name: app, image: app}}]}}
status: {{podIP: {ip}}}
"""

    pods = {
        "web-1": web("web-1", "5d8", "r1.z1", "10.0.1.1"),
        "web-2": web("web-2", "5d8", "r1.z2", "10.0.1.2"),
        "of-old-template": web("of-old-template", "7f9", "r1.z1", "10.0.1.3"),
        "elsewhere": web("elsewhere", "5d8", "r2.z1", "10.0.2.1"),
    }
    proxy = mesh.sidecar("web-1", ip="10.0.1.1", metadata={"ENABLE_SELF_DISCOVERY": "true"})
    assert "endpoints" not in proxy.get("endpoints", "local_cluster")
    assert "local_cluster" not in mesh.sidecar("web-2", ip="10.0.1.2").names("endpoints")
    ips = {"web-1": "10.0.1.1", "web-2": "10.0.1.2", "of-old-template": "10.0.1.3", "elsewhere": "10.0.2.1"}
    endpoints = "\n".join(
        f"- {{addresses: [{ip}], conditions: {{ready: true}}, targetRef: {{kind: Pod, name: {name}}}}}"
        for name, ip in ips.items()
    )
    mesh.apply(f"""{"---".join(pods.values())}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec: {{clusterIP: 10.1.0.6, selector: {{app: web}}, ports: [{{name: http, port: 80}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: web-1, labels: {{kubernetes.io/service-name: web}}}}
ports: [{{name: http, port: 8080}}]
endpoints:
{endpoints}
""")
    assert preferred(proxy, "local_cluster") == [["10.0.1.1", "10.0.1.2"]]
    proxy.told()
    mesh.delete("EndpointSlice", "web-1")
    assert "local_cluster" in proxy.told()["endpoints"]
