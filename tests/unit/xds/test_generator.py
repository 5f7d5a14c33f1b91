"""The incremental core: any sequence of changes ends where a fresh start with the same objects would begin."""

from __future__ import annotations

import gc
import random
import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from google.protobuf.json_format import MessageToJson

from pilotfish.api import kinds
from pilotfish.api.decode import decode
from pilotfish.api.demand import Demand, demand_name
from pilotfish.api.meta import Object
from pilotfish.api.protos import NAME_TABLE_TYPE
from pilotfish.mesh.model import Model
from pilotfish.xds import entries, parts, source
from pilotfish.xds.build.names import VIRTUAL_OUTBOUND, destination
from pilotfish.xds.generator import Generator
from pilotfish.xds.settings import ProxySettings
from pilotfish.xds.source import Changes, ProxyNode, Resource

TYPES = (source.LISTENER, source.ROUTE, source.CLUSTER, source.ENDPOINT, source.SECRET, NAME_TABLE_TYPE)
NAMESPACES = ("a", "b")
PORTS = (
    {"name": "http", "port": 80, "targetPort": 8080, "nodePort": 30080},
    {"name": "tcp", "port": 80},
    {"name": "what", "port": 80, "targetPort": "named"},
    {"name": "grpc", "port": 90},
    {"name": "https", "port": 443},
    {"name": "mysql", "port": 80},
)


class Watcher:
    """A proxy that keeps a copy of what it was told, as an Envoy would."""

    def __init__(self, generator: Generator, node: ProxyNode) -> None:
        self.node = node
        self.config = generator.connect(node, self._hear)
        self.held: dict[tuple[str, str], str] = {}
        for url in TYPES:
            self.held.update({(url, r.name): r.version for r in self.config.resources(url).values()})

    def _hear(self, changes: Changes) -> None:
        for url, names in changes.items():
            current = self.config.resources(url)
            for name in names:
                if name in current:
                    self.held[url, name] = current[name].version
                else:
                    del self.held[url, name]

    def missed(self) -> bool:
        now = {(url, r.name): r.version for url in TYPES for r in self.config.resources(url).values()}
        return now != self.held


def node_of(type: str, namespace: str, ip: str, **labels: str) -> ProxyNode:
    return ProxyNode(f"{type}~{ip}", type, ip, f"p-{ip}", namespace, {"LABELS": labels})


def _service(rng: random.Random, name: str, namespace: str) -> Object:
    ports = {p["port"]: p for p in rng.sample(PORTS, rng.randint(1, 3))}
    created = f"2024-01-0{rng.randint(1, 4)}T00:00:00Z"
    ip = rng.choice(["None", f"10.1.0.{rng.randint(1, 5)}"])
    if rng.random() < 0.15:
        alias = {"type": "ExternalName", "externalName": rng.choice(["h.test", "s0.a.svc.cluster.local", "x.test"])}
        metadata = {"name": name, "namespace": namespace, "creationTimestamp": created}
        return decode(kinds.SERVICE, {"metadata": metadata, "spec": alias})
    spec = {"clusterIP": ip, "selector": {"app": rng.choice("xy")}, "ports": list(ports.values())}
    annotations = rng.choice([{}, {}, {"networking.istio.io/exportTo": "."}])
    metadata = {"name": name, "namespace": namespace, "creationTimestamp": created, "annotations": annotations}
    return decode(kinds.SERVICE, {"metadata": metadata, "spec": spec})


