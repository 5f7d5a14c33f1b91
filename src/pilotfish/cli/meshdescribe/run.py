"""What `x describe pod` and `x describe service` do."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import click

from pilotfish.analysis.snapshot import Snapshot
from pilotfish.api.kinds import POD, SERVICE
from pilotfish.cli.analyze.sources import from_api
from pilotfish.cli.connect import with_client
from pilotfish.cli.meshdescribe import text
from pilotfish.cli.proxyconfig.admin import split_name
from pilotfish.client.http import HTTPClient
from pilotfish.home import Home


def describe_pod(home: Home, name: str, namespace: str | None, *, ignore_unmeshed: bool) -> None:
    """Print what concerns a pod. Raises click.ClickException where there is no such pod."""

    def lines(snapshot: Snapshot, short: str, where: str, usual: str) -> Iterator[str]:
        found = snapshot.find(POD, where, short)
        if found is None:
            raise click.ClickException(f'pods "{short}" not found')
        return text.pod(snapshot, found, usual, ignore_unmeshed=ignore_unmeshed)

    _describe(home, name, namespace, lines)


def describe_service(home: Home, name: str, namespace: str | None) -> None:
    """Print what concerns a service. Raises click.ClickException where there is no such service."""

    def lines(snapshot: Snapshot, short: str, where: str, usual: str) -> Iterator[str]:
        found = snapshot.find(SERVICE, where, short)
        if found is None:
            raise click.ClickException(f'services "{short}" not found')
        return text.service(snapshot, found, usual)

    _describe(home, name, namespace, lines)


def _describe(
    home: Home, name: str, namespace: str | None, lines: Callable[[Snapshot, str, str, str], Iterator[str]]
) -> None:
    async def run(client: HTTPClient) -> None:
        usual = namespace or client.config.namespace
        short, where = split_name(name, usual)
        loaded = await from_api(client)
        for line in lines(Snapshot(loaded.objects), short, where, usual):
            click.echo(line)

    with_client(home, run)
