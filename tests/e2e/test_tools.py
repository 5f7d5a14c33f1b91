"""proxy-status, proxy-config and analyze against a real mesh."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

pytestmark = pytest.mark.root


def columns(text: str, start: str) -> list[str]:
    """The words of the line that begins with a text."""
    [line] = [line for line in text.splitlines() if line.startswith(start)]
    return line.split()


def test_every_proxy_is_listed_and_synced(hello: Any, tools: Any) -> None:
    for app in ("mesha", "meshb"):
        name = f"{hello.pod_name(app)}.default"
        words = columns(hello.pilotfish("proxy-status"), name)
        assert words[:4] == [name, "Kubernetes", "istiod", "1.10.4"]
        assert "CDS,LDS" in words[5]

    def synced() -> bool:
        words = columns(hello.pilotfish("ps", "-v", "1"), f"{hello.pod_name('mesha')}.default")
        return words.count("SYNCED") >= 3 and "STALE" not in words

    tools.eventually(synced, "mesha's proxy has what there is for it")
    assert hello.pilotfish("ps", "-n", "nowhere").splitlines()[1:] == []


def test_what_envoy_has_is_what_the_control_plane_has_for_it(hello: Any, tools: Any) -> None:
    hello.curl(hello.demo_url())

    def matches() -> bool:
        lines = hello.pilotfish("proxy-status", "deploy/mesha.default").splitlines()
        return lines[:2] == ["Clusters Match", "Listeners Match"] and lines[2].startswith("Routes Match (RDS last")

    tools.eventually(matches, "clusters, listeners and routes match")


def test_a_difference_is_shown(hello: Any, tmp_path: Any) -> None:
    pod = hello.pod_name("mesha")
    dump = tmp_path / "dump.json"
    changed = hello.pilotfish("pc", "all", pod, "-o", "json").replace('"virtualInbound"', '"virtualOther"')
    dump.write_text(changed)
    text = hello.pilotfish("proxy-status", pod, "-f", str(dump))
    assert text.splitlines()[:2] == ["Clusters Match", "Listeners Don't Match"]
    added = [line for line in text.splitlines() if line.startswith("+") and '"name": "virtualOther"' in line]
    assert added


def test_the_outbound_cluster_of_the_walkthrough_and_all_that_belongs_to_it(hello: Any) -> None:
    hello.curl(hello.demo_url())
    pod = hello.pod_name("mesha")
    words = columns(hello.pilotfish("proxy-config", "clusters", f"{pod}.default", "--port", "50000"), "AppMesh")
    assert words == ["AppMeshClient.mesh", "50000", "-", "outbound", "EDS"]
    endpoint = f"{hello.pod_ip('meshb')}:50000"
    words = columns(hello.pilotfish("pc", "ep", "deployment/mesha", "--port", "50000"), endpoint)
    assert words == [endpoint, "HEALTHY", "OK", "outbound|50000||AppMeshClient.mesh"]
    routes = hello.pilotfish("pc", "r", pod, "--name", "50000")
    assert columns(routes, "50000")[:2] == ["50000", "AppMeshClient.mesh:50000"]
    inbound = hello.pilotfish("pc", "l", pod, "--port", "15006")
    assert "Addr: *:7171" in inbound and "Cluster: inbound|7171||" in inbound
    assert columns(hello.pilotfish("pc", "s", pod), "default")[2:5] == ["Chain", "ACTIVE", "true"]
    [listener] = json.loads(hello.pilotfish("pc", "l", pod, "--port", "15001", "-o", "json"))
    assert listener["name"] == "virtualOutbound"


def test_the_node_gateway_is_a_proxy_like_any_other(hello: Any) -> None:
    name = f"node-gateway-{hello.settings()['nodeName']}.kube-system"
    assert columns(hello.pilotfish("ps"), name)[1] == "Kubernetes"
    node_port = str(hello.get("service", "mesha")["spec"]["ports"][0]["nodePort"])
    assert node_port in hello.pilotfish("pc", "listeners", name)
    assert hello.pilotfish("ps", name).splitlines()[:2] == ["Clusters Match", "Listeners Match"]


def test_loggers_are_changed_and_put_back(hello: Any) -> None:
    pod = hello.pod_name("meshb")

    def level(*words: str) -> str:
        return columns(hello.pilotfish("pc", "log", pod, *words), "  http:")[1]

    before = level()
    assert level("--level", "http:error,admin:off") == "error"
    assert level("--level", "trace") == "trace"
    assert level("--reset") == before
    assert "unrecognized logger name: nothing" in hello.pilotfish(
        "pc", "log", pod, "--level", "nothing:debug", check=False
    )


def test_the_debug_pages_are_found_where_kubernetes_lets_a_service_be_asked(hello: Any) -> None:
    page = "/api/v1/namespaces/istio-system/services/istiod:15014/proxy/debug"
    services = json.loads(hello.kubectl("get", "--raw", f"{page}/registryz"))
    assert {"AppMeshClient.mesh", "mesha.default.svc.cluster.local"} <= {one["hostname"] for one in services}
    proxies = json.loads(hello.kubectl("get", "--raw", f"{page}/syncz"))
    assert f"{hello.pod_name('mesha')}.default" in {one["proxy"] for one in proxies}


def test_what_cannot_be_found_is_told(hello: Any) -> None:
    assert 'pods "nobody" not found' in hello.pilotfish("pc", "c", "nobody", check=False)
    assert "proxy other.default is not connected" in hello.pilotfish("ps", "other", "-f", "/dev/null", check=False)


WRONG = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: wrong, namespace: default}
spec: {hosts: [mesha], http: [{route: [{destination: {host: mesha, subset: v9, port: {number: 7171}}}]}]}
"""