def _entry(rng: random.Random, name: str, namespace: str) -> Object:
    hosts = rng.sample(["h.test", "H.Test", "s0.a.svc.cluster.local", "s0.a", "*.w.test"], rng.randint(1, 2))
    ports = {p["number"]: p for p in rng.sample([
        {"number": 80, "name": "http", "protocol": "HTTP"},
        {"number": 80, "name": "x"},
        {"number": 9, "name": "tcp", "protocol": "TCP", "targetPort": 99},
        {"number": 443, "name": "tls", "protocol": "TLS"},
    ], 2)}  # fmt: skip
    spec: dict[str, Any] = {
        "hosts": hosts,
        "addresses": rng.choice([[], ["192.0.2.1"], ["192.0.2.0/24"], ["10.1.0.1"]]),
        "ports": list(ports.values()),
        "resolution": rng.choice(["STATIC", "DNS", "NONE", "DYNAMIC_DNS"]),
        "exportTo": rng.choice([[], ["."], ["b"], ["*"]]),
    }
    if rng.random() < 0.5:
        spec["endpoints"] = [
            {"address": f"10.0.0.{rng.randint(1, 3)}", **rng.choice([{}, {"serviceAccount": rng.choice("st")}])}
            for _ in range(rng.randint(1, 2))
        ]
        spec["location"] = rng.choice(["MESH_INTERNAL", "MESH_EXTERNAL"])
    elif rng.random() < 0.5:
        spec["workloadSelector"] = {"labels": {"app": rng.choice("xy")}}
    metadata = {"name": name, "namespace": namespace, "creationTimestamp": f"2024-01-0{rng.randint(1, 4)}T00:00:00Z"}
    return decode(kinds.SERVICE_ENTRY, {"metadata": metadata, "spec": spec})


def _slice(rng: random.Random, name: str, namespace: str) -> Object:
    ready = rng.choice([True, False])
    endpoints = [
        {
            "addresses": [f"10.0.0.{i}"],
            "conditions": {"ready": ready},
            "targetRef": {"kind": "Pod", "name": f"p-10.0.0.{i}"},
        }
        for i in rng.sample(range(1, 5), 2)
    ]
    labels = {"kubernetes.io/service-name": f"s{rng.randint(0, 3)}"}
    ports = [{"name": str(p["name"]), "port": 8080} for p in PORTS]
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    return decode(kinds.ENDPOINT_SLICE, {"metadata": metadata, "endpoints": endpoints, "ports": ports})


def _pod(rng: random.Random, name: str, namespace: str) -> Object:
    containers = [{"name": "c", "ports": [{"name": "named", "containerPort": rng.choice([8080, 9090])}]}]
    status = {"podIP": f"10.0.0.{name[-1]}", "conditions": [{"type": "Ready", "status": rng.choice(["True", "False"])}]}
    labels = {"app": rng.choice("xy"), **rng.choice([{}, {"security.istio.io/tlsMode": "istio"}])}
    metadata = {"name": f"p-10.0.0.{name[-1]}", "namespace": namespace, "labels": labels}
    spec = {"containers": containers, "serviceAccountName": rng.choice("st")}
    return decode(kinds.POD, {"metadata": metadata, "spec": spec, "status": status})


def _workload(rng: random.Random, name: str, namespace: str) -> Object:
    spec = {
        "address": rng.choice(["192.0.2.1", f"10.0.0.{name[-1]}", "vm.test", "unix:///s"]),
        "labels": {"app": rng.choice("xy")},
        "serviceAccount": rng.choice(["", "s"]),
    }
    annotations = rng.choice([{}, {"proxy.istio.io/health-checks-enabled": "true"}])
    status = {"conditions": [{"type": "Healthy", "status": rng.choice(["True", "False"])}]}
    metadata = {"name": f"p-10.0.0.{name[-1]}", "namespace": namespace, "annotations": annotations}
    return decode(kinds.WORKLOAD_ENTRY, {"metadata": metadata, "spec": spec, "status": status})


GATEWAY_HOSTS = ("*", "*.test", "x.test", "y.test", "a/x.test", "./y.test", "*/*.w.test")


