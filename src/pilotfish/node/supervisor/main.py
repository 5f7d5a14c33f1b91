"""The start of a pod: from a folder with `sandbox.json` in it to a supervisor that listens on `supervisor.sock`.

`sandbox.json` holds hostname, netns (a path, or "" for the host's network), binds ([source, target, read only], sources
relative to the folder) and relay (null, or name, host, port and container).
"""

from __future__ import annotations

import json
import os
import socket
import sys

from pilotfish.node.supervisor import namespaces
from pilotfish.node.supervisor.server import Server

SOCKET = "supervisor.sock"
PID_FILE = "supervisor.pid"


def main(folder: str) -> None:
    """Make the pod's namespaces, leave its supervisor in them, and end when it listens. A failure exits with a text."""
    with open(os.path.join(folder, "sandbox.json")) as file:
        sandbox = json.load(file)
    try:
        if sandbox["netns"]:
            namespaces.enter_network(sandbox["netns"])
        namespaces.unshare_pod()
    except OSError as error:
        sys.exit(f"cannot make the pod's sandbox: {error}")
    ready, tell = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        os.close(ready)
        _supervise(folder, sandbox, tell)
        os._exit(0)
    os.close(tell)
    with open(os.path.join(folder, f"{PID_FILE}.new"), "w") as file:
        file.write(f"{pid}\n")
    os.rename(os.path.join(folder, f"{PID_FILE}.new"), os.path.join(folder, PID_FILE))
    with open(ready, "rb") as outcome:
        word = outcome.read().decode()
    if word != "ready":
        sys.exit(word or "the pod's supervisor died at its start")


def _supervise(folder: str, sandbox: dict[str, object], tell: int) -> None:
    try:
        server = _furnish(folder, sandbox)
    except OSError as error:
        os.write(tell, f"cannot furnish the pod's sandbox: {error}".encode())
        return
    os.write(tell, b"ready")
    os.close(tell)
    server.run()


def _furnish(folder: str, sandbox: dict[str, object]) -> Server:
    # A socket's path may have 107 bytes, and a home may be longer: bind from within the folder.
    os.chdir(folder)
    if os.path.lexists(SOCKET):
        os.unlink(SOCKET)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    listener.bind(SOCKET)
    os.umask(mask)
    listener.listen(64)
    binds = sandbox["binds"]
    assert isinstance(binds, list)
    namespaces.furnish(str(sandbox["hostname"]), [(source, target, read_only) for source, target, read_only in binds])
    with open("/proc/self/comm", "w") as name:
        name.write("pilotfish-pod")
    server = Server(".", listener)
    relay = sandbox["relay"]
    if isinstance(relay, dict):
        server.relay(relay["name"], (relay["host"], relay["port"]), relay["container"])
    return server
