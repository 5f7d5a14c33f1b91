"""`pilotfish up`: a mesh on this machine, from nothing to ready."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import click
import msgspec

from pilotfish.api.errors import ApiError
from pilotfish.api.kinds import NODE as NODE_KIND
from pilotfish.api.kinds import POD
from pilotfish.cli import ports
from pilotfish.cli.down import down, remove
from pilotfish.cli.process import (
    DNS,
    NODE,
    SERVE,
    SUPERVISOR,
    changing,
    choosing,
    log_file,
    log_tail,
    running,
    spawn,
    wait_for_role,
)
from pilotfish.client.http import HTTPClient
from pilotfish.client.kubeconfig import Kubeconfig, read_kubeconfig, write_kubeconfig
from pilotfish.home import Home, Settings

API_PORT, XDS_PORT = 6443, 15012
READY_SECONDS = 60.0


@dataclass(frozen=True)
class Wanted:
    """What the user asked of `up`; None means: choose."""

    api_port: int | None = None
    xds_port: int | None = None
    pod_cidr: str | None = None
    service_cidr: str | None = None


class Stopped(click.ClickException):
    """Somebody else has stopped the mesh, and it is theirs to clean up."""


def up(home: Home, wanted: Wanted, *, detach: bool) -> None:
    """Start the mesh of a home and return when it is ready; without `detach`, stay until interrupted and stop it then.

    Raises click.ClickException with what is missing and the remedy, before anything was touched.
    """
    if _is_up(home, detach=detach):
        return
    _preflight()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # half a mesh is stopped as with Ctrl-C
    began = time.monotonic()
    with contextlib.ExitStack() as until_ready:
        with changing(home):
            if _is_up(home, detach=detach):  # another `up` was there first
                return
            first = not home.settings_file.exists()
            if first:
                until_ready.enter_context(choosing(lambda: click.echo("  another mesh is being started; after it …")))
            settings = _decide(home, wanted)
            try:
                _start(home, settings)
            except (click.ClickException, KeyboardInterrupt):
                if first:
                    remove(home, keep=False)
                raise
        try:
            asyncio.run(_await_ready(home, settings))
        except Stopped:
            raise
        except (click.ClickException, KeyboardInterrupt) as error:
            if first or isinstance(error, KeyboardInterrupt):
                down(home, keep=not first)
            raise
    _done(f"ready in {time.monotonic() - began:.1f} s")
    _ready(home)
    if not detach:
        _stay(home)


def _is_up(home: Home, *, detach: bool) -> bool:
    """Whether the mesh is up, which is said. Without `detach` that is an error: it is not ours to stop at the end."""
    pid = running(home, SUPERVISOR)
    if pid is None:
        return False
    if not detach:
        raise click.ClickException(
            f"this home's mesh is already up (supervisor: process {pid}). "
            f"Stop it with `pilotfish down`, or give another home with --home."
        )
    click.echo(f"The mesh is already up (supervisor: process {pid}).")
    _ready(home)
    return True


def _preflight() -> None:
    from pilotfish.node.preflight import preflight

    if found := preflight():
        raise click.ClickException("this machine lacks what a mesh needs:\n" + "\n".join(f"  - {p}" for p in found))


def _decide(home: Home, wanted: Wanted) -> Settings:
    """The mesh's settings: those it had, or new ones that collide with nothing on this machine."""
    from pilotfish.node.ipam import choose_networks

    if not home.settings_file.exists():
        pod_cidr, service_cidr = choose_networks(home.id)
        settings = Settings(
            node_name=socket.gethostname().lower(),
            api_port=_port(wanted.api_port, API_PORT, "the API"),
            xds_port=_port(wanted.xds_port, XDS_PORT, "xDS"),
            pod_cidr=wanted.pod_cidr or str(pod_cidr),
            service_cidr=wanted.service_cidr or str(service_cidr),
        )
        home.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        home.save_settings(settings)
        return settings
    settings = home.settings()
    alive = any(running(home, role) for role in (SERVE, NODE, DNS)) or (home.pods.is_dir() and any(home.pods.iterdir()))
    kept = {"pod_cidr", "service_cidr"} | ({"api_port", "xds_port"} if alive else set())
    for name, value in dataclasses.asdict(wanted).items():
        if name in kept and value not in (None, getattr(settings, name)):
            raise click.ClickException(
                f"this home's mesh has {name.replace('_', '-')} {getattr(settings, name)}, "
                f"which cannot change while it has {'pods' if alive else 'state'}: `pilotfish down` removes it."
            )
    if not alive:
        settings = msgspec.structs.replace(
            settings,
            api_port=_port(wanted.api_port, settings.api_port, "the API"),
            xds_port=_port(wanted.xds_port, settings.xds_port, "xDS"),
        )
        home.save_settings(settings)
    elif running(home, SERVE) is None:
        # Pods that outlived a crash know these ports.
        _require_free(settings.api_port, "the API")
        _require_free(settings.xds_port, "xDS")
    return settings


