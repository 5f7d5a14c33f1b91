"""Random objects of a small mesh, made to get in each other's way: few names, few addresses, few ports, and all that
may claim them. Every document is one that a user could apply; what the API server refuses of them is part of the game.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from pilotfish.api import kinds
from pilotfish.api.meta import Document
from pilotfish.api.scheme import AnyKind

NAMESPACES = ("a", "b", "c")
ADDRESSES = tuple(f"10.0.0.{n}" for n in range(1, 7))
SERVICES = tuple(f"s{n}.{namespace}.svc.cluster.local" for n in range(4) for namespace in NAMESPACES)
HOSTS = (*SERVICES, "h.test", "x.test", "y.test", "*.test", "*.w.test", "z.w.test")
GATEWAYS = tuple(f"{namespace}/g{n}" for namespace in NAMESPACES for n in range(2))
SUBSETS = ("v1", "v2")
_PORTS = (
    {"name": "http", "port": 80, "targetPort": 8080},
    {"name": "tcp", "port": 80},
    {"name": "what", "port": 80, "targetPort": "named"},
    {"name": "grpc", "port": 90},
    {"name": "https", "port": 443},
    {"name": "mysql", "port": 80},
)
_ENTRY_PORTS = (
    {"number": 80, "name": "http", "protocol": "HTTP"},
    {"number": 80, "name": "x"},
    {"number": 9, "name": "tcp", "protocol": "TCP", "targetPort": 99},
    {"number": 443, "name": "tls", "protocol": "TLS"},
)

Spec = dict[str, Any]
Maker = Callable[[random.Random], Spec]
"""Makes all of an object but its name: `spec`, and whatever else it has at the top."""


def _some(rng: random.Random, values: Any, most: int = 2) -> list[Any]:
    return rng.sample(list(values), rng.randint(1, most))


def _export_to(rng: random.Random) -> Spec:
    return rng.choice([{}, {}, {"exportTo": ["."]}, {"exportTo": [rng.choice(NAMESPACES)]}, {"exportTo": ["*"]}])


def _labels(rng: random.Random) -> Spec:
    return {"app": rng.choice("xy"), "version": rng.choice(SUBSETS)}


def _service(rng: random.Random) -> Spec:
    ports = {port["port"]: port for port in _some(rng, _PORTS, 3)}
    spec: Spec = {"selector": {"app": rng.choice("xy")}, "ports": list(ports.values())}
    if rng.random() < 0.5:
        spec["clusterIP"] = rng.choice(["None", f"10.1.0.{rng.randint(1, 5)}"])
    return {"spec": spec, "annotations": rng.choice([{}, {}, {"networking.istio.io/exportTo": "."}])}


def _slice(rng: random.Random) -> Spec:
    ready = rng.choice([True, False])
    endpoints = [
        {
            "addresses": [address],
            "conditions": {"ready": ready},
            "targetRef": {"kind": "Pod", "name": f"p{address[-1]}"},
        }
        for address in rng.sample(ADDRESSES, 2)
    ]
    ports = [{"name": str(port["name"]), "port": 8080} for port in _PORTS]
    labels = {"kubernetes.io/service-name": f"s{rng.randint(0, 3)}"}
    return {"addressType": "IPv4", "endpoints": endpoints, "ports": ports, "labels": labels}


def _service_entry(rng: random.Random) -> Spec:
    resolution = rng.choice(["STATIC", "DNS", "NONE"])
    spec: Spec = {
        "hosts": _some(rng, (*HOSTS, "s0.a", "H.Test")),
        "addresses": rng.choice([[], [], ["192.0.2.1"], ["192.0.2.0/24"], ["10.1.0.1"]]),
        "ports": list({port["number"]: port for port in rng.sample(_ENTRY_PORTS, 2)}.values()),
        "resolution": resolution,
        "location": rng.choice(["MESH_INTERNAL", "MESH_EXTERNAL"]),
        **_export_to(rng),
    }
    if resolution != "NONE" and rng.random() < 0.5:
        spec["endpoints"] = [{"address": a, "labels": _labels(rng)} for a in _some(rng, ADDRESSES)]
    elif resolution != "NONE":
        spec["workloadSelector"] = {"labels": {"app": rng.choice("xy")}}
    return {"spec": spec}


def _workload_entry(rng: random.Random) -> Spec:
    spec: Spec = {"address": rng.choice(["192.0.2.1", *ADDRESSES, "vm.test"]), "labels": _labels(rng)}
    return {"spec": spec | rng.choice([{}, {"serviceAccount": rng.choice(["till", "desk"])}])}


def _pod(rng: random.Random) -> Spec:
    ports = [{"name": "named", "containerPort": rng.choice([8080, 9090])}]
    account = rng.choice([{}, {"serviceAccountName": "till"}])
    spec = {"containers": [{"name": "c", "image": "host", "ports": ports}], **account}
    ready = {"type": "Ready", "status": rng.choice(["True", "False"])}
    status = {"podIP": rng.choice(ADDRESSES), "phase": "Running", "conditions": [ready]}
    sidecar = rng.choice([{}, {"security.istio.io/tlsMode": "istio"}])
    return {"spec": spec, "labels": _labels(rng) | sidecar, "status": status}


def _destination(rng: random.Random) -> Spec:
    destination: Spec = {"host": rng.choice((*HOSTS[:-3], "s1", "s2.b"))}
    if rng.random() < 0.5:
        destination["port"] = {"number": rng.choice([80, 90])}
    if rng.random() < 0.4:
        destination["subset"] = rng.choice(SUBSETS)
    return destination


def _destinations(rng: random.Random) -> list[Spec]:
    if rng.random() < 0.6:
        return [{"destination": _destination(rng)}]
    weight = rng.randint(0, 100)
    return [{"destination": _destination(rng), "weight": w} for w in (weight, 100 - weight)]


def _http_route(rng: random.Random) -> Spec:
    route: Spec = {"route": _destinations(rng)}
    if rng.random() < 0.6:
        route["match"] = _some(
            rng,
            [
                {"uri": {"prefix": "/p"}},
                {"uri": {"exact": "/e"}, "headers": {"k": {"regex": "v+"}}},
                {"port": 80},
                {"sourceLabels": {"app": rng.choice("xy")}},
                {"sourceNamespace": rng.choice(NAMESPACES)},
                {"gateways": ["mesh"]},
                {"gateways": [rng.choice(GATEWAYS)]},
            ],
        )
    for name, value in (
        ("timeout", f"{rng.randint(1, 9)}s"),
        ("retries", {"attempts": rng.randint(0, 3), "perTryTimeout": "1s"}),
        ("rewrite", {"uri": "/other"}),
        ("mirror", _destination(rng)),
        ("corsPolicy", {"allowOrigins": [{"prefix": "https://"}]}),
        ("fault", {"abort": {"httpStatus": 503, "percentage": {"value": rng.randint(0, 100)}}}),
        ("headers", {"request": {"set": {"h": rng.choice("xy")}}}),
    ):
        if rng.random() < 0.2:
            route[name] = value
    return route


def _byte_matches(rng: random.Random) -> list[Spec]:
    return _some(
        rng,
        [
            {"port": 80},
            {"destinationSubnets": [rng.choice(["10.1.0.0/25", "192.0.2.0/24"])]},
            {"sourceLabels": {"app": rng.choice("xy")}},
            {"sourceNamespace": rng.choice(NAMESPACES)},
            {"gateways": [rng.choice((*GATEWAYS, "mesh"))]},
        ],
    )


def _virtual_service(rng: random.Random) -> Spec:
    if rng.random() < 0.2:
        return {"spec": {"http": [_http_route(rng)], **_export_to(rng)}}  # a delegate
    spec: Spec = {"hosts": _some(rng, HOSTS), **_export_to(rng)}
    if rng.random() < 0.5:
        spec["gateways"] = _some(rng, (*GATEWAYS, "mesh"))
    if rng.random() < 0.8:
        spec["http"] = [_http_route(rng) for _ in range(rng.randint(1, 3))]
        if rng.random() < 0.3:
            delegate = {"name": f"v{rng.randrange(3)}", "namespace": rng.choice(NAMESPACES)}
            spec["http"].insert(0, {"match": [{"uri": {"prefix": "/p"}}], "delegate": delegate})
    if rng.random() < 0.3:
        match = {"match": _byte_matches(rng)} if rng.random() < 0.5 else {}
        spec["tcp"] = [{**match, "route": _destinations(rng)} for _ in range(rng.randint(1, 2))]
    if rng.random() < 0.3:
        match = rng.choice([{"port": 443}, *_byte_matches(rng)])
        spec["tls"] = [
            {
                "match": [{**match, "sniHosts": rng.sample(spec["hosts"], rng.randint(1, len(spec["hosts"])))}],
                "route": _destinations(rng),
            }
        ]
    return {"spec": spec}


def _traffic_policy(rng: random.Random) -> Spec:
    choices: list[Spec] = [
        {"loadBalancer": {"simple": rng.choice(["ROUND_ROBIN", "RANDOM", "LEAST_REQUEST", "PASSTHROUGH"])}},
        {"loadBalancer": {"consistentHash": {"httpHeaderName": "h"}}},
        {"connectionPool": {"tcp": {"maxConnections": rng.randint(1, 9)}, "http": {"http2MaxRequests": 5}}},
        {"outlierDetection": {"consecutive5xxErrors": rng.randint(1, 9)}},
        {"tls": {"mode": rng.choice(["DISABLE", "SIMPLE", "ISTIO_MUTUAL"])}},
    ]
    return {name: value for choice in _some(rng, choices) for name, value in choice.items()}


def _destination_rule(rng: random.Random) -> Spec:
    spec: Spec = {"host": rng.choice((*HOSTS, "s1", "*.svc.cluster.local")), **_export_to(rng)}
    if rng.random() < 0.6:
        spec["trafficPolicy"] = _traffic_policy(rng)
        if rng.random() < 0.3:
            spec["trafficPolicy"]["portLevelSettings"] = [{"port": {"number": 80}, **_traffic_policy(rng)}]
    if rng.random() < 0.6:
        spec["subsets"] = [{"name": name, "labels": {"version": name}} for name in _some(rng, SUBSETS)]
        if rng.random() < 0.3:
            spec["subsets"][0]["trafficPolicy"] = _traffic_policy(rng)
    if rng.random() < 0.2:
        spec["workloadSelector"] = {"matchLabels": {"app": rng.choice("xy")}}
    return {"spec": spec}


def _gateway(rng: random.Random) -> Spec:
    settings = [
        ("HTTP", 80, rng.choice([None, {"httpsRedirect": True}])),
        ("TCP", rng.choice([80, 9000]), None),
        ("HTTPS", 443, {"mode": "SIMPLE", "credentialName": rng.choice(["c0", "c1"])}),
        ("TLS", 443, {"mode": rng.choice(["PASSTHROUGH", "AUTO_PASSTHROUGH"])}),
    ]
    hosts = ("*", "*.test", "x.test", "a/x.test", "./y.test", "*/*.w.test", SERVICES[0])
    servers = [
        {
            "port": {"number": port, "name": f"p{place}", "protocol": protocol},
            "hosts": _some(rng, hosts),
            **({"tls": tls} if tls else {}),
        }
        for place, (protocol, port, tls) in enumerate(_some(rng, settings, 3))
    ]
    return {"spec": {"selector": {"app": rng.choice("xy")}, "servers": servers}}


def _sidecar(rng: random.Random) -> Spec:
    hosts = ("./*", "*/*", "a/*", "b/*", "~/*", f"*/{rng.choice(SERVICES)}", "*/*.test", "c/h.test")
    spec: Spec = {"egress": [{"hosts": _some(rng, hosts)}]}
    if rng.random() < 0.3:
        spec["egress"].insert(0, {"port": {"number": 80, "protocol": "HTTP", "name": "h"}, "hosts": _some(rng, hosts)})
    if rng.random() < 0.4:
        spec["workloadSelector"] = {"labels": {"app": rng.choice("xy")}}
    if rng.random() < 0.3:
        spec["outboundTrafficPolicy"] = {"mode": rng.choice(["ALLOW_ANY", "REGISTRY_ONLY"])}
    if rng.random() < 0.3:
        port = {"number": 8080, "protocol": rng.choice(["HTTP", "TCP"]), "name": "in"}
        files = {"serverCertificate": "/etc/own.pem", "privateKey": "/etc/own-key.pem"}
        own = {"tls": {"mode": "SIMPLE", **files}} if rng.random() < 0.3 else {}
        spec["ingress"] = [{"port": port, "defaultEndpoint": "127.0.0.1:9090", **own}]
    return {"spec": spec}


def _envoy_filter(rng: random.Random) -> Spec:
    one_cluster = {"match": {"cluster": {"service": rng.choice(SERVICES)}}}
    direct = {"match": {"prefix": "/direct"}, "direct_response": {"status": 204}}
    patches: list[Spec] = [
        {"applyTo": "CLUSTER", "patch": {"operation": "MERGE", "value": {"connect_timeout": "3s"}}},
        {"applyTo": "CLUSTER", "patch": {"operation": "REMOVE"}, **one_cluster},
        {"applyTo": "CLUSTER", "patch": {"operation": "ADD", "value": {"name": "extra", "connect_timeout": "1s"}}},
        {"applyTo": "LISTENER", "patch": {"operation": "REMOVE"}, "match": {"listener": {"portNumber": 80}}},
        {"applyTo": "LISTENER", "patch": {"operation": "MERGE", "value": {"tcp_backlog_size": 7}}},
        {"applyTo": "HTTP_ROUTE", "patch": {"operation": "INSERT_FIRST", "value": direct}},
    ]
    spec: Spec = {"configPatches": _some(rng, patches, 3), "priority": rng.randint(0, 2)}
    if rng.random() < 0.5:
        spec["workloadSelector"] = {"labels": {"app": rng.choice("xy")}}
    return {"spec": spec}


def _telemetry(rng: random.Random) -> Spec:
    provider = {"providers": [{"name": rng.choice(["envoy", "prometheus"])}]}
    choices: list[Spec] = [
        {"accessLogging": [{"disabled": rng.random() < 0.5}]},
        {"accessLogging": [{**provider, "filter": {"expression": "response.code >= 400"}}]},
        {"metrics": [{"overrides": [{"match": {"metric": "REQUEST_COUNT"}, "disabled": True}]}]},
        {"metrics": [{"overrides": [{"tagOverrides": {"response_code": {"operation": "REMOVE"}}}]}]},
        {"tracing": [{"randomSamplingPercentage": rng.randint(0, 100)}]},
    ]
    spec: Spec = {name: value for choice in _some(rng, choices) for name, value in choice.items()}
    if rng.random() < 0.5:
        spec["selector"] = {"matchLabels": {"app": rng.choice("xy")}}
    return {"spec": spec}


def _proxy_config(rng: random.Random) -> Spec:
    spec: Spec = {"concurrency": rng.randint(0, 3), "environmentVariables": {"ISTIO_META_X": rng.choice("xy")}}
    if rng.random() < 0.5:
        spec["selector"] = {"matchLabels": {"app": rng.choice("xy")}}
    return {"spec": spec}


def _secret(rng: random.Random) -> Spec:
    return {"data": rng.choice([{}, {"tls.crt": "QQ==", "tls.key": "QQ=="}, {"cert": "QQ==", "key": "QQ=="}])}


MAKERS: tuple[tuple[AnyKind, str, int, Maker], ...] = (
    (kinds.SERVICE, "s", 4, _service),
    (kinds.ENDPOINT_SLICE, "e", 4, _slice),
    (kinds.SERVICE_ENTRY, "e", 3, _service_entry),
    (kinds.WORKLOAD_ENTRY, "w", 3, _workload_entry),
    (kinds.POD, "p", 6, _pod),
    (kinds.VIRTUAL_SERVICE, "v", 3, _virtual_service),
    (kinds.DESTINATION_RULE, "d", 3, _destination_rule),
    (kinds.GATEWAY, "g", 2, _gateway),
    (kinds.SIDECAR, "c", 2, _sidecar),
    (kinds.ENVOY_FILTER, "f", 2, _envoy_filter),
    (kinds.TELEMETRY, "t", 2, _telemetry),
    (kinds.PROXY_CONFIG, "p", 2, _proxy_config),
    (kinds.SECRET, "c", 2, _secret),
)
"""Kind, the first letter of its objects' names, how many names there are in a namespace, and what makes one."""


def document(rng: random.Random) -> tuple[AnyKind, Document]:
    """A random object of a random kind, with its name and namespace; `status` is to be written after it."""
    kind, letter, count, make = rng.choice(MAKERS)
    name, namespace = f"{letter}{rng.randrange(count)}", rng.choice(NAMESPACES)
    made = make(rng)
    metadata = {"name": name, "namespace": namespace}
    metadata |= {field: made.pop(field) for field in ("labels", "annotations") if field in made}
    return kind, {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, **made}
