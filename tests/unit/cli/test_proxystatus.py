from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pilotfish.api.meta import timestamp
from pilotfish.cli import proxystatus
from pilotfish.cli.proxyconfig.dump import ConfigDump
from pilotfish.cli.proxydiff import difference
from pilotfish.cli.proxystatus import Proxy, proxies, state_of, table, verbose_table

ENVOY = "type.googleapis.com/envoy."
CDS, LDS = f"{ENVOY}config.cluster.v3.Cluster", f"{ENVOY}config.listener.v3.Listener"
EDS, RDS = f"{ENVOY}config.endpoint.v3.ClusterLoadAssignment", f"{ENVOY}config.route.v3.RouteConfiguration"
DUMP = Path(__file__).parent / "proxyconfig/config_dump.json"


def answered(name: str, **more: Any) -> dict[str, Any]:
    return {"proxy": name, "cluster_id": "Kubernetes", "istio_version": "1.30.0", "proxy_type": "sidecar", **more}


def test_proxies_are_listed_by_name_and_dns_processes_are_none() -> None:
    answer = [answered("b.x"), answered("a.y"), answered("dns.kube-system", proxy_type="dns")]
    assert [(proxy.name, proxy.namespace) for proxy in proxies(answer)] == [("a.y", "y"), ("b.x", "x")]


@pytest.mark.parametrize(
    ("resource", "state"),
    [
        ({}, "NOT_SENT"),
        ({"sent": "1"}, "STALE"),
        ({"sent": "2", "acked": "1"}, "STALE"),
        ({"sent": "2", "acked": "2"}, "SYNCED"),
        ({"sent": "2", "acked": "2", "lastError": "no"}, "ERROR"),
    ],
)
def test_states(resource: dict[str, str], state: str) -> None:
    assert state_of(resource) == state


def test_tables() -> None:
    synced = {"sent": "1", "acked": "1", "sentTime": timestamp()}
    nds = "type.googleapis.com/istio.networking.nds.v1.NameTable"
    found = [Proxy("a.x", "Kubernetes", "1.30.0", {nds: synced, RDS: {}, LDS: synced, CDS: synced, EDS: {"sent": "1"}})]
    assert table([*found, Proxy("b.x", "Kubernetes", "1.30.0", {})]) == [
        ["NAME", "CLUSTER", "ISTIOD", "VERSION", "SUBSCRIBED TYPES"],
        ["a.x", "Kubernetes", "istiod", "1.30.0", "5 (CDS,LDS,EDS,RDS,NDS)"],
        ["b.x", "Kubernetes", "istiod", "1.30.0", "0"],
    ]
    header, row = verbose_table(found)
    assert header == ["NAME", "CLUSTER", "CDS", "ECDS", "EDS", "LDS", "RDS", "NDS", "ISTIOD", "VERSION"]
    assert row[2:8] == ["SYNCED (0s)", "IGNORED", "STALE", "SYNCED (0s)", "NOT SENT", "SYNCED (0s)"]


def test_as_json_it_is_the_discovery_response_that_istioctl_prints() -> None:
    refused = {"sent": "1", "acked": "1", "sentTime": "2026-01-02T03:04:05Z", "lastError": "no"}
    response = proxystatus.as_response([Proxy("a.x", "Kubernetes", "1.30.0", {CDS: refused})])
    assert response["typeUrl"] == "istio.io/debug/syncz"
    [config] = response["resources"]
    assert config["node"] == {
        "id": "a.x",
        "metadata": {"CLUSTER_ID": "Kubernetes", "ISTIO_VERSION": "1.30.0", "NAMESPACE": "x"},
    }
    assert config["genericXdsConfigs"] == [
        {
            "typeUrl": CDS,
            "configStatus": "ERROR",
            "lastUpdated": "2026-01-02T03:04:05Z",
            "errorState": {"details": "no", "lastUpdateAttempt": "2026-01-02T03:04:05Z"},
        }
    ]


def changed(change: Any) -> ConfigDump:
    document = json.loads(DUMP.read_text())
    sections = {one["@type"].rpartition(".")[2]: one for one in document["configs"]}
    change(sections)
    return ConfigDump.parse(msgspec.json.encode(document))


def test_equal_dumps_match_whatever_their_order_and_versions() -> None:
    def reorder(sections: dict[str, Any]) -> None:
        sections["ClustersConfigDump"]["dynamic_active_clusters"].reverse()
        sections["ListenersConfigDump"]["dynamic_listeners"].reverse()
        for route in sections["RoutesConfigDump"]["dynamic_route_configs"]:
            route["version_info"] = "another"
            route["last_updated"] = "2026-11-23T10:50:24.123Z"
            route["route_config"]["virtual_hosts"].reverse()

    lines = difference(changed(lambda sections: None), changed(reorder))
    assert lines[:2] == ["Clusters Match", "Listeners Match"]
    assert lines[2].startswith("Routes Match (RDS last loaded at ")


def test_numbers_that_are_equal_match() -> None:
    def put(value: float) -> ConfigDump:
        return changed(
            lambda sections: sections["ClustersConfigDump"]["dynamic_active_clusters"][0]["cluster"].update(
                alt_stat_name=value
            )
        )

    assert difference(put(1), put(1.0))[0] == "Clusters Match"
    assert difference(put(1), put(1.5))[0] == "Clusters Don't Match"


def test_fields_that_only_envoy_knows_are_not_compared() -> None:
    def add(sections: dict[str, Any]) -> None:
        for entry in sections["ClustersConfigDump"]["dynamic_active_clusters"]:
            entry["cluster"]["not_yet"] = {}

    assert difference(changed(lambda sections: None), changed(add))[0] == "Clusters Match"


def test_what_differs_is_shown() -> None:
    def alter(sections: dict[str, Any]) -> None:
        for entry in sections["ListenersConfigDump"]["dynamic_listeners"]:
            if entry["name"] == "virtualInbound":
                entry["active_state"]["listener"]["address"]["socket_address"]["port_value"] = 16006

    lines = difference(changed(lambda sections: None), changed(alter))
    assert [line for line in lines if line.endswith(" Match")] == [
        "Clusters Match",
        "Listeners Don't Match",
        "Routes Match",
    ]
    assert lines[2:4] == ["--- Istiod Listeners", "+++ Envoy Listeners"]
    assert [line.split() for line in lines if line[:2] in ("- ", "+ ")] == [
        ["-", '"portValue":', "15006"],
        ["+", '"portValue":', "16006"],
    ]
