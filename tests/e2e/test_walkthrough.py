"""Every row of the walkthrough's table (what a user types, what is seen), in order, through kubectl."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

pytestmark = pytest.mark.root

GRPC_PATH = "/meshgrpc.Mesher/SayHello"


@pytest.fixture(scope="module")
def seen(mesh: Any, tools: Any) -> Any:
    """The walkthrough, run once: what each step printed, by step."""
    out: dict[str, Any] = {}
    try:
        out["describe"] = mesh.kubectl("describe", "IstioOperator", "installed-state", "-n", "istio-system")
        out["apply provider"] = mesh.kubectl("apply", "-f", "meshb.yaml")
        out["provider pods"] = tools.eventually(
            lambda: re.search(r"^meshb-.* 2/2 .*$", mesh.kubectl("get", "pods"), re.MULTILINE), "meshb 2/2"
        )[0]
        meshb = mesh.pod_name("meshb")
        tools.eventually(lambda: "8181" in mesh.kubectl("logs", meshb), "meshb's HTTP server started")
        out["provider log"] = mesh.kubectl("logs", meshb, "-n", "default")
        out["apply consumer"] = mesh.kubectl("apply", "-f", "mesha.yaml")
        out["services"] = mesh.kubectl("get", "service")
        tools.eventually(lambda: re.search(r"mesha-\S+ +2/2 ", mesh.kubectl("get", "pods")), "mesha 2/2")
        out["pods"], out["wide"] = mesh.kubectl("get", "pods"), mesh.kubectl("get", "pods", "-o", "wide")
        url, mesha = mesh.demo_url(), mesh.pod_name("mesha")
        out["mesha ip"], out["meshb ip"] = mesh.pod_ip("mesha"), mesh.pod_ip("meshb")
        tools.eventually(lambda: "7171" in mesh.kubectl("logs", mesha), "mesha's HTTP server started")
        out["unmapped"] = mesh.curl("-i", url)
        out["unmapped log"] = mesh.kubectl("logs", mesha)
        out["apply entry"] = mesh.map_meshb()
        out["mapped"] = tools.eventually(
            lambda: (text := mesh.curl("-i", url)) and "HTTP/1.1 200" in text and text, "the first HTTP 200"
        )
        proxy = ("-l", "app=meshb", "-c", "istio-proxy", "--tail=-1")
        # The two proxies are configured independently: a call may come before meshb's knows its own port by name.
        tools.eventually(
            lambda: mesh.curl(url) and "inbound|50000||" in mesh.kubectl("logs", *proxy),
            "meshb's proxy knows port 50000",
        )
        out["vip"] = mesh.get("serviceentry", "meshb")["status"]["addresses"]
        out["provider log after"] = mesh.kubectl("logs", meshb)
        out["consumer proxy"] = tools.eventually(
            lambda: (text := mesh.kubectl("logs", "-l", "app=mesha", "-c", "istio-proxy", "--tail=-1"))
            and '/demo HTTP/1.1" 200' in text and GRPC_PATH in text and text,
            "mesha's proxy logged both requests",
        )  # fmt: skip
        out["provider proxy"] = tools.eventually(
            lambda: (text := mesh.kubectl("logs", "-l", "app=meshb", "-c", "istio-proxy", "--tail=-1"))
            and GRPC_PATH in text and text,
            "meshb's proxy logged the call",
        )  # fmt: skip
        # kubectl before 1.21 does not know a pod's default container and would take the first, which is the proxy.
        client = json.loads(mesh.kubectl("version", "--client", "-o", "json"))["clientVersion"]
        container = ("-c", "mesha") if int(client["minor"]) < 21 else ()
        curl = ("curl", "-sS", "-v", "--max-time", "20", "AppMeshClient.mesh")
        out["exec"] = mesh.kubectl("exec", mesha, *container, "--", *curl)
        yield out
    finally:
        tools.remove_hello(mesh)


def test_the_installed_state_shows_what_was_installed(seen: Any) -> None:
    text = seen["describe"]
    assert re.search(r"Access Log File:\s+/dev/stdout", text)
    assert re.search(r"Hold Application Until Proxy Starts:\s+true", text)
    assert re.search(r"ISTIO_META_DNS_CAPTURE:\s+true", text)
    assert re.search(r"ISTIO_META_DNS_AUTO_ALLOCATE:\s+true", text)
    assert re.search(r"Level:\s+default:debug", text)
    assert re.search(r"Hub:\s+istio\n", text)
    assert re.search(r"Tag:\s+1\.10\.4", text)


def test_the_provider_is_created_and_runs(seen: Any) -> None:
    assert seen["apply provider"] == "deployment.apps/meshb created\n"
    assert re.match(
        r"^meshb-[bcdf-hj-np-tv-z2456789]{6,10}-[bcdf-hj-np-tv-z2456789]{5} +2/2 +Running +0 +\d+s$",
        seen["provider pods"],
    )


def test_the_provider_says_that_it_started(seen: Any) -> None:
    lines = seen["provider log"].splitlines()
    assert "Server started." in lines
    assert any("8181" in line and "running on" in line for line in lines)


def test_the_consumer_is_created_with_a_node_port(seen: Any) -> None:
    assert seen["apply consumer"] == "deployment.apps/mesha created\nservice/mesha created\n"
    header, *rows = seen["services"].splitlines()
    assert header.split() == ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"]
    row = next(line for line in rows if line.startswith("mesha "))
    assert re.match(r"^mesha +LoadBalancer +10(\.\d+){3} +<pending> +7171:3\d{4}/TCP +\d+s$", row)


def test_pods_are_listed_wide_with_addresses(seen: Any) -> None:
    header, *rows = seen["wide"].splitlines()
    assert re.split(r"\s{2,}", header) == [
        "NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE", "NOMINATED NODE", "READINESS GATES",
    ]  # fmt: skip
    assert any(row.startswith("meshb-") and f" {seen['meshb ip']} " in row for row in rows)
    assert {row.split()[1] for row in rows} == {"2/2"}


def test_the_unmapped_host_fails_with_500(seen: Any) -> None:
    assert seen["unmapped"].startswith("HTTP/1.1 500 ")
    failures = [line for line in seen["unmapped log"].splitlines() if "UNAVAILABLE" in line]
    assert failures
    assert "AppMeshClient.mesh" in failures[-1]
    assert "Domain name not found" in failures[-1], "the answer must be NXDOMAIN, not a time-out or a server failure"


def test_the_mapped_host_answers_without_a_restart(seen: Any) -> None:
    assert seen["apply entry"] == "serviceentry.networking.istio.io/meshb created\n"
    head, _, body = seen["mapped"].partition("\n\n")
    assert head.startswith("HTTP/1.1 200 ")
    assert body == "I'm from server mesh demo!"


def test_the_provider_received_the_message(seen: Any) -> None:
    assert "receiver client message: mesh demo!" in seen["provider log after"].splitlines()


def _only(lines: list[dict[str, str]], path: str, code: str) -> dict[str, str]:
    found = [line for line in lines if line["path"] == path and line["code"] == code]
    assert found, lines
    return found[-1]


def test_the_proxies_say_that_they_connected(seen: Any) -> None:
    line = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z\tinfo\txdsproxy\tconnected to upstream XDS server: \S+:15012$"
    for proxy in ("consumer proxy", "provider proxy"):
        assert re.search(line, seen[proxy], re.MULTILINE)


def test_the_consumers_proxy_logs_the_grpc_call_field_by_field(seen: Any, access_lines: Any) -> None:
    line = _only(access_lines(seen["consumer proxy"]), GRPC_PATH, "200")
    vip = next(a["value"] for a in seen["vip"] if "." in a["value"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["start"])
    assert (line["method"], line["protocol"], line["flags"]) == ("POST", "HTTP/2", "-")
    assert (line["details"], line["termination"], line["transport"]) == ("via_upstream", "-", "-")
    assert (line["received"], line["sent"]) == ("17", "33")
    assert line["upstream_time"].isdigit()
    assert line["forwarded"] == "-"
    assert line["agent"].startswith("grpc-python")
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", line["id"])
    assert line["authority"] == "AppMeshClient.mesh:50000"
    assert line["upstream"] == f"{seen['meshb ip']}:50000"
    assert line["cluster"] == "outbound|50000||AppMeshClient.mesh"
    assert re.fullmatch(rf"{re.escape(seen['mesha ip'])}:\d+", line["upstream_local"])
    assert vip.startswith("240.240.")
    assert line["local"] == f"{vip}:50000"
    assert re.fullmatch(rf"{re.escape(seen['mesha ip'])}:\d+", line["remote"])
    assert (line["sni"], line["route"]) == ("-", "default")


def test_the_consumers_proxy_logs_the_http_request_field_by_field(seen: Any, access_lines: Any) -> None:
    line = _only(access_lines(seen["consumer proxy"]), "/demo", "200")
    assert (line["method"], line["protocol"], line["flags"]) == ("GET", "HTTP/1.1", "-")
    assert (line["details"], line["termination"], line["transport"]) == ("via_upstream", "-", "-")
    assert (line["received"], line["sent"]) == ("0", str(len("I'm from server mesh demo!")))
    assert line["agent"].startswith("curl/")
    assert re.fullmatch(r"127\.0\.0\.1:3\d{4}", line["authority"])
    assert line["upstream"] == f"{seen['mesha ip']}:7171"
    assert line["cluster"] == "inbound|7171||"
    assert re.fullmatch(r"127\.0\.0\.6:\d+", line["upstream_local"])
    assert line["local"] == f"{seen['mesha ip']}:7171"
    assert re.fullmatch(r"[\d.]+:\d+", line["remote"])
    assert (line["sni"], line["route"]) == ("-", "default")


def test_the_providers_proxy_logs_the_same_request(seen: Any, access_lines: Any) -> None:
    lines = [found for found in access_lines(seen["provider proxy"]) if found["cluster"] == "inbound|50000||"]
    calls = {found["id"]: found for found in access_lines(seen["consumer proxy"]) if found["path"] == GRPC_PATH}
    line = next(found for found in lines if found["id"] in calls)
    outbound = calls[line["id"]]
    assert (line["path"], line["code"]) == (GRPC_PATH, "200")
    assert (line["method"], line["protocol"], line["flags"]) == ("POST", "HTTP/2", "-")
    assert (line["details"], line["termination"], line["transport"]) == ("via_upstream", "-", "-")
    assert (line["received"], line["sent"]) == ("17", "33")
    assert line["authority"] == "AppMeshClient.mesh:50000"
    assert line["upstream"] == f"{seen['meshb ip']}:50000"
    assert line["cluster"] == "inbound|50000||"
    assert re.fullmatch(r"127\.0\.0\.6:\d+", line["upstream_local"])
    assert line["local"] == f"{seen['meshb ip']}:50000"
    assert line["remote"] == outbound["upstream_local"]
    assert (line["sni"], line["route"]) == ("-", "default")


def test_inside_the_pod_the_name_resolves_and_port_80_is_a_503(seen: Any) -> None:
    vip = next(a["value"] for a in seen["vip"] if "." in a["value"])
    text = seen["exec"]
    assert vip in text
    assert re.search(rf"Connected to AppMeshClient\.mesh \({re.escape(vip)}\) port 80", text)
    assert "< HTTP/1.1 503 Service Unavailable" in text
    assert "< server: envoy" in text
