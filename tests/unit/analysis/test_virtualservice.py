from __future__ import annotations

from typing import Any

import pytest

VIRTUAL_SERVICE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}, namespace: {namespace}}}
spec: {spec}
"""


def virtual_service(spec: str, name: str = "web", namespace: str = "shop") -> str:
    return VIRTUAL_SERVICE.format(name=name, namespace=namespace, spec=spec)


def route(host: str, more: str = "") -> str:
    return f"{{hosts: [web], http: [{{route: [{{destination: {{host: {host}{more}}}}}]}}]}}"


def service_entry(host: str, export_to: str, ports: str = "[{number: 443, name: tls, protocol: TLS}]") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: entry, namespace: other}}
spec: {{hosts: ["{host}"], exportTo: [{export_to}], ports: {ports}, resolution: DNS}}
"""


@pytest.mark.parametrize("host", ["web", "web.shop.svc.cluster.local", "WEB"])
def test_a_host_that_there_is(analyse: Any, shop: str, host: str) -> None:
    assert analyse(shop, virtual_service(route(host)), code="IST0101") == []


@pytest.mark.parametrize("host", ["api", "web.other.svc.cluster.local", "web.shop"])
def test_a_host_that_there_is_not(analyse: Any, shop: str, host: str) -> None:
    [found] = analyse(shop, virtual_service(route(host)), code="IST0101")
    assert found.arguments == ("host", host)
    assert found.origin == "VirtualService shop/web"
    assert found.path == ("spec", "http", 0, "route", 0, "destination", "host")


@pytest.mark.parametrize(
    ("declared", "export_to", "asked", "found"),
    [
        ("api.example.com", '"*"', "api.example.com", True),
        ("api.example.com", "shop", "api.example.com", True),
        ("api.example.com", '"."', "api.example.com", False),
        ("*.example.com", '"*"', "api.example.com", True),
        ("*.example.com", '"*"', "example.com", False),
        ("*.example.com", '"*"', "'*.v1.example.com'", True),
    ],
)
def test_hosts_of_service_entries(analyse: Any, declared: str, export_to: str, asked: str, found: bool) -> None:
    manifests = service_entry(declared, export_to), virtual_service(route(asked))
    assert (analyse(*manifests, code="IST0101") == []) is found


def test_ports_of_destinations(analyse: Any, shop: str) -> None:
    assert analyse(shop, virtual_service(route("web", ", port: {number: 80}")), code="IST0101") == []
    [found] = analyse(shop, virtual_service(route("web", ", port: {number: 81}")), code="IST0101")
    assert found.arguments == ("host:port", "web:81")
    two = service_entry("a.b", '"*"', "[{number: 80, name: a, protocol: HTTP}, {number: 81, name: b, protocol: HTTP}]")
    [found] = analyse(two, virtual_service(route("a.b")), code="IST0112")
    assert found.arguments == ("a.b", "80, 81")
    assert analyse(two, virtual_service(route("a.b", ", port: {number: 81}")), code="IST0112") == []


def test_mirrors_and_other_protocols_are_looked_at_too(analyse: Any, shop: str) -> None:
    destination = "{destination: {host: web}}"
    nobody = "{host: nobody}"
    spec = f"""{{hosts: [web], gateways: [mesh],
      http: [{{route: [{destination}], mirror: {nobody}}}, {{route: [{destination}],
              mirrors: [{{destination: {nobody}}}]}}],
      tcp: [{{route: [{{destination: {nobody}}}]}}],
      tls: [{{match: [{{sniHosts: [web]}}], route: [{{destination: {nobody}}}]}}]}}"""
    found = analyse(shop, virtual_service(spec), code="IST0101")
    assert {one.arguments for one in found} == {("mirror host", "nobody"), ("host", "nobody")}


def test_subsets_need_a_destination_rule(analyse: Any, shop: str) -> None:
    spec = virtual_service(route("web", ", subset: v1"))
    [found] = analyse(shop, spec, code="IST0101")
    assert found.arguments == ("host+subset in destinationrule", "web+v1")
    rule = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web, namespace: shop}
