"""A real mesh for end-to-end tests: started once a test process, in a home of its own, and removed whatever happens."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLE = REPOSITORY / "examples/hello-mesh"
PILOTFISH = [sys.executable, "-m", "pilotfish"]
DEADLINE = 60.0


class Mesh:
    """One mesh and the commands that a user has for it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.env = {**os.environ, "PILOTFISH_HOME": str(home), "KUBECONFIG": str(home / "kubeconfig")}

    def run(self, *argv: str, stdin: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command with this mesh's environment; both output streams are in `stdout`."""
        done = subprocess.run(
            argv,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self.env,
            cwd=EXAMPLE,
            text=True,
            timeout=DEADLINE * 2,
            check=False,
        )
        assert not check or done.returncode == 0, f"{' '.join(argv)} ended with {done.returncode}:\n{done.stdout}"
        return done

    def pilotfish(self, *argv: str, check: bool = True) -> str:
        return self.run(*PILOTFISH, *argv, check=check).stdout

    def kubectl(self, *argv: str, stdin: str | None = None, check: bool = True) -> str:
        return self.run("kubectl", *argv, stdin=stdin, check=check).stdout

    def require_kubectl(self, minor: int, what: str) -> None:
        """Skip the test where kubectl is older than 1.<minor>."""
        found = int(json.loads(self.kubectl("version", "--client", "-o", "json"))["clientVersion"]["minor"])
        if found < minor:
            pytest.skip(f"kubectl 1.{found} does not {what}")

    def apply(self, manifest: str, check: bool = True) -> str:
        return self.kubectl("apply", "-f", "-", stdin=manifest, check=check)

    def get(self, *argv: str) -> Any:
        """The decoded JSON of `kubectl get …`."""
        return json.loads(self.kubectl("get", *argv, "-o", "json"))

    def curl(self, *argv: str, check: bool = True) -> str:
        return self.run("curl", "-sS", "--max-time", "20", *argv, check=check).stdout

    def pod(self, app: str) -> dict[str, Any]:
        """The newest living pod with label app=<app>."""
        pods = [p for p in self.get("pods", "-l", f"app={app}")["items"] if "deletionTimestamp" not in p["metadata"]]
        found: dict[str, Any] = max(pods, key=lambda p: p["metadata"]["creationTimestamp"])
        return found

    def pod_name(self, app: str) -> str:
        return str(self.pod(app)["metadata"]["name"])

    def pod_ip(self, app: str) -> str:
        return str(self.pod(app)["status"]["podIP"])

    def settings(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads((self.home / "settings.json").read_text())
        return loaded

    def pid(self, role: str) -> int:
        """The process that holds a role: supervise, serve or node."""
        return int((self.home / f"run/{role}.pid").read_text() or 0)

    def map_meshb(self) -> str:
        """Apply the ServiceEntry with meshb's present address; what kubectl said."""
        manifest = (EXAMPLE / "meshb-service-entry.yaml").read_text()
        return self.apply(manifest.replace("MESHB_POD_IP", self.pod_ip("meshb")))

    def demo_url(self) -> str:
        port = self.get("service", "mesha")["spec"]["ports"][0]["nodePort"]
        return f"http://127.0.0.1:{port}/demo"


def eventually(probe: Callable[[], Any], what: str, deadline: float = DEADLINE) -> Any:
    """The first truthy result of a probe; fails, naming what was waited for, when there is none in time."""
    end = time.monotonic() + deadline
    while not (result := probe()):
        if time.monotonic() > end:
            pytest.fail(f"not within {deadline:.0f} s: {what}; last: {result!r}")
        time.sleep(0.02)
    return result


def require_tools() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root for network namespaces")
    for tool in ("kubectl", "curl", "nft"):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is not installed")


def start_mesh(home: Path) -> Mesh:
    mesh = Mesh(home)
    mesh.pilotfish("up", "--detach")
    mesh.pilotfish("install", "-y", "-f", "istio-config.yaml")
    for app in ("mesha", "meshb"):
        image = f"x.x.x.x/x/{app}:latest"
        mesh.pilotfish("image", "add", image, "--workdir", str(EXAMPLE), "--", sys.executable, f"{app}.py")
    return mesh


def leftovers(home: Path, home_id: str) -> list[str]:
    """What a mesh has left on this machine: links, namespaces, tables, processes and files."""

    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=False).stdout
    found = [f"link {path.name}" for path in Path("/sys/class/net").glob(f"pf{home_id}*")]
    found += [f"namespace {path.name}" for path in Path("/run/netns").glob(f"pf-{home_id}*")]
    found += [line for line in tables.splitlines() if home_id in line]
    found += [line for line in map(_command_line, Path("/proc").glob("[0-9]*")) if str(home) in line]
    return found + [str(path) for path in home.glob("**/*")]


def _command_line(process: Path) -> str:
    try:
        return (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


@pytest.fixture(scope="session")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """A mesh with the walkthrough's configuration and images, shared by the tests of one process."""
    require_tools()
    home = tmp_path_factory.mktemp("mesh")
    try:
        yield start_mesh(home)
    finally:
        Mesh(home).pilotfish("down")


@pytest.fixture(scope="module")
def hello(mesh: Mesh) -> Iterator[Mesh]:
    """The mesh with mesha and meshb deployed and mapped: `/demo` answers 200."""
    mesh.kubectl("apply", "-f", "meshb.yaml", "-f", "mesha.yaml")
    try:
        for app in ("mesha", "meshb"):
            mesh.kubectl("rollout", "status", f"deployment/{app}", "--timeout=60s")
        mesh.map_meshb()
        url = mesh.demo_url()
        eventually(lambda: "HTTP/1.1 200" in mesh.curl("-i", url, check=False), "the first HTTP 200 of /demo")
        yield mesh
    finally:
        remove_hello(mesh)


def remove_hello(mesh: Mesh) -> None:
    manifests = ["-f", "mesha.yaml", "-f", "meshb.yaml"]
    mesh.kubectl("delete", *manifests, "--ignore-not-found", "--wait=false")
    mesh.kubectl("delete", "serviceentry", "meshb", "--ignore-not-found")
    eventually(lambda: not mesh.get("pods")["items"], "the pods of mesha and meshb are gone")


@pytest.fixture(scope="session")
def tools() -> Any:
    """The helpers of this file, for test modules (which cannot import a conftest)."""

    class Tools:
        pass

    for helper in (eventually, leftovers, start_mesh, require_tools, remove_hello, Mesh):
        setattr(Tools, helper.__name__, staticmethod(helper))
    Tools.EXAMPLE = EXAMPLE  # type: ignore[attr-defined]
    return Tools


ACCESS_LINE = re.compile(
    r"^\[(?P<start>\S+)\] \"(?P<method>\S+) (?P<path>\S+) (?P<protocol>\S+)\" (?P<code>\d+) (?P<flags>\S+) "
    r"(?P<details>\S+) (?P<termination>\S+) \"(?P<transport>[^\"]*)\" (?P<received>\d+) (?P<sent>\d+) "
    r"(?P<duration>\d+) (?P<upstream_time>\S+) \"(?P<forwarded>[^\"]*)\" \"(?P<agent>[^\"]*)\" \"(?P<id>[^\"]*)\" "
    r"\"(?P<authority>[^\"]*)\" \"(?P<upstream>[^\"]*)\" (?P<cluster>\S+) (?P<upstream_local>\S+) "
    r"(?P<local>\S+) (?P<remote>\S+) (?P<sni>\S+) (?P<route>\S+)$"
)


@pytest.fixture(scope="session")
def access_lines() -> Callable[[str], list[dict[str, str]]]:
    """Every access-log line of a log, by field; lines of another form are not in the result."""
    return lambda text: [found.groupdict() for line in text.splitlines() if (found := ACCESS_LINE.match(line))]
