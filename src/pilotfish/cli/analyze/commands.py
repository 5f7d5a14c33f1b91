"""The command line of `analyze`, option by option that of istioctl."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from pilotfish.cli.goflags import GoCommand
from pilotfish.cli.objectcommands import namespace_option, pass_home
from pilotfish.home import Home

if TYPE_CHECKING:
    from pilotfish.cli.analyze.run import Output

_LEVEL = click.Choice(["Info", "Warning", "Error"], case_sensitive=False)


@click.command("analyze", cls=GoCommand)
@click.argument("files", nargs=-1, metavar="[FILE | FOLDER | -]…")
@namespace_option
@click.option("--all-namespaces", "-A", "everywhere", is_flag=True, help="Findings of all namespaces.")
@click.option("--use-kube/--no-use-kube", "-k", default=True, help="Take what the API has too. [default: true]")
@click.option("--recursive", "-R", is_flag=True, help="(Folders are always read with those within.)")
@click.option("--output", "-o", type=click.Choice(["log", "json", "yaml"]), default="log")
@click.option("--failure-threshold", type=_LEVEL, default="Error", help="From which level on it is a failure.")
@click.option("--output-threshold", type=_LEVEL, default="Info", help="From which level on findings are shown.")
@click.option("--list-analyzers", "-L", "listing", is_flag=True, help="List the analyzers and do nothing else.")
@click.option("--suppress", "-S", multiple=True, metavar="CODE=NAME", help='E.g. "IST0103=Pod *.testing".')
@click.option("--analyzer", "analyzers", multiple=True, metavar="NAME", help="Run this one (and no others).")
@click.option("--meshConfigFile", "mesh_config_file", default="", metavar="FILE", help="Take this for the mesh's.")
@click.option("--ignore-unknown", is_flag=True, help="Documents that cannot be read are no failure.")
@click.option("--verbose", "-v", is_flag=True, help="Say which analyzers were run.")
@click.option("--color/--no-color", "colour", default=None, help="[default: in a terminal]")
@pass_home
def analyze(
    home: Home,
    /,
    files: tuple[str, ...],
    namespace: str | None,
    everywhere: bool,
    use_kube: bool,
    recursive: bool,
    output: Output,
    failure_threshold: str,
    output_threshold: str,
    listing: bool,
    suppress: tuple[str, ...],
    analyzers: tuple[str, ...],
    mesh_config_file: str,
    ignore_unknown: bool,
    verbose: bool,
    colour: bool | None,
) -> None:
    """Find what is wrong with Istio's configuration.

    Without files it is the configuration that the API has; with files, what it would be if they were applied.
    """
    from pilotfish.analysis.messages import Level
    from pilotfish.cli.analyze import run as room

    if listing:
        click.echo(room.list_analyzers())
        return
    wanted = room.Wanted(
        files,
        namespace,
        everywhere,
        use_kube,
        output,
        Level[failure_threshold.upper()],
        Level[output_threshold.upper()],
        suppress,
        analyzers,
        mesh_config_file,
        ignore_unknown,
        verbose,
        room.wants_colour(colour),
    )
    sys.exit(room.run(home, wanted))
