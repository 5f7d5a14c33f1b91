"""The command lines of `proxy-config` and `proxy-status`, option by option those of istioctl."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import click

from pilotfish.cli.goflags import AliasedGroup, GoCommand
from pilotfish.cli.objectcommands import namespace_option, pass_home, selector_option
from pilotfish.home import Home

if TYPE_CHECKING:
    from pilotfish.cli.proxyconfig.show import Output, Source
    from pilotfish.cli.proxystatus import Output as StatusOutput

ADMIN_PORT: Final = 15000
"""Where Envoy's admin interface listens inside a pod."""

Command = Callable[..., Any]

file_option = click.option(
    "--file", "-f", default="", metavar="FILE", help="An Envoy's dump, JSON; - is standard input."
)
admin_option = click.option(
    "--proxy-admin-port", "admin_port", type=click.IntRange(1, 65535), default=ADMIN_PORT, help="Envoy's admin port."
)
port_option = click.option("--port", type=click.IntRange(0, 65535), default=0, help="With this port.")
verbose_option = click.option("--verbose/--no-verbose", default=True, help="Output more information. [default: true]")
fqdn_option = click.option("--fqdn", default="", help="With this in the service's name.")
direction_option = click.option("--direction", default="", help="inbound or outbound.")
subset_option = click.option("--subset", default="", help="With this in the subset's name.")
address_option = click.option("--address", default="", help="With this address.")
type_option = click.option("--type", default="", help="HTTP, TCP or HTTP+TCP.")
name_option = click.option("--name", default="", help="The route configuration of this name.")
cluster_option = click.option("--cluster", default="", help="Of this cluster.")
status_option = click.option("--status", default="", help="In this state of health, e.g. healthy.")


def output_option(default: str) -> Callable[[Command], Command]:
    return click.option("--output", "-o", type=click.Choice(["short", "json", "yaml"]), default=default)


def of_a_proxy(command: Command) -> Command:
    """The argument and the options that say whose configuration is meant, given to the command as one Source."""

    def with_source(home: Home, pod: str, file: str, namespace: str | None, admin_port: int, **options: Any) -> None:
        from pilotfish.cli.proxyconfig.show import Source

        command(home, Source(pod, file, namespace, admin_port), **options)

    with_source.__doc__ = command.__doc__
    decorated: Command = with_source
    for decorate in (
        pass_home,
        admin_option,
        namespace_option,
        file_option,
        click.argument("pod", default="", metavar="[KIND/]NAME[.NAMESPACE]"),
    ):
        decorated = decorate(decorated)
    return decorated


@click.group(
    "proxy-config",
    cls=AliasedGroup,
    aliases={
        "clusters": ("cluster", "c"),
        "listeners": ("listener", "l"),
        "routes": ("route", "r"),
        "endpoints": ("endpoint", "ep"),
        "secrets": ("secret", "s"),
        "bootstrap": ("b",),
        "log": ("o",),
        "all": ("a",),
        "ecds": ("ec",),
        "rootca-compare": ("rc",),
    },
)
def proxy_config() -> None:
    """Show what the Envoy of a pod has, and change what it logs."""


@proxy_config.command("clusters")
@fqdn_option
@direction_option
@subset_option
@port_option
@output_option("short")
@of_a_proxy
def clusters(home: Home, source: Source, output: Output, **filters: Any) -> None:
    """Upstream clusters: hosts, ports and subsets."""
    from pilotfish.cli.proxyconfig import show
    from pilotfish.cli.proxyconfig.clusters import ClusterFilter

    click.echo(show.show_clusters(home, source, ClusterFilter(**filters), output))


@proxy_config.command("listeners", cls=GoCommand)
@address_option
@type_option
@port_option
@verbose_option
@output_option("short")
@of_a_proxy
def listeners(home: Home, source: Source, output: Output, verbose: bool, **filters: Any) -> None:
    """Listeners: what matches, and where it goes."""
    from pilotfish.cli.proxyconfig import show
    from pilotfish.cli.proxyconfig.listeners import ListenerFilter

    click.echo(show.show_listeners(home, source, ListenerFilter(**filters), output, verbose=verbose))


@proxy_config.command("routes", cls=GoCommand)
@name_option
@verbose_option
@output_option("short")
@of_a_proxy
def routes(home: Home, source: Source, output: Output, verbose: bool, **filters: Any) -> None:
    """HTTP routes, by route configuration and virtual host."""
    from pilotfish.cli.proxyconfig import show
    from pilotfish.cli.proxyconfig.routes import RouteFilter

    click.echo(show.show_routes(home, source, RouteFilter(**filters), output, verbose=verbose))


@proxy_config.command("endpoints")
@address_option
@port_option
@cluster_option
@status_option
@output_option("short")
@of_a_proxy
def endpoints(home: Home, source: Source, output: Output, **filters: Any) -> None:
    """Endpoints, and what Envoy makes of their health.

    A file is Envoy's answer to /clusters?format=json.
    """
    from pilotfish.cli.proxyconfig import show
    from pilotfish.cli.proxyconfig.endpoints import EndpointFilter

    click.echo(show.show_endpoints(home, source, EndpointFilter(**filters), output))


