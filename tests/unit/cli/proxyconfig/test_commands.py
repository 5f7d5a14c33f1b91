from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from pilotfish.cli.main import main
from pilotfish.cli.proxyconfig import rootca
from pilotfish.cli.proxyconfig.admin import split_name
from pilotfish.cli.proxyconfig.dump import ConfigDump, DumpError

DUMP = str(Path(__file__).with_name("config_dump.json"))
CLUSTERS = str(Path(__file__).with_name("clusters.json"))


def proxy_config(*words: str) -> Result:
    return CliRunner().invoke(main, ["proxy-config", *words])


@pytest.mark.parametrize(
    ("words", "first"),
    [
        (["c"], "SERVICE FQDN"),
        (["listener"], "ADDRESSES PORT  MATCH"),
        (["l", "--verbose=false"], "ADDRESSES PORT  TYPE"),
        (["routes"], "NAME                          VHOST NAME"),
        (["r", "--no-verbose"], "NAME                          VIRTUAL HOSTS"),
        (["secret"], "RESOURCE NAME     TYPE"),
        (["b", "-o", "short"], "Istio Version: 1.10.4"),
        (["ecds"], "ECDS NAME     TYPE"),
        (["all", "--with-headers"], "------ BOOTSTRAP INFO ------"),
    ],
)
def test_tables_of_a_saved_dump(words: list[str], first: str) -> None:
    done = proxy_config(*words, "--file", DUMP)
    assert done.exit_code == 0, done.output
    assert done.output.startswith(first)


def test_all_has_every_table() -> None:
    text = proxy_config("all", "-f", DUMP).output
    for kind in ("cluster/outbound|50000||", "listener/virtualInbound", "route/50000", "secret/ROOTCA", "endpoint/"):
        assert f"\n{kind}" in text


def test_messages_as_json_and_yaml() -> None:
    [listener] = json.loads(proxy_config("l", "-f", DUMP, "--port", "15006", "-o", "json").output)
    assert (listener["name"], listener["address"]["socketAddress"]["portValue"]) == ("virtualInbound", 15006)
    [cluster] = yaml.safe_load(proxy_config("c", "-f", DUMP, "--fqdn", "AppMesh", "-o", "yaml").output)
    assert cluster["edsClusterConfig"]["edsConfig"]["resourceApiVersion"] == "V3"
    [status] = json.loads(proxy_config("ep", "-f", CLUSTERS, "--port", "50000", "-o", "json").output)
    assert status["hostStatuses"][0]["healthStatus"] == {"edsHealthStatus": "HEALTHY"}
    assert json.loads(proxy_config("b", "-f", DUMP).output)["bootstrap"]["node"]["userAgentName"] == "envoy"


def test_a_dump_may_come_from_standard_input() -> None:
    done = CliRunner().invoke(main, ["pc", "c", "-f", "-"], input=Path(DUMP).read_bytes())
    assert "AppMeshClient.mesh" in done.output


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["clusters"], "say whose configuration"),
        (["clusters", "web", "-f", DUMP], "say whose configuration"),
        (["clusters", "-f", "/nowhere"], "cannot read /nowhere: No such file"),
        (["endpoints", "-f", DUMP], "/clusters?format=json"),
        (["clusters", "-f", CLUSTERS], "not what an Envoy answers to /config_dump"),
        (["log", "web", "--level", "debug", "--reset"], "cannot be combined"),
        (["log"], "say whose loggers"),
    ],
)
def test_what_cannot_be_done_is_told(words: list[str], reason: str) -> None:
    done = proxy_config(*words)
    assert done.exit_code != 0
    assert reason in done.output


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("web-1", ("web-1", "here")),
        ("web-1.shop", ("web-1", "shop")),
        ("deploy/web", ("deploy/web", "here")),
        ("deployment.apps/web.shop", ("deployment.apps/web", "shop")),
        ("deployment.apps/web", ("deployment.apps/web", "here")),
    ],
)
def test_names_of_proxies(name: str, meant: tuple[str, str]) -> None:
    assert split_name(name, "here") == meant


def test_roots_in_common() -> None:
    dump = ConfigDump.parse(Path(DUMP).read_bytes())
    assert len(rootca.roots(dump)) == 1
    with pytest.raises(DumpError, match="no secret ROOTCA"):
        rootca.roots(ConfigDump({"SecretsConfigDump": {"dynamic_active_secrets": [{"name": "default"}]}}))
    empty = {"name": "ROOTCA", "secret": {"validation_context": {"trusted_ca": {"inline_string": "nothing"}}}}
    with pytest.raises(DumpError, match="holds no certificate"):
        rootca.roots(ConfigDump({"SecretsConfigDump": {"dynamic_active_secrets": [empty]}}))
    assert rootca.comparison("a.x", "b.y", common=False).startswith("Both [a.x] and [b.y] have the non identical")