spec: {host: web.shop.svc.cluster.local, subsets: [{name: v1, labels: {version: v1}}]}
"""
    assert analyse(shop, spec, rule) == []


GATEWAY = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: front, namespace: edge}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["HOST"]}]
"""


def through(gateway: str, host: str = "web.example.com") -> str:
    return virtual_service(
        f"{{hosts: ['{host}'], gateways: ['{gateway}'], http: [{{route: [{{destination: {{host: web}}}}]}}]}}"
    )


@pytest.mark.parametrize(
    ("served", "host", "found"),
    [
        ("*", "web.example.com", True),
        ("*.example.com", "web.example.com", True),
        ("web.example.com", "*.example.com", True),
        ("shop/web.example.com", "web.example.com", True),
        ("other/web.example.com", "web.example.com", False),
        ("./web.example.com", "web.example.com", False),
        ("*/*", "web.example.com", True),
        ("api.example.com", "web.example.com", False),
    ],
)
def test_a_gateway_has_the_hosts(analyse: Any, shop: str, served: str, host: str, found: bool) -> None:
    manifests = shop, GATEWAY.replace("HOST", served), through("edge/front", host)
    messages = analyse(*manifests, code="IST0132")
    assert (messages == []) is found
    if messages:
        assert messages[0].arguments == (host, "shop/web", "edge/front")


def test_gateways_that_there_are_not(analyse: Any, shop: str) -> None:
    [found] = analyse(shop, through("front"), code="IST0101")
    assert (found.arguments, found.path) == (("gateway", "front"), ("spec", "gateways", 0))
    [found] = analyse(shop, through("edge/front-istio-autogenerated-k8s-gateway-http"), code="IST0165")
    assert found.arguments[0] == "shop/web"
    assert analyse(shop, through("mesh"), code="IST0101") == []


def test_one_host_in_two_virtual_services_for_sidecars(analyse: Any, shop: str) -> None:
    one, two = virtual_service(route("web"), "one"), virtual_service(route("web"), "two")
    found = analyse(shop, one, two, code="IST0109")
    assert [(f.origin, f.arguments) for f in found] == [
        ("VirtualService shop/one", ("shop/one,shop/two", "*/web.shop.svc.cluster.local")),
        ("VirtualService shop/two", ("shop/one,shop/two", "*/web.shop.svc.cluster.local")),
    ]
    assert analyse(shop, one, through("edge/front", "web"), code="IST0109") == []
    assert analyse(shop, one, virtual_service(route("web"), "two", "other"), code="IST0109") == []


def test_scopes_that_do_not_meet_do_not_conflict(analyse: Any) -> None:
    def scoped(namespace: str) -> str:
        return virtual_service(
            f"{{hosts: [a.b], exportTo: ['{namespace}'], http: [{{directResponse: {{status: 200}}}}]}}",
            f"to-{'all' if namespace == '*' else namespace}",
        )

    assert analyse(scoped("shop"), scoped("other"), code="IST0109") == []
    found = analyse(scoped("shop"), scoped("*"), code="IST0109")
    assert {one.origin for one in found} == {"VirtualService shop/to-shop", "VirtualService shop/to-all"}


def test_subsets_that_a_gateway_passes_by(analyse: Any, shop: str) -> None:
    divided = virtual_service(route("web", ", subset: v1"), "divided")
    [found] = analyse(shop, divided, through("edge/front"), code="IST0140")
    assert found.arguments == ("shop/divided", "shop/web")
    assert found.origin == "VirtualService shop/web"


def test_rules_that_are_never_used(analyse: Any, shop: str) -> None:
    spec = """{hosts: [web], http: [
      {match: [{uri: {prefix: /a}}, {uri: {prefix: /a/b}}], route: [{destination: {host: web}}]},
      {route: [{destination: {host: web}}]},
      {match: [{uri: {prefix: /c}}], route: [{destination: {host: web}}]}]}"""
    messages = analyse(shop, virtual_service(spec))
    assert [(one.code, one.arguments[0], one.path) for one in messages] == [
        ("IST0130", "http[2]", ("spec", "http", 2)),
        ("IST0131", "http[0]", ("spec", "http", 0, "match", 1)),
    ]
    assert messages[1].arguments == ("http[0]", "1", "http[0].match[0]")
