"""The command line of `experimental`, or `x` for short."""

from __future__ import annotations

import click

from pilotfish.cli.goflags import AliasedGroup
from pilotfish.cli.objectcommands import namespace_option, pass_home
from pilotfish.home import Home


@click.group("experimental", cls=AliasedGroup, aliases={"describe": ("des",)})
def experimental() -> None:
    """Commands that istioctl has under this name."""


@experimental.group("describe", cls=AliasedGroup, aliases={"pod": ("po",), "service": ("svc",)})
def describe() -> None:
    """Say what of the mesh's configuration concerns a pod or a service."""


@describe.command("pod")
@click.argument("name", metavar="NAME[.NAMESPACE]")
@click.option("--ignoreUnmeshed", "ignore_unmeshed", is_flag=True, help="No warnings for pods without a sidecar.")
@namespace_option
@pass_home
def pod(home: Home, /, name: str, namespace: str | None, ignore_unmeshed: bool) -> None:
    """A pod, its Services, and the rules for them."""
    from pilotfish.cli.meshdescribe import run

    run.describe_pod(home, name, namespace, ignore_unmeshed=ignore_unmeshed)


@describe.command("service")
@click.argument("name", metavar="NAME[.NAMESPACE]")
@namespace_option
@pass_home
def service(home: Home, /, name: str, namespace: str | None) -> None:
    """A service, and the rules for it."""
    from pilotfish.cli.meshdescribe import run

    run.describe_service(home, name, namespace)
