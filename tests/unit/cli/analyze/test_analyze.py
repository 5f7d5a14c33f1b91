"""`analyze` on files: what is printed, at which line, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from pilotfish.cli.main import main

SHOP = """\
apiVersion: v1
kind: Service
metadata:
  name: web
spec:
  selector: {app: web}
  ports:
    - name: http
      port: 80
---
# routes
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: web
spec:
  hosts: [web]
  http:
    - route:
        - destination:
            host: nobody
"""
FINDING = 'Error [IST0101] (VirtualService default/web {}:21) The host that this refers to does not exist: "nobody"'


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    file = tmp_path / "shop.yaml"
    file.write_text(SHOP)
    return file


def analyze(*words: Any, stdin: str | None = None) -> Result:
    return CliRunner().invoke(main, ["analyze", "--use-kube=false", *map(str, words)], input=stdin)


def test_a_finding_is_told_with_its_line(shop: Path) -> None:
    done = analyze(shop)
    assert done.stdout.splitlines() == [FINDING.format(shop)]
    assert "Analyzers found issues when analyzing namespace: default" in done.stderr
    assert done.exit_code == 79


def test_folders_and_standard_input(shop: Path) -> None:
    assert analyze(shop.parent).stdout.splitlines() == [FINDING.format(shop)]
    assert analyze("-", stdin=SHOP).stdout.splitlines() == [FINDING.format("standard input")]


def test_nothing_found(shop: Path) -> None:
    shop.write_text(SHOP.replace("nobody", "web"))
    done = analyze(shop)
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == f"✔ No validation issues found when analyzing {shop}.\n"
    assert analyze(shop, "-o", "json").stdout == "[]\n"


def test_json_and_yaml(shop: Path) -> None:
    done = analyze(shop, "-o", "json")
    [finding] = json.loads(done.stdout)
    assert finding == {
        "code": "IST0101",
        "documentationUrl": "https://istio.io/latest/docs/reference/config/analysis/ist0101/",
        "level": "Error",
        "message": 'The host that this refers to does not exist: "nobody"',
        "origin": "VirtualService default/web",
        "reference": f"{shop}:21",
    }
    assert done.exit_code == 0
    assert yaml.safe_load(analyze(shop, "-o", "yaml").stdout) == [finding]


@pytest.mark.parametrize(
    ("words", "code", "shown"),
    [
        (["--failure-threshold", "Warning"], 79, 1),
        (["--failure-threshold", "error"], 79, 1),
        (["--output-threshold", "Error"], 79, 1),
        (["-n", "other"], 79, 1),
        (["-S", "IST0101=VirtualService web.default"], 0, 0),
        (["-S", "IST0101=VirtualService default/*"], 0, 0),
        (["-S", "IST0102=VirtualService *"], 79, 1),
        (["--analyzer", "gateway.CertificateAnalyzer"], 0, 0),
        (["--analyzer", "virtualservice.DestinationHostAnalyzer"], 79, 1),
    ],
)
def test_what_counts_and_what_is_shown(shop: Path, words: list[str], code: int, shown: int) -> None:
    done = analyze(shop, *words)
    assert (done.exit_code, len(done.stdout.splitlines())) == (code, shown)


def test_levels_below_the_thresholds(shop: Path) -> None:
    shop.write_text(SHOP.replace("nobody", "web").replace("name: http", "name: foo"))
    assert (analyze(shop).exit_code, len(analyze(shop).stdout.splitlines())) == (0, 1)
    assert analyze(shop, "--failure-threshold", "Info").exit_code == 79
    assert analyze(shop, "--output-threshold", "Warning").stdout == ""


def test_other_namespaces_are_left_out_unless_all_are_asked_for(shop: Path) -> None:
    shop.write_text(SHOP.replace("name: web\n", "name: web\n  namespace: shop\n"))
    assert analyze(shop).exit_code == 0
    assert analyze(shop, "-A").exit_code == analyze(shop, "-n", "shop").exit_code == 79


def test_an_annotation_suppresses(shop: Path) -> None:
    annotation = 'metadata:\n  annotations: {galley.istio.io/analyze-suppress: "IST0107,IST0101"}'
    before, _, after = SHOP.rpartition("metadata:")
    shop.write_text(f"{before}{annotation}{after}")
    assert analyze(shop).exit_code == 0


def test_fields_that_a_kind_does_not_have_and_values_of_the_wrong_type(shop: Path) -> None:
    shop.write_text(SHOP.replace("nobody", "web").replace("  hosts: [web]", "  hosts: [web]\n  hots: [web]"))
    [line] = analyze(shop).stdout.splitlines()
    assert line.startswith(
        f"Error [IST0106] (VirtualService default/web {shop}:18) Not valid: spec.hots: unknown field"
    )
    shop.write_text(SHOP.replace("nobody", "web").replace("hosts: [web]", "hosts: web"))
    [line] = analyze(shop).stdout.splitlines()
    assert line.startswith(f"Error [IST0106] (VirtualService default/web {shop}:17) Not valid: spec.hosts: ")


def test_documents_that_cannot_be_read(shop: Path) -> None:
    shop.write_text(SHOP.replace("nobody", "web") + "---\na: [\n")
    done = analyze(shop)
    assert done.exit_code == 65
    assert f"Error(s) adding files: {shop}:" in done.stderr
    assert "(but 1 document could not be parsed)" in done.stderr
    assert analyze(shop, "--ignore-unknown").exit_code == 0


def test_kinds_that_we_do_not_have_are_passed_over(shop: Path) -> None:
    policy = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: x}\n"
    shop.write_text(f"{SHOP.replace('nobody', 'web')}---\n{policy}")
    assert analyze(shop).exit_code == 0


def test_the_ingress_gateway_is_taken_to_be_there(tmp_path: Path) -> None:
    gateway = tmp_path / "gateway.yaml"
    gateway.write_text(
        """\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: front}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: PORT, name: http, protocol: HTTP}, hosts: ["*"]}]
