from __future__ import annotations

from typing import Any

import pytest

SELECTORS = {
    "Sidecar": ("networking.istio.io/v1", "workloadSelector: {labels: {LABELS}}, egress: [{hosts: ['*/*']}]"),
    "Telemetry": ("telemetry.istio.io/v1", "selector: {matchLabels: {LABELS}}"),
}
CODES = {"Sidecar": ("IST0110", "IST0111"), "Telemetry": ("IST0159", "IST0160")}


def selecting(kind: str, name: str, labels: str = "") -> str:
    version, spec = SELECTORS[kind]
    body = spec.replace("LABELS", labels) if labels else "egress: [{hosts: ['*/*']}]" if kind == "Sidecar" else ""
    return f"""
apiVersion: {version}
kind: {kind}
metadata: {{name: {name}, namespace: shop}}
spec: {{{body}}}
"""


@pytest.mark.parametrize("kind", SELECTORS)
def test_several_that_select_a_pod(analyse: Any, shop: str, kind: str) -> None:
    one, two = selecting(kind, "one", "app: web"), selecting(kind, "two", "version: v1")
    found = analyse(shop, one, two, code=CODES[kind][0])
    assert [(f.origin, f.arguments) for f in found] == [
        (f"{kind} shop/one", ("one, two", "shop", "web-1")),
        (f"{kind} shop/two", ("one, two", "shop", "web-1")),
    ]
    assert analyse(shop, one, selecting(kind, "rest"), code=CODES[kind][0]) == []


@pytest.mark.parametrize("kind", SELECTORS)
def test_one_that_selects_nobody(analyse: Any, shop: str, kind: str) -> None:
    [found] = analyse(shop, selecting(kind, "one", "app: api"), code="IST0101")
    assert (found.arguments, found.path[-1]) == (("selector", "app=api"), "app")


@pytest.mark.parametrize("kind", SELECTORS)
def test_several_that_select_all(analyse: Any, shop: str, kind: str) -> None:
    found = analyse(shop, selecting(kind, "one"), selecting(kind, "two"), code=CODES[kind][1])
    assert [f.arguments for f in found] == [("one, two", "shop"), ("one, two", "shop")]
    assert analyse(shop, selecting(kind, "one"), code=CODES[kind][1]) == []