@proxy_config.command("eds", hidden=True)
@address_option
@port_option
@cluster_option
@status_option
@output_option("short")
@of_a_proxy
def eds(home: Home, source: Source, output: Output, **filters: Any) -> None:
    """Endpoints as the control plane told them, with their locality."""
    from pilotfish.cli.proxyconfig import show
    from pilotfish.cli.proxyconfig.endpoints import EndpointFilter

    click.echo(show.show_assigned(home, source, EndpointFilter(**filters), output))


@proxy_config.command("secrets")
@output_option("short")
@of_a_proxy
def secrets(home: Home, source: Source, output: Output) -> None:
    """Certificates, and how long they are valid."""
    from pilotfish.cli.proxyconfig import show

    click.echo(show.show_secrets(home, source, output))


@proxy_config.command("rootca-compare")
@click.argument("one", metavar="[KIND/]NAME[.NAMESPACE]")
@click.argument("other", metavar="[KIND/]NAME[.NAMESPACE]")
@namespace_option
@admin_option
@pass_home
def rootca_compare(home: Home, /, one: str, other: str, namespace: str | None, admin_port: int) -> None:
    """Whether two proxies trust a root in common, without which they cannot speak to one another."""
    from pilotfish.cli.proxyconfig import show

    click.echo(show.compare_roots(home, (one, other), namespace, admin_port))


@proxy_config.command("bootstrap")
@output_option("json")
@of_a_proxy
def bootstrap(home: Home, source: Source, output: Output) -> None:
    """What Envoy was started with; with -o short the versions."""
    from pilotfish.cli.proxyconfig import show

    click.echo(show.show_bootstrap(home, source, output))


@proxy_config.command("ecds")
@output_option("short")
@of_a_proxy
def ecds(home: Home, source: Source, output: Output) -> None:
    """Filters that came by themselves (ECDS)."""
    from pilotfish.cli.proxyconfig import show

    click.echo(show.show_extensions(home, source, output))


@proxy_config.command("all", cls=GoCommand)
@fqdn_option
@direction_option
@subset_option
@port_option
@address_option
@type_option
@name_option
@verbose_option
@click.option("--with-headers", is_flag=True, help="With a title before each table.")
@output_option("short")
@of_a_proxy
def everything(
    home: Home,
    source: Source,
    output: Output,
    verbose: bool,
    with_headers: bool,
    fqdn: str,
    direction: str,
    subset: str,
    port: int,
    address: str,
    type: str,
    name: str,
) -> None:
    """All of it; as JSON or YAML the whole dump as Envoy writes it."""
    from pilotfish.cli.proxyconfig import show
    from pilotfish.cli.proxyconfig.clusters import ClusterFilter
    from pilotfish.cli.proxyconfig.endpoints import EndpointFilter
    from pilotfish.cli.proxyconfig.listeners import ListenerFilter
    from pilotfish.cli.proxyconfig.routes import RouteFilter

    wanted = show.Filters(
        ClusterFilter(fqdn, port, subset, direction),
        ListenerFilter(address, port, type),
        RouteFilter(name),
        EndpointFilter(address, port),
    )
    click.echo(show.show_all(home, source, wanted, output, verbose=verbose, with_headers=with_headers))


@proxy_config.command("log")
@click.argument("pod", default="", metavar="[KIND/]NAME[.NAMESPACE]")
@click.option("--level", "levels", default="", metavar="[LOGGER:]LEVEL,…", help="Change levels, e.g. http:debug,info.")
@click.option("--reset", "-r", is_flag=True, help="Put all levels back to those with which the proxy was started.")
@selector_option
@namespace_option
@admin_option
@pass_home
def log(home: Home, /, **options: Any) -> None:
    """What Envoy logs: all loggers and their levels.

    Levels are trace, debug, info, warning, error, critical and off; without a logger a level is for all of them.
    """
    from pilotfish.cli.proxyconfig import loggers

    loggers.log(home, loggers.Wanted(**options))


@click.command("proxy-status")
@click.argument("pod", default="", metavar="[[KIND/]NAME[.NAMESPACE]]")
@click.option("--file", "-f", default="", metavar="FILE", help="An Envoy's dump, JSON, to compare with.")
@click.option("--output", "-o", type=click.Choice(["table", "json", "yaml"]), default="table")
@click.option("--verbosity", "-v", type=click.IntRange(0), default=0, help="1: a column for each type.")
@namespace_option
@admin_option
@pass_home
def proxy_status(
    home: Home, /, pod: str, file: str, output: StatusOutput, verbosity: int, namespace: str | None, admin_port: int
) -> None:
    """Show which proxies are connected; with a pod, where its Envoy differs from the control plane."""
    from pilotfish.cli import proxydiff, proxystatus

    if pod:
        proxydiff.show_difference(home, pod, namespace, file, admin_port)
    else:
        proxystatus.proxy_status(home, namespace, output, verbose=verbosity > 0)
