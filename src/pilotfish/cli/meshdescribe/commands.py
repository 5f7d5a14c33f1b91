"""The command line of `experimental`, or `x` for short."""

from __future__ import annotations

from typing import Any

import click

from pilotfish.cli.goflags import AliasedGroup
from pilotfish.cli.objectcommands import DURATION, namespace_option, pass_home
from pilotfish.home import Home


@click.group("experimental", cls=AliasedGroup, aliases={"describe": ("des",)})
def experimental() -> None:
    """Commands that istioctl has under this name."""


@experimental.command("wait")
@click.argument("kind", metavar="TYPE")
@click.argument("name", metavar="NAME[.NAMESPACE]")
@click.option(
    "--for",
    "what",
    type=click.Choice(["distribution", "delete"]),
    default="distribution",
    show_default=True,
    help="Until it is in force as it is now, or until what it made is gone.",
)
@click.option("--resource-version", default="", metavar="VERSION", help="This version of it or a later one.")
@click.option("--generation", type=int, default=0, metavar="N", help="This generation of it or a later one.")
@click.option("--proxy", default="", metavar="POD.NAMESPACE", help="In force at this proxy. [default: at all]")
@click.option("--threshold", type=click.FloatRange(0, 1), default=1.0, show_default=True, help="At this share of them.")
@click.option("--timeout", type=DURATION, default="30s", show_default=True, help="How long to wait at most.")
@click.option("--verbose", "-v", is_flag=True, help="Tell how far it has come.")
@namespace_option
@pass_home
def wait(home: Home, /, kind: str, name: str, what: str, namespace: str | None, **options: Any) -> None:
    """Wait until an object is in force at all connected proxies that it concerns.

    The version is the one that the object has now, unless one is named. The exit status is 1 when the time is up.
    """
    from pilotfish.cli import wait as room

    version = options.pop("resource_version")
    room.wait(home, room.Wanted(kind, name, namespace, version, deleted=what == "delete", **options))


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