def test_what_is_wrong_in_the_mesh_and_what_a_file_would_change(hello: Any, tmp_path: Any) -> None:
    # The walkthrough's Service names its port "web", which is no protocol.
    text = hello.pilotfish("analyze")
    assert [line.split("]")[0] for line in text.splitlines()] == ["Info [IST0118"]
    file = tmp_path / "wrong.yaml"
    file.write_text(WRONG)
    done = hello.run(sys.executable, "-m", "pilotfish", "analyze", str(file), check=False)
    assert done.returncode == 79
    assert f"Error [IST0101] (VirtualService default/wrong {file}:5)" in done.stdout
    assert "mesha+v9" in done.stdout
    hello.apply(WRONG)
    try:
        assert "Error [IST0101] (VirtualService default/wrong) " in hello.pilotfish("analyze", check=False)
        assert "IST0101" not in hello.pilotfish("analyze", "-S", "IST0101=VirtualService wrong.default")
    finally:
        hello.kubectl("delete", "virtualservice", "wrong")
    assert 'namespace "nowhere" not found' in hello.pilotfish("analyze", "-n", "nowhere", check=False)


RULES = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: mesha, namespace: default}
spec: {host: mesha, subsets: [{name: all, labels: {app: mesha}}, {name: none, labels: {version: v9}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: mesha, namespace: default}
spec: {hosts: [mesha], http: [{route: [{destination: {host: mesha, subset: all}, weight: 100}]}]}
"""


def test_what_concerns_a_pod_and_a_service(hello: Any) -> None:
    hello.apply(RULES)
    try:
        pod = hello.pod_name("mesha")
        of_service = hello.pilotfish("x", "describe", "service", "mesha").splitlines()
        assert of_service[:7] == [
            "Service: mesha",
            "   Port: web 7171/auto-detect targets pod port 7171",
            'DestinationRule: mesha for "mesha"',
            "   Matching subsets: all",
            "      (Non-matching subsets none)",
            "   No Traffic Policy",
            "VirtualService: mesha",
        ]
        assert of_service[7] == '   Route to host "mesha" subset "all" with weight 100%'
        of_pod = hello.pilotfish("x", "describe", "pod", f"{pod}.default").splitlines()
        assert of_pod[0] == f"Pod: {pod}"
        assert of_pod[of_pod.index("Service: mesha") :][:8] == of_service[:8]
    finally:
        hello.kubectl("delete", "virtualservice,destinationrule", "mesha")
    assert 'pods "nobody" not found' in hello.pilotfish("x", "des", "po", "nobody", check=False)


WAITED = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: waited}
spec:
  hosts: [waited.test]
  resolution: STATIC
  ports: [{number: 81, name: http, protocol: HTTP}]
  endpoints: [{address: 10.9.9.9}]
"""


def test_waiting_until_an_object_is_in_force(hello: Any) -> None:
    hello.apply(WAITED)
    try:
        said = hello.pilotfish("x", "wait", "serviceentry", "waited.default", "-v").splitlines()
        present, proxies = said[-1].removeprefix("Resource ServiceEntry/default/waited present on ").split(" out of ")
        assert proxies == f"{present} proxies" and int(present) >= 3
        mesha = f"{hello.pod_name('mesha')}.default"
        assert " 1 out of 1 " in hello.pilotfish("x", "wait", "se", "waited", "--proxy", mesha)
        late = hello.pilotfish("x", "wait", "se", "waited", "--generation=99", "--timeout=200ms", check=False)
        assert "timeout expired before resource ServiceEntry/default/waited" in late
        assert "the control plane does not have it so" in late
        gone = hello.pilotfish("x", "wait", "se", "waited", "--for=delete", "--timeout=200ms", check=False)
        assert "timeout expired" in gone
    finally:
        hello.kubectl("delete", "serviceentry", "waited")
    assert "present on" in hello.pilotfish("x", "wait", "se", "waited", "--for=delete")
    missing = hello.pilotfish("x", "wait", "se", "waited", check=False)
    assert "--for=delete waits for what is gone" in missing


def test_two_proxies_trust_a_root_in_common(hello: Any) -> None:
    said = hello.pilotfish("pc", "rootca-compare", "deploy/mesha", "deploy/meshb")
    names = [f"[{hello.pod_name(app)}.default]" for app in ("mesha", "meshb")]
    assert said.startswith(f"Both {names[0]} and {names[1]} have the identical ROOTCA")