def _gateway(rng: random.Random, name: str, namespace: str) -> Object:
    settings = [
        ("HTTP", 80, rng.choice([None, {"httpsRedirect": True}])),
        ("GRPC", 80, None),
        ("TCP", rng.choice([80, 9000]), None),
        ("HTTPS", 443, {"mode": rng.choice(["SIMPLE", "MUTUAL"]), "credentialName": rng.choice(["c0", "c1"])}),
        ("TLS", 443, {"mode": rng.choice(["PASSTHROUGH", "AUTO_PASSTHROUGH"])}),
        ("TLS", 9000, {"mode": "SIMPLE", "credentialName": "c0"}),
    ]
    servers = [
        {
            "port": {"number": port, "name": f"{place}", "protocol": protocol},
            "hosts": rng.sample(GATEWAY_HOSTS, rng.randint(1, 2)),
            **({"tls": tls} if tls else {}),
        }
        for place, (protocol, port, tls) in enumerate(rng.sample(settings, rng.randint(1, 3)))
    ]
    selector = rng.choice([{}, {"app": "x"}, {"app": "y"}])
    metadata = {"name": name, "namespace": namespace, "creationTimestamp": f"2024-01-0{rng.randint(1, 4)}T00:00:00Z"}
    return decode(kinds.GATEWAY, {"metadata": metadata, "spec": {"selector": selector, "servers": servers}})


def _aside(rng: random.Random) -> dict[str, Any]:
    """What a route does besides sending requests on."""
    mirror = {"host": f"s{rng.randint(0, 3)}.a.svc.cluster.local", "port": {"number": 90}}
    fault = {"abort": {"httpStatus": 503, "percentage": {"value": rng.choice([1, 2])}}}
    return rng.choice([{}, {"mirror": mirror}, {"fault": fault}, {"corsPolicy": {"allowOrigin": ["*"]}}])


def _virtual_service(rng: random.Random, name: str, namespace: str) -> Object:
    def to() -> list[dict[str, Any]]:
        number = rng.choice([80, 90])
        return [
            {
                "destination": {
                    "host": f"s{rng.randint(0, 3)}.{rng.choice('ab')}.svc.cluster.local",
                    "port": {"number": number},
                }
            }
        ]

    spec = {
        "hosts": rng.sample(["x.test", "y.test", "*.test", "*.w.test", "z.w.test"], rng.randint(1, 2)),
        "gateways": rng.sample(["a/g0", "a/g1", "b/g0"], rng.randint(1, 2)),
        "http": [{"route": to(), **_aside(rng)}],
        "tcp": [{"match": rng.choice([[], [{"port": 9000}]]), "route": to()}],
        "tls": [{"match": [{"sniHosts": rng.sample(["x.test", "y.test"], 1)}], "route": to()}],
        "exportTo": rng.choice([[], ["."], ["a"]]),
    }
    metadata = {"name": name, "namespace": namespace, "creationTimestamp": f"2024-01-0{rng.randint(1, 4)}T00:00:00Z"}
    return decode(kinds.VIRTUAL_SERVICE, {"metadata": metadata, "spec": spec})


CONNECTIONS = ({}, {"port": 90}, {"destinationSubnets": ["10.1.0.0/24"]}, {"sourceLabels": {"app": "x"}})


def _routing(rng: random.Random, name: str, namespace: str) -> Object:
    """A VirtualService for sidecars."""
    hosts = rng.sample(["h.test", "*.test", "s0", "s1.a.svc.cluster.local", "*.w.test", "*"], rng.randint(1, 2))
    matches = [{"sourceLabels": {"app": "x"}}, {"uri": {"exact": "/"}}, {"port": 80}, {"sourceNamespace": "b"}]
    extra = rng.choice([{}, {"port": {"number": 80}}, {"subset": "v"}])
    host = rng.choice(["h.test", "s1", f"s{rng.randint(0, 3)}.b.svc.cluster.local"])
    to = [{"destination": {"host": host, **extra}}]
    if rng.random() < 0.25:
        spec: dict[str, Any] = {"http": [{"match": [{"uri": {"prefix": "/d"}}], "route": to}], "exportTo": ["a"]}
        return decode(kinds.VIRTUAL_SERVICE, {"metadata": {"name": name, "namespace": namespace}, "spec": spec})
    delegate = {"name": f"v{rng.randint(0, 3)}", "namespace": rng.choice(NAMESPACES)}
    spec = {
        "hosts": hosts,
        "http": [{"match": [rng.choice(matches)], "route": to, **_aside(rng)}, {"delegate": delegate}],
        "tls": [{"match": [{"sniHosts": rng.sample(["h.test", "a.test", "b.test"], 2)}], "route": to}],
        "tcp": [{"match": [rng.choice(CONNECTIONS)], "route": to}],
        "exportTo": rng.choice([[], ["."], ["a"]]),
    }
    metadata = {"name": name, "namespace": namespace, "creationTimestamp": f"2024-01-0{rng.randint(1, 4)}T00:00:00Z"}
    return decode(kinds.VIRTUAL_SERVICE, {"metadata": metadata, "spec": spec})


