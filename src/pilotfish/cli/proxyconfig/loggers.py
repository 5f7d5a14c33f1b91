"""What `proxy-config log` does: the loggers of proxies, shown, changed or put back."""

from __future__ import annotations

from dataclasses import dataclass

import click

from pilotfish.cli.connect import with_client
from pilotfish.cli.proxyconfig.admin import Admin, find_proxies
from pilotfish.cli.proxyconfig.loglevels import ALL, LevelError, parse_levels
from pilotfish.client.http import HTTPClient
from pilotfish.home import Home


@dataclass(frozen=True)
class Wanted:
    """Whose loggers, and which levels they are to have: `levels` as the user writes them, or those of their start."""

    pod: str = ""
    labels: str = ""
    namespace: str | None = None
    admin_port: int = 0
    levels: str = ""
    reset: bool = False


def log(home: Home, wanted: Wanted) -> None:
    """Print the levels of all proxies that are meant, after the change. Raises click.ClickException."""
    if bool(wanted.pod) == bool(wanted.labels):
        raise click.UsageError("say whose loggers: POD[.NAMESPACE], KIND/NAME[.NAMESPACE], or -l SELECTOR.")
    if wanted.reset and wanted.levels:
        raise click.UsageError("--level cannot be combined with --reset")

    async def run(client: HTTPClient) -> None:
        for admin in await find_proxies(client, wanted.pod, wanted.namespace, wanted.labels, wanted.admin_port):
            click.echo(f"{admin.full_name}:\n{await _changed(admin, wanted)}", nl=False)

    with_client(home, run)


async def _changed(admin: Admin, wanted: Wanted) -> str:
    """Envoy's list of loggers, after the change."""
    listing = (await admin.get("logging", method="POST")).decode()
    try:
        levels = (
            parse_levels(_initial_levels(admin) if wanted.reset else wanted.levels, listing) if _any(wanted) else {}
        )
    except LevelError as error:
        raise click.ClickException(f"{admin.full_name}: {error}") from None
    for logger, level in levels.items():
        listing = (await admin.get(f"logging?{logger}={level}", method="POST")).decode()
    return listing


def _any(wanted: Wanted) -> bool:
    return wanted.reset or bool(wanted.levels)


def _initial_levels(admin: Admin) -> str:
    """The levels with which a proxy was started (Istio: those of the injector's values)."""
    from pilotfish.node.proxy import parse_arguments, proxy_container

    container = proxy_container(admin.pod)
    arguments = parse_arguments(container.args if container is not None else ())
    return ",".join(filter(None, [f"{ALL}:{arguments.log_level}", arguments.component_log_level]))
