"""The commands for users without kubectl. Where a word is kubectl's, it does what kubectl does."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

import click

from pilotfish.home import Home

if TYPE_CHECKING:
    from pilotfish.cli.get import Output

pass_home = click.make_pass_decorator(Home)

namespace_option = click.option("--namespace", "-n", metavar="NAME", help="[default: the kubeconfig's, or default]")
selector_option = click.option("--selector", "-l", "labels", default="", metavar="SEL", help="Labels, e.g. app=web.")
everywhere_option = click.option("--all-namespaces", "-A", "everywhere", is_flag=True, help="In all namespaces.")
files_option = click.option(
    "--filename", "-f", "files", multiple=True, metavar="FILE", help="A file, a folder, or - for standard input."
)
recursive_option = click.option("--recursive", "-R", is_flag=True, help="Read folders within folders too.")


class _Duration(click.ParamType[float]):
    """A length of time such as 5s, 2m or 1h30m, in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        from pilotfish.api.durations import parse_duration

        try:
            return float(parse_duration(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


DURATION: Final = _Duration()


@click.command()
@files_option
@recursive_option
@namespace_option
@pass_home
def apply(home: Home, files: tuple[str, ...], recursive: bool, namespace: str | None) -> None:
    """Make objects what their manifests say."""
    from pilotfish.cli import apply as room

    if not files:
        raise click.UsageError("say which manifests: -f FILE, -f FOLDER or -f - for standard input.")
    sys.exit(room.apply(home, files, namespace, recursive=recursive))


@click.command()
@click.argument("what", nargs=-1, metavar="KIND [NAME]… | KIND/NAME…")
@namespace_option
@everywhere_option
@selector_option
@click.option("--output", "-o", type=click.Choice(["wide", "yaml", "json", "name"]), help="[default: a table]")
@click.option("--watch", "-w", is_flag=True, help="Go on with what changes, until Ctrl-C.")
@pass_home
def get(home: Home, /, what: tuple[str, ...], watch: bool, output: Output | None, **options: Any) -> None:
    """Show objects."""
    from pilotfish.cli import get as room
    from pilotfish.cli.watch import watch as follow

    asked = room.query(what, output=output or "", **options)
    if watch:
        follow(home, asked)
    else:
        sys.exit(room.get(home, asked))


@click.command()
@click.argument("what", nargs=-1, metavar="KIND [NAME]… | KIND/NAME…")
@namespace_option
@everywhere_option
@selector_option
@pass_home
def describe(home: Home, /, what: tuple[str, ...], **options: Any) -> None:
    """Show objects in full, and what happened to them."""
    from pilotfish.cli import describe as room
    from pilotfish.cli.get import query

    sys.exit(room.describe(home, query(what, **options)))


@click.command()
@click.argument("pod", default="", metavar="POD | KIND/NAME")
@click.option("--container", "-c", default="", help="[default: the pod's default container]")
@click.option("--follow", "-f", is_flag=True, help="Go on with what is written, until Ctrl-C.")
@click.option("--tail", type=click.IntRange(-1), metavar="LINES", help="The last lines. [default: all; with -l, 10]")
@click.option("--since", type=DURATION, help="Not older than this, e.g. 5s, 2m or 3h.")
@click.option("--previous", "-p", is_flag=True, help="Of the container's life before this one.")
@click.option("--timestamps", is_flag=True, help="Say when each line was written.")
@selector_option
@namespace_option
@pass_home
def logs(home: Home, /, pod: str, labels: str, namespace: str | None, **options: Any) -> None:
    """Show what a container wrote."""
    from pilotfish.cli import logs as room

    sys.exit(room.logs(home, pod, labels, namespace, room.What(**options)))


@click.command("exec")
@click.argument("pod", metavar="POD | KIND/NAME")
@click.argument("words", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND…")
@click.option("--stdin", "-i", is_flag=True, help="Pass standard input on.")
@click.option("--tty", "-t", is_flag=True, help="In a terminal of its own.")
@click.option("--container", "-c", default="", help="[default: the pod's default container]")
@namespace_option
@pass_home
def execute(home: Home, /, pod: str, namespace: str | None, **options: Any) -> None:
    """Run a command in a container.

    Write `--` before the command. Its exit status becomes that of `pilotfish exec`.
    """
    from pilotfish.cli import exec as room

    sys.exit(room.execute(home, pod, namespace, room.Command(**options)))


@click.command()
@click.argument("what", nargs=-1, metavar="KIND NAME… | KIND/NAME…")
@files_option
@recursive_option
@namespace_option
@selector_option
@click.option("--all", "everything", is_flag=True, help="All of these kinds in the namespace.")
@click.option("--ignore-not-found", is_flag=True, help="What is gone already is no error.")
@click.option("--wait/--no-wait", default=True, help="Return when the objects are gone. [default: --wait]")
@click.option("--grace-period", type=click.IntRange(0), metavar="SECONDS", help="[default: the object's own]")
@pass_home
def delete(
    home: Home,
    /,
    what: tuple[str, ...],
    files: tuple[str, ...],
    recursive: bool,
    namespace: str | None,
    labels: str,
    everything: bool,
    **options: Any,
) -> None:
    """Delete objects, by name or by their manifests."""
    from pilotfish.cli import delete as room
    from pilotfish.cli.get import query

    how = room.How(**options)
    if not files:
        asked = query(what, namespace=namespace, labels=labels)
        sys.exit(room.delete(home, asked, how, everything=everything))
    if what or labels or everything:
        raise click.UsageError("-f says which objects: leave kinds, names, -l and --all away.")
    sys.exit(room.delete_manifests(home, files, namespace, how, recursive=recursive))


COMMANDS: Final = (apply, get, describe, logs, execute, delete)