def _port(wanted: int | None, usual: int, purpose: str) -> int:
    """The port that the user wants, which must be free, or the first free one from the usual on."""
    if wanted is None:
        return _free(usual, purpose)
    _require_free(wanted, purpose)
    return wanted


def _require_free(port: int, purpose: str) -> None:
    if not ports.is_free(port):
        raise click.ClickException(
            f"port {port}, wanted for {purpose}, is taken by {ports.holder(port)}. "
            f"Stop that, or choose another with --api-port/--xds-port."
        )


def _free(start: int, purpose: str) -> int:
    port = ports.first_free(start)
    if port != start:
        click.echo(f"  port {start} is taken by {ports.holder(start)}; {purpose} takes {port}")
    return port


def _start(home: Home, settings: Settings) -> None:
    from pilotfish.pki.provision import provision

    files = provision(home, settings)
    for path, pair, context in (
        (home.kubeconfig, files.admin, "pilotfish"),
        (home.node_kubeconfig, files.node, "node"),
    ):
        identity = pair.load()
        config = Kubeconfig(
            server=settings.api_url,
            certificate_authority=files.ca.read_bytes(),
            client_certificate=identity.certificate,
            client_key=identity.key,
            context=context,
        )
        write_kubeconfig(config, path)
    spawn(home, SUPERVISOR)
    if wait_for_role(home, SUPERVISOR, READY_SECONDS) is None:
        raise _failure(home, SUPERVISOR, "the supervisor did not start")


async def _await_ready(home: Home, settings: Settings) -> None:
    """Show progress until the API answers, the node is Ready and its gateway runs."""
    client = HTTPClient(read_kubeconfig(home.kubeconfig))
    try:
        await _until(home, SERVE, "the API answers", lambda: _healthy(client))
        await _until(home, NODE, f"node {settings.node_name} is ready", lambda: _node_ready(client, settings.node_name))
        await _until(home, NODE, "the node gateway runs", lambda: _gateway_ready(client, settings.node_name))
        await _until(home, DNS, "DNS answers", lambda: _dns_ready(home))
    finally:
        await client.close()


async def _until(home: Home, role: str, what: str, holds: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    delay = 0.02
    while True:
        with contextlib.suppress(ApiError):
            if await holds():
                return _done(what)
        if running(home, SUPERVISOR) is None:
            raise Stopped("the mesh was stopped before it was ready, by `pilotfish down` or a signal to its supervisor")
        if time.monotonic() > deadline:
            raise _failure(home, role, f"not so within {READY_SECONDS:.0f} s: {what}")
        await asyncio.sleep(delay)
        delay = min(delay * 1.2, 0.25)


async def _healthy(client: HTTPClient) -> bool:
    await client.request("GET", "/readyz")
    return True


async def _node_ready(client: HTTPClient, name: str) -> bool:
    node = await client.get(NODE_KIND, name)
    return any(c.type == "Ready" and c.status == "True" for c in node.status.conditions)


async def _gateway_ready(client: HTTPClient, node: str) -> bool:
    pod = await client.get(POD, f"node-gateway-{node}", "kube-system")
    return pod.ready


async def _dns_ready(home: Home) -> bool:
    return running(home, DNS) is not None and home.dns_socket.exists()


def _failure(home: Home, role: str, what: str) -> click.ClickException:
    return click.ClickException(f"{what}. The end of {log_file(home, role)}:\n{log_tail(home, role)}")


def _done(what: str) -> None:
    click.echo(f"  ✔ {what}")


def _ready(home: Home) -> None:
    chosen = "" if home == Home.default() else f" --home {home.path}"
    click.echo(f"\n  export KUBECONFIG={home.kubeconfig}\n  kubectl get pods -A\n\nStop with: pilotfish{chosen} down")


def _stay(home: Home) -> None:
    """Wait for Ctrl-C or SIGTERM and stop the mesh; until then the supervisor is started again if it dies."""
    click.echo("Ctrl-C stops the mesh.")
    stops = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, stops)
    while signal.sigtimedwait(stops, 1.0) is None:
        if running(home, SUPERVISOR) is None:
            spawn(home, SUPERVISOR)
            wait_for_role(home, SUPERVISOR, READY_SECONDS)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, stops)
    click.echo("\nStopping …")
    down(home, keep=True)
