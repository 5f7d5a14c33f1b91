"""The command line. Each command calls one thing in one room; rooms are imported when their command runs."""

from __future__ import annotations

import asyncio
import ipaddress
import sys
from pathlib import Path
from typing import IO, Any

import click

from pilotfish import __version__
from pilotfish.cli import objectcommands
from pilotfish.cli.analyze.commands import analyze
from pilotfish.cli.goflags import AliasedGroup
from pilotfish.cli.meshdescribe.commands import experimental
from pilotfish.cli.objectcommands import pass_home
from pilotfish.cli.proxyconfig.commands import proxy_config, proxy_status
from pilotfish.home import Home


@click.group(
    cls=AliasedGroup,
    aliases={"proxy-config": ("pc",), "proxy-status": ("ps",), "experimental": ("x", "exp")},
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, prog_name="pilotfish")
@click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    help="The mesh's folder. [default: $PILOTFISH_HOME, or ~/.local/state/pilotfish]",
)
@click.pass_context
def main(context: click.Context, home: Path | None) -> None:
    """A service mesh that speaks Istio's and Kubernetes' configuration languages and needs no cluster."""
    context.obj = Home(home.absolute()) if home else Home.default()


@main.command()
@click.option("--detach", "-d", is_flag=True, help="Return when the mesh is ready; it runs on in the background.")
@click.option("--api-port", type=click.IntRange(1, 65535), help="Port of the API. [default: 6443 or the next]")
@click.option("--xds-port", type=click.IntRange(1, 65535), help="Port of xDS. [default: 15012 or the next]")
@click.option("--pod-cidr", help="The pods' network. [default: one that collides with nothing here]")
@click.option("--service-cidr", help="The services' network. [default: one that collides with nothing here]")
@pass_home
def up(home: Home, /, detach: bool, **wanted: Any) -> None:
    """Start a mesh on this machine."""
    from pilotfish.cli import up as room

    room.up(home, room.Wanted(**wanted), detach=detach)


@main.command()
@click.option("--keep", is_flag=True, help="Keep the stored objects, keys and images for the next `up`.")
@pass_home
def down(home: Home, keep: bool) -> None:
    """Stop the mesh and remove everything that it made."""
    from pilotfish.cli import down as room

    room.down(home, keep=keep)


@main.command()
@click.option("--output", "-o", type=click.Choice(["text", "json"]), default="text")
@pass_home
def status(home: Home, output: str) -> None:
    """Say what runs."""
    from pilotfish.cli import status as room

    sys.exit(room.status(home, as_json=output == "json"))


@main.command()
@click.option("--filename", "-f", "file", type=click.File("r"), help="An IstioOperator, YAML; - is standard input.")
@click.option("--set", "-s", "settings", multiple=True, metavar="PATH=VALUE", help="A field of its spec.")
@click.option("--skip-confirmation", "-y", "yes", is_flag=True, help="Do not ask first.")
@pass_home
def install(home: Home, file: IO[str] | None, settings: tuple[str, ...], yes: bool) -> None:
    """Configure the mesh from an IstioOperator, as `istioctl install` does."""
    from pilotfish.cli import install as room

    room.install(home, file, settings, yes=yes)


@main.command()
@click.option("--skip-confirmation", "-y", "yes", is_flag=True, help="Do not ask first.")
@pass_home
def uninstall(home: Home, yes: bool) -> None:
    """Take back what `install` wrote."""
    from pilotfish.cli import install as room

    room.uninstall(home, yes=yes)


@main.group()
def image() -> None:
    """The local image store: which command an image name stands for."""


@image.command("add", context_settings={"ignore_unknown_options": True})
@click.argument("name")
@click.option("--workdir", type=click.Path(exists=True, file_okay=False), default="/", help="Where the command runs.")
@click.option("--env", "-e", "variables", multiple=True, metavar="K=V", help="A variable of its environment.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@pass_home
def image_add(home: Home, name: str, workdir: str, variables: tuple[str, ...], command: tuple[str, ...]) -> None:
    """Let NAME stand for COMMAND on this host (write `--` before the command)."""
    from pilotfish.cli import image as room

    room.add(home, name, command, workdir, variables)


@image.command("ls")
@pass_home
def image_list(home: Home) -> None:
    """List the images."""
    from pilotfish.cli import image as room

    room.show(home)


@image.command("rm")
@click.argument("name")
@pass_home
def image_remove(home: Home, name: str) -> None:
    """Forget an image."""
    from pilotfish.cli import image as room

    room.remove(home, name)


@main.group()
def workload() -> None:
    """Workloads that are no pods: processes of this host, as WorkloadGroups describe them."""


@workload.command("join", context_settings={"ignore_unknown_options": True})
@click.option("--group", "-g", required=True, metavar="[NAMESPACE/]NAME", help="The WorkloadGroup to join.")
@click.option("--namespace", "-n", default="default", help="Its namespace. [default: default]")
@click.option(
    "--address",
    default="127.0.0.1",
    help="Without a command: where the process listens, as this host reaches it. [default: 127.0.0.1]",
)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@pass_home
def workload_join(home: Home, group: str, namespace: str, address: str, command: tuple[str, ...]) -> None:
    """Have COMMAND, or a process that runs already, be a workload of the mesh until this ends.

    COMMAND (write `--` before it) runs in a network of its own, as in a pod with a sidecar: what it sends and gets goes
    through its proxy, and it knows the mesh's names. Its files, terminal and environment are the caller's.

    Without COMMAND only what the mesh sends to the workload goes through a proxy, which passes it on to the same port
    of --address. What the process itself sends stays as it is, and so does the host's other traffic.
    """
    from pilotfish.cli import workload as room
    from pilotfish.node.join import Wanted

    try:
        ipaddress.ip_address(address)
    except ValueError:
        raise click.BadParameter(f"{address!r} is no IP address", param_hint="--address") from None
    before, slash, after = group.partition("/")
    room.run(home, Wanted(before if slash else namespace, after if slash else before, command, address))


@main.command(hidden=True)
@pass_home
def supervise(home: Home) -> None:
    """Keep serve and node running (started by `up`)."""
    from pilotfish.cli import process
    from pilotfish.cli import supervise as room

    process.configure_logging()
    with process.hold(home, process.SUPERVISOR):
        asyncio.run(room.supervise(home))


@main.command(hidden=True)
@pass_home
def serve(home: Home) -> None:
    """The control plane: API server, controllers, mesh, xDS and CA in one process."""
    import uvloop

    from pilotfish.cli import process
    from pilotfish.cli import serve as room

    process.configure_logging()
    with process.hold(home, process.SERVE):
        try:
            uvloop.run(room.serve(home))
        except OSError as error:  # a port that somebody else took; the supervisor tries again
            raise click.ClickException(f"the control plane cannot be served: {error}") from error


@main.command(hidden=True)
@pass_home
def node(home: Home) -> None:
    """The node agent."""
    from pilotfish.cli import node as room
    from pilotfish.cli import process

    process.configure_logging()
    with process.hold(home, process.NODE):
        asyncio.run(room.node(home))


@main.command(hidden=True)
@pass_home
def dns(home: Home) -> None:
    """The DNS process (started by the node agent)."""
    from pilotfish.cli import dns as room
    from pilotfish.cli import process

    process.configure_logging()
    with process.hold(home, process.DNS):
        asyncio.run(room.dns(home))


for command in (*objectcommands.COMMANDS, analyze, experimental, proxy_config, proxy_status):
    main.add_command(command)