POLICIES: tuple[dict[str, Any], ...] = (
    {"tls": {"mode": "MUTUAL", "credentialName": "c0"}},
    {"tls": {"mode": "SIMPLE", "caCertificates": "/run/ca.pem"}},
    {"connectionPool": {"tcp": {"maxConnections": 1, "idleTimeout": "1s"}, "http": {"h2UpgradePolicy": "UPGRADE"}}},
    {"outlierDetection": {"consecutive5xxErrors": 2}},
    {"loadBalancer": {"simple": "PASSTHROUGH"}},
    {"loadBalancer": {"localityLbSetting": {"failoverPriority": ["app"]}}},
    {"loadBalancer": {"consistentHash": {"useSourceIp": True}}},
    {"tls": {"mode": "SIMPLE", "insecureSkipVerify": True}, "proxyProtocol": {}},
    {"tls": {"mode": "ISTIO_MUTUAL"}},
    {"tls": {"mode": "DISABLE"}},
    {"tunnel": {"targetHost": "far.test", "targetPort": 443}},
    {"portLevelSettings": [{"port": {"number": 80}, "connectionPool": {"tcp": {"connectTimeout": "1s"}}}]},
)


def _policy(rng: random.Random) -> dict[str, Any]:
    return {name: value for policy in rng.sample(POLICIES, rng.randint(1, 2)) for name, value in policy.items()}


def _rule(rng: random.Random, name: str, namespace: str) -> Object:
    spec = {
        "host": rng.choice(["s0", "h.test", "*.test", "s1.a.svc.cluster.local"]),
        **rng.choice([{}, {"trafficPolicy": _policy(rng)}]),
        "subsets": [
            {"name": "v", "labels": rng.choice([{}, {"app": "x"}])},
            {"name": "w", "trafficPolicy": _policy(rng)},
        ],
        "exportTo": rng.choice([[], ["."]]),
        **rng.choice([{}, {"workloadSelector": {"matchLabels": {"app": "x"}}}]),
    }
    metadata = {"name": name, "namespace": namespace, "creationTimestamp": f"2024-01-0{rng.randint(1, 4)}T00:00:00Z"}
    return decode(kinds.DESTINATION_RULE, {"metadata": metadata, "spec": spec})


def _sidecar(rng: random.Random, name: str, namespace: str) -> Object:
    hosts = rng.sample(["./*", "a/*", "*/h.test", "*/s0.a.svc.cluster.local", "*/*", "~./*"], rng.randint(1, 2))
    listener = rng.choice([
        {}, {"port": {"number": 80, "protocol": "HTTP", "name": "http"}},
        {"port": {"number": 9, "protocol": "TCP", "name": "tcp"}, "bind": "127.0.0.7", "captureMode": "NONE"},
        {"port": {"number": 80, "protocol": "TCP", "name": "tcp"}}, {"captureMode": "NONE"},
        {"port": {"protocol": rng.choice(["HTTP", "TCP"]), "name": "socket"}, "bind": "unix:///run/s.sock"},
    ])  # fmt: skip
    spec: dict[str, Any] = {"egress": [{"hosts": hosts, **listener}]}
    if "port" in listener:
        spec["egress"].append({"hosts": ["./*"]})
    if rng.random() < 0.3:
        spec["outboundTrafficPolicy"] = {"mode": rng.choice(["ALLOW_ANY", "REGISTRY_ONLY"])}
    if rng.random() < 0.3:
        port = {"number": 8080, "protocol": rng.choice(["HTTP", "TCP"]), "name": "in"}
        capture = rng.choice(["NONE", "DEFAULT"])
        endpoint = rng.choice(["127.0.0.1:9090", "0.0.0.0:9090", ""])
        tls = rng.choice([{}, {"tls": {"mode": "SIMPLE", "serverCertificate": "/c", "privateKey": "/k"}}])
        spec["ingress"] = [{"port": port, "captureMode": capture, "defaultEndpoint": endpoint, **tls}]
    if rng.random() < 0.5:
        spec["workloadSelector"] = {"labels": {"app": rng.choice("xy")}}
    metadata = {"name": name, "namespace": namespace, "creationTimestamp": f"2024-01-0{rng.randint(1, 4)}T00:00:00Z"}
    return decode(kinds.SIDECAR, {"metadata": metadata, "spec": spec})