""".replace("PORT", "80")
    )
    assert analyze(gateway).exit_code == 0
    gateway.write_text(gateway.read_text().replace("number: 80", "number: 81"))
    assert "[IST0162]" in analyze(gateway).stdout


def test_a_mesh_configuration_of_a_file(tmp_path: Path) -> None:
    telemetry, mesh = tmp_path / "telemetry.yaml", tmp_path / "mesh"
    telemetry.write_text(
        "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {name: logs}\nspec: {accessLogging: [{}]}\n"
    )
    mesh.write_text("defaultProviders: {accessLogging: [envoy]}")
    assert "[IST0157]" in analyze(telemetry).stdout
    assert "[IST0157]" not in analyze(telemetry, "--meshConfigFile", mesh).stdout


def test_colours_are_for_terminals(shop: Path) -> None:
    assert "\033" not in analyze(shop).stdout
    assert analyze(shop, "--color").stdout.startswith("\033[1;31mError\033[0m [IST0101]")


def test_the_analyzers_are_listed() -> None:
    lines = analyze("-L").stdout.splitlines()
    assert lines[0] == "* annotations.K8sAnalyzer:"
    assert lines[1].startswith("    ")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["/nowhere.yaml"], "cannot read /nowhere.yaml"),
        (["-S", "IST0101"], "not of the form CODE=KIND"),
        (["--meshConfigFile", "/nowhere"], "cannot read /nowhere"),
    ],
)
def test_what_cannot_be_done_is_told(words: list[str], reason: str) -> None:
    done = analyze(*words)
    assert done.exit_code not in (0, 79)
    assert reason in done.stderr


def test_a_code_that_there_is_not_is_told(shop: Path) -> None:
    assert "no message code 'IST9999'" in analyze(shop, "-S", "IST9999=*").stderr
