"""How commands reach the API: the kubeconfig of $KUBECONFIG, else of the home's mesh; errors for the terminal."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

import click

from pilotfish.api.errors import ApiError
from pilotfish.client.http import HTTPClient
from pilotfish.client.kubeconfig import Kubeconfig, KubeconfigError, default_path, read_kubeconfig
from pilotfish.home import Home

R = TypeVar("R")


def kubeconfig(home: Home) -> Kubeconfig:
    """Raises click.ClickException where there is none, saying what to do."""
    path = default_path() if os.environ.get("KUBECONFIG") else home.kubeconfig
    if not path.exists():
        raise click.ClickException(f"there is no kubeconfig at {path}: start a mesh with `pilotfish up --detach`")
    try:
        return read_kubeconfig(path)
    except KubeconfigError as error:
        raise click.ClickException(str(error)) from None


def with_client(
    home: Home, use: Callable[[HTTPClient], Awaitable[R]], *, on_warning: Callable[[str], None] | None = None
) -> R:
    """Run with a client of the API. An ApiError ends the command with its message and exit status 1, Ctrl-C with 130.

    `on_warning` is told what the server warns of.
    """

    async def run() -> R:
        client = HTTPClient(kubeconfig(home), on_warning=on_warning)
        try:
            return await use(client)
        finally:
            await client.close()

    try:
        return asyncio.run(run())
    except ApiError as error:
        raise click.ClickException(f"({error.reason}): {error.message}") from None
    except KeyboardInterrupt:  # the ordinary end of `--watch` and `--follow`, as shells count it
        sys.exit(128 + signal.SIGINT)