def _envoy_filter(rng: random.Random, name: str, namespace: str, *, whole: bool = True) -> Object:
    """Without `whole` one that neither adds nor removes what other resources lead to."""
    extra = {"name": "extra", "connect_timeout": "1s"}
    direct = {"match": {"prefix": "/direct"}, "direct_response": {"status": 204}}
    patches: list[dict[str, Any]] = [
        {"applyTo": "CLUSTER", "patch": {"operation": "MERGE", "value": {"connect_timeout": "3s"}}},
        {"applyTo": "CLUSTER", "patch": {"operation": "REMOVE"},
         "match": {"cluster": {"service": "s0.a.svc.cluster.local"}}},
        {"applyTo": "CLUSTER", "patch": {"operation": "ADD", "value": extra}},
        {"applyTo": "LISTENER", "patch": {"operation": "REMOVE"}, "match": {"listener": {"portNumber": 80}}},
        {"applyTo": "LISTENER", "patch": {"operation": "MERGE", "value": {"tcp_backlog_size": 7}}},
        {"applyTo": "HTTP_ROUTE", "patch": {"operation": "INSERT_FIRST", "value": direct}},
        {"applyTo": "VIRTUAL_HOST", "patch": {"operation": "REMOVE"},
         "match": {"routeConfiguration": {"vhost": {"name": "allow_any"}}}},
    ]  # fmt: skip
    if not whole:
        patches = [p for p in patches if p["patch"]["operation"] == "MERGE" or p["applyTo"] == "HTTP_ROUTE"]
    spec: dict[str, Any] = {"configPatches": rng.sample(patches, rng.randint(1, 3)), "priority": rng.randint(0, 2)}
    if rng.random() < 0.5:
        spec["workloadSelector"] = {"labels": {"app": rng.choice("xy")}}
    return decode(kinds.ENVOY_FILTER, {"metadata": {"name": name, "namespace": namespace}, "spec": spec})


def _secret(rng: random.Random, name: str, namespace: str) -> Object:
    data = rng.choice([{}, {"tls.crt": "QQ==", "tls.key": "QQ=="}, {"cert": "QQ==", "key": "QQ==", "cacert": "QQ=="}])
    return decode(kinds.SECRET, {"metadata": {"name": name, "namespace": namespace}, "data": data})


MAKERS = (
    ("s", _service), ("e", _entry), ("x", _slice), ("p", _pod), ("w", _workload), ("v", _routing), ("d", _rule),
    ("i", _sidecar), ("f", _envoy_filter), ("c", _secret),
)  # fmt: skip
AT_GATEWAYS = (
    *MAKERS[:1],
    *MAKERS[2:4],
    ("g", _gateway),
    ("v", _virtual_service),
    ("c", _secret),
    ("d", _rule),
    ("f", partial(_envoy_filter, whole=False)),
)


