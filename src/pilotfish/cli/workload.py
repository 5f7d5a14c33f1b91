"""`pilotfish workload`: workloads that are no pods (Istio: `istioctl x workload`, and the agent on a machine)."""

from __future__ import annotations

import os
import sys

import click

from pilotfish.cli.connect import with_client
from pilotfish.client.http import HTTPClient
from pilotfish.home import Home
from pilotfish.node.join import JoinError, Wanted, join


def run(home: Home, wanted: Wanted) -> None:
    """Join, and end with the command's exit status."""
    if os.geteuid() != 0:
        raise click.ClickException("a workload's network is made by root: run this as root, as `pilotfish up` was")
    if not home.settings_file.exists():
        raise click.ClickException(f"there is no mesh in {home.path}: start one with `pilotfish up --detach`")

    async def joined(client: HTTPClient) -> int:
        try:
            return await join(home, client, wanted, lambda line: click.echo(f"pilotfish: {line}", err=True))
        except JoinError as error:
            raise click.ClickException(str(error)) from None

    sys.exit(with_client(home, joined))
