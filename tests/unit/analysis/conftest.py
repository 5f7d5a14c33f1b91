"""Manifests in, findings out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import yaml

from pilotfish.analysis.analyzers import analyze
from pilotfish.analysis.snapshot import Snapshot
from pilotfish.api.decode import decode
from pilotfish.api.kinds import SCHEME

SHOP = """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop, labels: {app: web, version: v1}}
spec: {containers: [{name: app, image: x}, {name: istio-proxy, image: istio/proxyv2:1}]}
"""
"""A service with one pod, which has a sidecar."""


class Finding(NamedTuple):
    code: str
    origin: str
    arguments: tuple[str, ...]
    path: tuple[str | int, ...]


Analyse = Callable[..., list[Finding]]


def objects_of(text: str) -> list[tuple[Any, Any]]:
    found = []
    for document in yaml.safe_load_all(text):
        if document is None:
            continue
        kind = SCHEME.by_kind(document["apiVersion"], document["kind"])
        assert kind is not None
        if kind.namespaced:
            document["metadata"].setdefault("namespace", "default")
        kind.default(document)
        found.append((kind, decode(kind, document)))
    return found


@pytest.fixture
def analyse() -> Analyse:
    """`analyse(*manifests, code=…)`: what is found in them, of one code or of all."""

    def run(*manifests: str, code: str = "") -> list[Finding]:
        snapshot = Snapshot(pair for text in manifests for pair in objects_of(text))
        return [
            Finding(one.type.code, one.origin, one.arguments, one.path)
            for one in analyze(snapshot)
            if code in ("", one.type.code)
        ]

    return run


@pytest.fixture
def shop() -> str:
    return SHOP