def _batches(
    rng: random.Random, count: int, makers: Any = MAKERS
) -> Iterator[list[tuple[Object | None, Object | None]]]:
    objects: dict[tuple[str, str, str], Object] = {}
    for _ in range(count):
        batch = []
        for _ in range(rng.randint(1, 3)):
            word, make = rng.choice(makers)
            key = (word, rng.choice(NAMESPACES), f"{word}{rng.randint(0, 3)}")
            new = None if key in objects and rng.random() < 0.4 else make(rng, key[2], key[1])
            batch.append((objects.get(key), new))
            if new is None:
                del objects[key]
            else:
                objects[key] = new
        yield batch


@pytest.mark.parametrize("seed", range(2))
def test_random_changes(seed: int) -> None:
    rng = random.Random(seed)
    generator = Generator(Model(), audit=True)
    watchers = [
        Watcher(generator, node_of("sidecar", "a", "10.0.0.1", app="x")),
        Watcher(generator, node_of("sidecar", "a", "10.0.0.2", app="y")),
        Watcher(generator, node_of("sidecar", "b", "10.0.0.3")),
        Watcher(generator, ProxyNode("vm", "sidecar", "192.0.2.1", "vm", "a", {"WORKLOAD_ENTRY": "p-10.0.0.1"})),
        Watcher(generator, node_of("dns", "b", "10.0.0.9")),
        Watcher(
            generator, ProxyNode("gw", "router", "10.0.0.9", "gw", "", {"LABELS": {"pilotfish.dev/gateway": "node"}})
        ),
    ]
    for batch in _batches(rng, 120):
        generator.apply(batch)
        assert not any(watcher.missed() for watcher in watchers)


@pytest.mark.parametrize("seed", range(2))
def test_random_changes_at_gateways(seed: int) -> None:
    rng = random.Random(seed)
    generator = Generator(Model(), audit=True)
    watchers = [
        Watcher(generator, node_of("router", "a", "10.0.0.1")),
        Watcher(generator, node_of("router", "b", "10.0.0.2")),
        Watcher(generator, node_of("sidecar", "a", "10.0.0.3")),
    ]
    had: set[str] = set()
    for batch in _batches(rng, 120, AT_GATEWAYS):
        generator.apply(batch)
        assert not any(watcher.missed() for watcher in watchers)
        for watcher in watchers[:2]:
            _check_what_is_used(watcher)
            had.update(url for url, _ in watcher.held)
    assert had == set(TYPES) - {NAME_TABLE_TYPE}
    for watcher in watchers:
        watcher.config.close()
    assert list(generator._proxies) == []
    assert list(generator.gateways) == []
    assert generator.gateways.secrets == frozenset()


def _check_what_is_used(gateway: Watcher) -> None:
    """A gateway has every route configuration and cluster to which something leads, and no others."""
    listeners = [listener_pb2.Listener.FromString(r.body) for r in gateway.config.resources(source.LISTENER).values()]
    text = "".join(map(MessageToJson, listeners))
    assert set(re.findall(r'"routeConfigName": "([^"]*)"', text)) == gateway.config.resources(source.ROUTE).keys()
    routes = [route_pb2.RouteConfiguration.FromString(r.body) for r in gateway.config.resources(source.ROUTE).values()]
    text += "".join(map(MessageToJson, routes))
    used = set(re.findall(r'"(?:cluster|name)": "(outbound[^"]*)"', text))
    assert gateway.config.resources(source.CLUSTER).keys() <= used
    assert gateway.config.resources(source.ENDPOINT).keys() <= used


