from __future__ import annotations

from typing import Any

import pytest


def namespace(labels: str, name: str = "shop") -> str:
    return f"{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}, labels: {{{labels}}}}}}}"


def pod(image: str = "", more: str = "") -> str:
    proxy = f", {{name: istio-proxy, image: {image}}}" if image else ""
    return f"""
apiVersion: v1
kind: Pod
metadata: {{name: web-1, namespace: shop{more}}}
spec: {{containers: [{{name: app, image: x}}{proxy}]}}
"""


VALUES = """
apiVersion: v1
kind: ConfigMap
metadata: {name: istio-sidecar-injector, namespace: istio-system}
data: {values: '{"global": {"hub": "istio", "tag": "1.30.0"}WEBHOOK}'}
"""


@pytest.mark.parametrize(
    ("labels", "codes"),
    [
        ("istio-injection: enabled", []),
        ("istio-injection: disabled", []),
        ("istio.io/rev: default", []),
        ("istio.io/dataplane-mode: ambient", []),
        ("", ["IST0102"]),
        ("istio-injection: enabled, istio.io/rev: default", ["IST0123"]),
        ("istio-injection: disabled, istio.io/rev: default", []),
    ],
)
def test_namespaces(analyse: Any, labels: str, codes: list[str]) -> None:
    assert [one.code for one in analyse(namespace(labels))] == codes


@pytest.mark.parametrize("name", ["istio-system", "kube-system"])
def test_namespaces_of_the_system_need_not_say(analyse: Any, name: str) -> None:
    assert analyse(namespace("", name)) == []


def test_injection_by_default(analyse: Any) -> None:
    webhook = ', "sidecarInjectorWebhook": {"enableNamespacesByDefault": true}'
    [found] = analyse(namespace(""), VALUES.replace("WEBHOOK", webhook))
    assert found.code == "IST0148"


@pytest.mark.parametrize(
    ("manifest", "missing"),
    [
        (pod(), True),
        (pod("istio/proxyv2:1"), False),
        (pod(more=", labels: {sidecar.istio.io/inject: 'false'}"), False),
        (pod(more=", annotations: {sidecar.istio.io/inject: 'false'}"), False),
    ],
)
def test_pods_without_a_proxy(analyse: Any, manifest: str, missing: bool) -> None:
    found = analyse(namespace("istio-injection: enabled"), manifest, code="IST0103")
    assert [one.arguments for one in found] == ([("shop/web-1",)] if missing else [])
    assert analyse(namespace("istio-injection: disabled"), manifest, code="IST0103") == []


@pytest.mark.parametrize(
    ("image", "old"),
    [("istio/proxyv2:1.30.0", False), ("istio/proxyv2:1.30.0-distroless", False), ("istio/proxyv2:1.29.0", True)],
)
def test_proxies_of_another_image(analyse: Any, image: str, old: bool) -> None:
    injected, values = namespace("istio-injection: enabled"), VALUES.replace("WEBHOOK", "")
    found = analyse(injected, values, pod(image), code="IST0158")
    assert [(one.origin, one.arguments) for one in found] == ([("Namespace shop", ("web-1",))] if old else [])
    chosen = pod(image, ", annotations: {sidecar.istio.io/proxyImage: mine}")
    assert analyse(injected, values, chosen, code="IST0158") == []


def test_image_auto(analyse: Any) -> None:
    [found] = analyse(pod("auto"), code="IST0147")
    assert found.arguments == ("Pod", "web-1")
    gateway = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: front, namespace: shop}
spec:
  selector: {matchLabels: {app: front}}
  template: {metadata: {labels: {app: front LABELS}}, spec: {containers: [{name: istio-proxy, image: auto}]}}
"""
    [found] = analyse(gateway.replace("LABELS", ""), code="IST0146")
    assert found.arguments == ("Deployment", "front")
    assert analyse(gateway.replace("LABELS", ", sidecar.istio.io/inject: 'true'"), code="IST0146") == []
    assert analyse(gateway.replace("LABELS", ""), namespace("istio-injection: enabled"), code="IST0146") == []
