"""The walkthrough from start to end: runs every step, shows the command and what came back, and checks it.

    python walkthrough.py            in a home of its own, and nothing is left at the end
    python walkthrough.py --keep     in $PILOTFISH_HOME, and the mesh stays up

Needs root (network namespaces), kubectl and curl. The exit status says whether every step held.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
PYTHON = sys.executable
PILOTFISH = str(Path(PYTHON).with_name("pilotfish"))
DEADLINE = 60.0
COLOUR = sys.stdout.isatty()


class Failed(Exception):
    """A step did not show what it must show."""


def paint(code: str, text: str) -> str:
    return f"\033[{code}m{text}\033[0m" if COLOUR else text


def heading(text: str) -> None:
    print(f"\n{paint('1;36', '== ' + text)}")


def check(holds: object, what: str) -> None:
    """Print what was checked; raise Failed when it does not hold."""
    print(paint("32", f"   ✔ {what}") if holds else paint("31", f"   ✘ {what}"))
    if not holds:
        raise Failed(what)


def run(command: str, *, show: bool = True, allow_failure: bool = False) -> str:
    """Run a command as a user would type it and return what it printed, both streams."""
    if show:
        print(paint("1", f"$ {command}"))
    words = [PILOTFISH if word == "pilotfish" else word for word in shlex.split(command)]
    done = subprocess.run(words, cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if show:
        print("\n".join(f"  {line}" for line in done.stdout.rstrip().splitlines()))
    if done.returncode and not allow_failure:
        raise Failed(f"`{command}` ended with {done.returncode}" + ("" if show else f":\n{done.stdout}"))
    return done.stdout


def until(command: str, satisfied: Callable[[str], object], what: str) -> str:
    """Repeat a command quietly until its output satisfies; then show it. Raises Failed after the deadline."""
    end = time.monotonic() + DEADLINE
    while not satisfied(output := run(command, show=False, allow_failure=True)):
        if time.monotonic() > end:
            print(output)
            raise Failed(f"{what}: not within {DEADLINE:.0f} s")
        time.sleep(0.05)
    print(paint("1", f"$ {command}"))
    print("\n".join(f"  {line}" for line in output.rstrip().splitlines()))
    check(True, what)
    return output


def pod_name(app: str) -> str:
    return run(f"kubectl get pods -l app={app} -o jsonpath={{.items[0].metadata.name}}", show=False)


def pod_ip(app: str) -> str:
    return run(f"kubectl get pods -l app={app} -o jsonpath={{.items[0].status.podIP}}", show=False)


def running(app: str) -> Callable[[str], object]:
    return lambda table: re.search(rf"^{app}-[a-z0-9]+-[a-z0-9]{{5}}\s+2/2\s+Running\s+0\s", table, re.MULTILINE)


def start() -> None:
    heading("start a mesh on this machine")
    run("pilotfish up --detach")
    for app in ("meshb", "mesha"):
        run(f"pilotfish image add x.x.x.x/x/{app}:latest --workdir {HERE} -- {PYTHON} {app}.py")


def configure() -> None:
    heading("configure the mesh")
    run("pilotfish install -y -f istio-config.yaml")
    shown = run("kubectl describe IstioOperator installed-state -n istio-system")
    for value in ("/dev/stdout", "holdApplicationUntilProxyStarts", "ISTIO_META_DNS_CAPTURE", "1.10.4"):
        spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", value)
        check(value.lower() in shown.lower() or spaced.lower() in shown.lower(), f"the installed state names {value}")


def deploy_provider() -> None:
    heading("deploy the provider")
    check("deployment.apps/meshb created" in run("kubectl apply -f meshb.yaml"), "the deployment is created")
    until("kubectl get pods", running("meshb"), "meshb runs, 2/2 containers")
    log = until(f"kubectl logs {pod_name('meshb')} -n default", lambda text: "8181" in text, "its HTTP server started")
    check("Server started." in log, "its gRPC server started")


def deploy_consumer() -> str:
    heading("deploy the consumer")
    output = run("kubectl apply -f mesha.yaml")
    check("deployment.apps/mesha created" in output and "service/mesha created" in output, "both are created")
    table = run("kubectl get service")
    found = re.search(r"^mesha\s+LoadBalancer\s+10\.\S+\s+\S+\s+7171:(3\d{4})/TCP", table, re.MULTILINE)
    check(found, "the service has a cluster IP and a node port")
    until("kubectl get pods", running("mesha"), "mesha runs, 2/2 containers")
    until(f"kubectl logs {pod_name('mesha')}", lambda text: "7171" in text, "its HTTP server started")
    return f"http://127.0.0.1:{found[1] if found else ''}/demo"


def call_unmapped(url: str) -> None:
    heading("call it: the host has no DNS name yet")
    check("HTTP/1.1 500" in run(f"curl -s -i {url}"), "the answer is HTTP 500")
    log = run(f"kubectl logs {pod_name('mesha')} -n default --tail 3")
    check("UNAVAILABLE" in log and "AppMeshClient.mesh" in log, "mesha's log says that the name did not resolve")


def map_host() -> None:
    heading("map the host to the provider with a ServiceEntry")
    run("kubectl get pods -o wide")
    manifest = (HERE / "meshb-service-entry.yaml").read_text().replace("MESHB_POD_IP", pod_ip("meshb"))
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(manifest)
        file.flush()
        output = run(f"kubectl apply -f {file.name}")
    check("serviceentry.networking.istio.io/meshb created" in output, "the entry is created")


def call_mapped(url: str) -> None:
    heading("call again: nothing was restarted")
    answer = until(f"curl -s -i {url}", lambda text: "HTTP/1.1 200" in text, "the answer is HTTP 200")
    check(answer.endswith("I'm from server mesh demo!"), "the body comes from the provider")


def read_logs(url: str) -> None:
    heading("the logs of both applications and both proxies")
    log = run(f"kubectl logs {pod_name('meshb')}")
    check("receiver client message: mesh demo!" in log, "the provider received the message")
    grpc_line = r'"POST /meshgrpc\.Mesher/SayHello HTTP/2" 200 - via_upstream - "-" 17 33 '
    consumer = until(
        "kubectl logs -l app=mesha -c istio-proxy --tail=-1",
        lambda text: re.search(grpc_line, text) and re.search(r'"GET /demo HTTP/1\.1" 200', text),
        "mesha's proxy logged the gRPC call out and the HTTP request in",
    )
    check("connected to upstream XDS server" in consumer, "it is connected to the control plane")
    check("outbound|50000||AppMeshClient.mesh" in consumer, "the call left through outbound|50000||AppMeshClient.mesh")
    check("inbound|7171||" in consumer, "the request came in through inbound|7171||")
    provider = until(
        "kubectl logs -l app=meshb -c istio-proxy --tail=-1",
        # The two proxies are configured independently: the first call may come before meshb's knows its port.
        lambda text: "inbound|50000||" in text or (run(f"curl -s {url}", show=False) and None),
        "meshb's proxy logged the gRPC call in",
    )
    check(re.search(rf"{grpc_line}.* inbound\|50000\|\| ", provider), "it came in through inbound|50000||")
    consumer = run("kubectl logs -l app=mesha -c istio-proxy --tail=-1", show=False)
    ids = [set(re.findall(rf'{grpc_line}.*"([0-9a-f-]{{36}})"', text)) for text in (consumer, provider)]
    check(ids[0] & ids[1], "with the same request id in both proxies")


def look_inside() -> None:
    heading("inside the consumer's pod")
    # kubectl before 1.21 does not know a pod's default container and would take the first, which is the proxy.
    output = run(f"kubectl exec {pod_name('mesha')} -c mesha -- curl -sS -v --max-time 20 AppMeshClient.mesh")
    check(re.search(r"240\.240\.\d+\.\d+", output), "the name resolves to its allocated address")
    check("HTTP/1.1 503" in output and "server: envoy" in output.lower(), "Envoy answers port 80 with HTTP 503")


def leftovers(home_id: str) -> list[str]:
    """What a mesh of this home would have left on the machine."""
    found = [f"link {path.name}" for path in Path("/sys/class/net").glob(f"pf{home_id}*")]
    found += [f"namespace {path.name}" for path in Path("/run/netns").glob(f"pf-{home_id}*")]
    found += [line for line in run("nft list tables", show=False).splitlines() if home_id in line]
    return found


def stop(home: Path) -> None:
    heading("stop: nothing is left")
    settings = run("pilotfish status -o json", show=False, allow_failure=True)
    home_id = (re.search(r'"id":\s*"([0-9a-f]+)"', settings) or [None, "no-such-id"])[1]
    run("pilotfish down")
    left = leftovers(str(home_id)) + [str(path) for path in home.glob("*")]
    check(not left, "no link, namespace, rule or file is left" + (": " + "; ".join(left) if left else ""))


def main() -> int:
    options = argparse.ArgumentParser(description="Run the hello-mesh walkthrough and check every step.")
    options.add_argument("--keep", action="store_true", help="leave the mesh up at the end")
    keep = options.parse_args().keep
    for tool in ("kubectl", "curl"):
        if not shutil.which(tool):
            package = {"kubectl": "kubernetes-client"}.get(tool, tool)
            print(f"walkthrough: {tool} is not installed: apt-get install {package}")
            return 1
    if not keep:
        os.environ["PILOTFISH_HOME"] = tempfile.mkdtemp(prefix="pilotfish-demo-")
    home = Path(os.environ.get("PILOTFISH_HOME") or Path.home() / ".local/state/pilotfish")
    os.environ["KUBECONFIG"] = str(home / "kubeconfig")
    print(f"export PILOTFISH_HOME={home} KUBECONFIG={home}/kubeconfig")
    began, failure = time.monotonic(), None
    try:
        start()
        configure()
        deploy_provider()
        url = deploy_consumer()
        call_unmapped(url)
        map_host()
        call_mapped(url)
        read_logs(url)
        look_inside()
    except (Failed, KeyboardInterrupt) as error:
        failure = str(error) or "interrupted"
    if keep:
        print(f"\nThe mesh is up. Go on with:\n  export KUBECONFIG={home}/kubeconfig\n  kubectl get pods")
        print("Stop it with:\n  pilotfish down")
    else:
        try:
            stop(home)
        except Failed as error:
            failure = failure or str(error)
        shutil.rmtree(home, ignore_errors=True)
    outcome = f"The walkthrough failed: {failure}" if failure else "The walkthrough held"
    print(f"\n{outcome} ({time.monotonic() - began:.1f} s).")
    return 1 if failure else 0


if __name__ == "__main__":
    sys.exit(main())