@pytest.mark.parametrize("seed", range(2))
def test_random_changes_and_lookups(seed: int) -> None:
    """Whatever was asked for when: a proxy on demand has nothing that differs from everything, and lacks nothing."""
    rng = random.Random(seed)
    now = 0.0
    generator = Generator(Model(), audit=True, clock=lambda: now)
    dns = Watcher(generator, node_of("dns", "b", "10.0.0.9"))
    pairs = []
    metadata = {"DNS_CAPTURE": "true", "PILOTFISH_IDLE_TIMEOUT": "1h"}
    for number, namespace in enumerate("aab", 1):
        node = node_of("sidecar", namespace, f"10.0.0.{number}")
        lazy = ProxyNode(node.id, node.type, node.ip, node.name, namespace, metadata)
        pairs.append((Watcher(generator, node), Watcher(generator, lazy)))
    asked: dict[str, set[str]] = {}
    for batch in _batches(rng, 60):
        generator.apply(batch)
        now += rng.choice((0.0, 600.0, 1800.0))
        if rng.random() < 0.3:
            idle = rng.choice(pairs)[1]
            used = {name for name in idle.config.resources(source.CLUSTER) if rng.random() < 0.5}
            generator.used(idle.node, used)
            assert idle.config.user is not None
            asked.get(idle.node.ip, set()).intersection_update(idle.config.user.hostnames)
        if rng.random() < 0.3:
            demand = Demand(f"10.0.0.{rng.randint(1, 3)}", rng.choice(LOOKED_UP))
            asked.setdefault(demand.address, set()).add(demand.host.lower())
            dns.config.asked(NAME_TABLE_TYPE, [demand_name(demand)], (), ())
        if rng.random() < 0.3:
            period = rng.choice(("", "20240131", "2024013112"))
            reached = f"outbound|{rng.choice((80, 90, 443))}|{period}|10.1.0.{rng.randint(1, 5)}"
            rng.choice(pairs)[1].config.asked(source.CLUSTER, [reached], (), ())
        for eager, lazy in pairs:
            assert not lazy.missed()
            _check_subset(eager, lazy, asked.get(lazy.node.ip, set()))
    for watcher in (dns, *(w for pair in pairs for w in pair)):
        watcher.config.close()
    assert list(generator._proxies) == []
    assert generator._assembly.empty


LOOKED_UP = ("h.test", "H.Test", "s0.a", "*.w.test", *(f"s{i}.{n}.svc.cluster.local" for i in range(4) for n in "ab"))


def _check_subset(eager: Watcher, lazy: Watcher, asked: set[str]) -> None:
    for url in (source.LISTENER, source.CLUSTER, source.ENDPOINT):
        own_way = {n for n in lazy.config.resources(url) if n == VIRTUAL_OUTBOUND or destination(n)}
        own_way |= {n for n in lazy.config.resources(url) if n.startswith("0.0.0.0_")}  # they ask
        shared = {name: each for name, each in lazy.config.resources(url).items() if name not in own_way}
        assert shared.items() <= eager.config.resources(url).items()
    for name, resource in lazy.config.resources(source.CLUSTER).items():
        assignment = cluster_pb2.Cluster.FromString(resource.body).eds_cluster_config.service_name
        assert not assignment or assignment in lazy.config.resources(source.ENDPOINT), name
    clusters = lazy.config.resources(source.CLUSTER)
    for name in eager.config.resources(source.CLUSTER):
        if name.startswith("outbound|") and name.split("|")[3].lower() in asked:
            assert name in clusters
            assert (name in eager.config.resources(source.ENDPOINT)) == (name in lazy.config.resources(source.ENDPOINT))
    used: set[str] = set()
    routes = lazy.config.resources(source.ROUTE)
    for resource in lazy.config.resources(source.LISTENER).values():
        text = MessageToJson(listener_pb2.Listener.FromString(resource.body))
        used |= set(re.findall(r'"cluster": "(outbound\|[^"]*)"', text))
        assert set(re.findall(r'"routeConfigName": "([^"]*)"', text)) <= routes.keys()
    for name, resource in routes.items():
        own = route_pb2.RouteConfiguration.FromString(resource.body)
        everything = route_pb2.RouteConfiguration.FromString(eager.config.resources(source.ROUTE)[name].body)
        known = {host.name: host for host in everything.virtual_hosts}
        if known.pop("allow_any", None):
            assert own.virtual_hosts.pop().name == "allow_any"
        assert all(known[host.name] == host for host in own.virtual_hosts)
        missing = known.keys() - {host.name for host in own.virtual_hosts}
        assert not {name.rpartition(":")[0].lower() for name in missing} & asked
        used |= {route.route.cluster for host in own.virtual_hosts for route in host.routes}
        mirrored = (m for host in own.virtual_hosts for r in host.routes for m in r.route.request_mirror_policies)
        used.update(mirror.cluster for mirror in mirrored)
    lookups = {name for name in used if name.startswith("outbound|")}
    assert lookups & eager.config.resources(source.CLUSTER).keys() <= clusters.keys()


