"""Whose metrics are scraped where."""

from __future__ import annotations

import json

import pytest

from pilotfish.mesh.meshconfig import mesh_config
from pilotfish.mesh.metrics_merge import merge

POINTS = {"prometheus.io/port": "15020", "prometheus.io/path": "/stats/prometheus", "prometheus.io/scrape": "true"}
MESH = mesh_config({})


@pytest.mark.covers("MeshConfig.enablePrometheusMerge")
def test_scrapers_come_to_the_proxy() -> None:
    assert merge({"a": "b"}, MESH, 15020) == ({"a": "b", **POINTS}, "")
    written = {"prometheus.io/scrape": "true", "prometheus.io/port": "8080", "prometheus.io.path": "/m"}
    annotations, told = merge(written, MESH, 15020)
    assert annotations == POINTS
    assert json.loads(told) == {"scrape": "true", "port": "8080", "path": "/m"}
    assert merge(annotations, MESH, 15020) == (POINTS, ""), "a pod that was injected before stays as it is"
    assert merge(written, MESH, 16020).annotations["prometheus.io/port"] == "16020"


def test_several_places() -> None:
    _, told = merge({"prometheus.istio.io/scrape-targets": "8080:/m, 9090"}, MESH, 15020)
    assert json.loads(told) == {"targets": [{"port": "8080", "path": "/m"}, {"port": "9090", "path": "/metrics"}]}


def test_who_does_not_want_it() -> None:
    for refusing in ({"prometheus.io/scrape": "false"}, {"prometheus.istio.io/merge-metrics": "false"}):
        assert merge(refusing, MESH, 15020) == (refusing, "")
    off = mesh_config({"enablePrometheusMerge": False})
    assert merge({}, off, 15020) == ({}, "")
    asked = {"prometheus.istio.io/merge-metrics": "true"}
    assert merge(asked, off, 15020).annotations == {**asked, **POINTS}


@pytest.mark.parametrize("port", ["http", "0", "70000", "15090"])
def test_ports_that_cannot_be_asked(port: str) -> None:
    with pytest.raises(ValueError, match=port):
        merge({"prometheus.io/port": port}, MESH, 15020)
