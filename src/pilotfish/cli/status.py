"""`pilotfish status`: what of a home's mesh runs, with which pids and how much memory."""

from __future__ import annotations

import asyncio
from typing import Any

import click
import msgspec

from pilotfish.api.errors import ApiError
from pilotfish.api.kinds import NODE as NODE_KIND
from pilotfish.api.kinds import POD
from pilotfish.api.pods import Pod
from pilotfish.cli.process import DNS, NODE, SERVE, SUPERVISOR, resident_kib, running
from pilotfish.client.http import HTTPClient
from pilotfish.client.kubeconfig import read_kubeconfig
from pilotfish.home import Home


def status(home: Home, *, as_json: bool) -> int:
    """Print the state of a home's mesh; returns the exit status: 0 when all runs and the API answers, else 1."""
    report = _report(home)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())
    else:
        _print(report)
    return 0 if report["api"]["reachable"] and all(p["pid"] for p in report["processes"]) else 1


def _report(home: Home) -> dict[str, Any]:
    processes = []
    for role in (SUPERVISOR, SERVE, NODE, DNS):
        pid = running(home, role)
        processes.append({"role": role, "pid": pid, "residentKiB": resident_kib(pid) if pid else 0})
    report: dict[str, Any] = {"home": str(home.path), "id": home.id, "processes": processes}
    report["api"] = (
        asyncio.run(_ask_api(home)) if home.kubeconfig.exists() else {"reachable": False, "error": "no mesh"}
    )
    return report


async def _ask_api(home: Home) -> dict[str, Any]:
    client = HTTPClient(read_kubeconfig(home.kubeconfig))
    try:
        nodes, pods = await client.list(NODE_KIND), await client.list(POD)
    except ApiError as error:
        return {"reachable": False, "error": error.message}
    finally:
        await client.close()
    ready = [n.name for n in nodes.items if any(c.type == "Ready" and c.status == "True" for c in n.status.conditions)]
    return {
        "reachable": True,
        "url": home.settings().api_url,
        "kubeconfig": str(home.kubeconfig),
        "nodes": {"total": len(nodes.items), "ready": len(ready)},
        "pods": {
            "total": len(pods.items),
            "ready": sum(p.ready for p in pods.items),
            "withSidecar": sum(_has_sidecar(p) for p in pods.items),
        },
    }


def _has_sidecar(pod: Pod) -> bool:
    return any(c.name == "istio-proxy" for c in pod.spec.containers)


def _print(report: dict[str, Any]) -> None:
    click.echo(f"home   {report['home']}")
    for process in report["processes"]:
        state = (
            f"process {process['pid']}, {process['residentKiB'] / 1024:.0f} MiB" if process["pid"] else "not running"
        )
        click.echo(f"{process['role']:<10} {state}")
    api = report["api"]
    if not api["reachable"]:
        click.echo(f"api        not reachable: {api['error']}")
        return
    click.echo(f"api        {api['url']}, kubeconfig {api['kubeconfig']}")
    click.echo(f"nodes      {api['nodes']['ready']}/{api['nodes']['total']} ready")
    pods = api["pods"]
    click.echo(f"pods       {pods['ready']}/{pods['total']} ready, {pods['withSidecar']} with a sidecar")