def test_the_audit_can_fail() -> None:
    generator = Generator(Model(), audit=True)
    watcher = Watcher(generator, node_of("sidecar", "a", "10.0.0.1"))
    scope = watcher.config.parts[0]
    scope.drop(source.CLUSTER, "PassthroughCluster")
    with pytest.raises(AssertionError, match="PassthroughCluster"):
        generator.apply([(None, _service(random.Random(0), "s0", "a"))])


def test_equal_proxies_share_and_nothing_stays_behind() -> None:
    generator = Generator(Model(), audit=False)
    metadata = {"name": "s0", "namespace": "a"}
    spec = {"clusterIP": "10.1.0.1", "ports": PORTS[:1]}
    generator.apply([(None, decode(kinds.SERVICE, {"metadata": metadata, "spec": spec}))])
    first = generator.connect(node_of("sidecar", "a", "10.0.0.1"), lambda changes: None)
    second = generator.connect(node_of("sidecar", "b", "10.0.0.2"), lambda changes: None)

    def all_of(config: Any) -> dict[str, Resource]:
        return dict(config.resources(source.CLUSTER))

    assert all_of(first).keys() == all_of(second).keys()
    assert all(all_of(first)[name] is all_of(second)[name] for name in all_of(first))
    first.close()
    second.close()
    first.close()
    assert list(generator._proxies) == []
    assert generator._assembly.empty
    del first, second
    gc.collect()
    left = [spec for spec in entries._entries if getattr(spec, "name", "").startswith("outbound|")]
    assert left == [], "what nobody holds is forgotten"


def test_settings_that_change_reach_every_proxy() -> None:
    generator = Generator(Model(), audit=True)
    watchers = [Watcher(generator, node_of("sidecar", n, f"10.0.0.{i}")) for i, n in enumerate("aab", 1)]
    generator.reconfigure(ProxySettings(allow_any=False))
    assert not any(watcher.missed() for watcher in watchers)
    generator.apply([(None, _service(random.Random(3), "s0", "a"))])
    assert not any(watcher.missed() for watcher in watchers)


def test_a_node_of_a_type_that_we_do_not_know_gets_nothing() -> None:
    generator = Generator(Model(), audit=True)
    config = generator.connect(node_of("waypoint", "a", "10.0.0.1"), lambda changes: None)
    assert all(len(config.resources(url)) == 0 for url in TYPES)
    config.close()


def test_a_change_of_endpoints_makes_one_resource_however_many_services_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generator = Generator(Model(), audit=False)
    for i in range(50):
        spec = {"clusterIP": f"10.1.0.{i}", "ports": PORTS[:1], "selector": {"app": f"{i}"}}
        document = {"metadata": {"name": f"s{i}", "namespace": "a"}, "spec": spec}
        generator.apply([(None, decode(kinds.SERVICE, document))])
    heard: list[Changes] = []
    proxies = [generator.connect(node_of("sidecar", "a", f"10.0.0.{i}"), heard.append) for i in range(5)]
    made: list[Any] = []
    monkeypatch.setattr(parts, "entry", lambda spec: made.append(spec) or entries.entry(spec))
    labels = {"kubernetes.io/service-name": "s7"}
    slice_ = {
        "metadata": {"name": "x", "namespace": "a", "labels": labels},
        "endpoints": [{"addresses": ["10.0.0.1"]}],
        "ports": [{"name": "http", "port": 8080}],
    }
    generator.apply([(None, decode(kinds.ENDPOINT_SLICE, slice_))])
    assert [spec.type_url for spec in made] == [source.ENDPOINT]
    assert len(heard) == len(proxies)
    assert all(changes is heard[0] for changes in heard)
