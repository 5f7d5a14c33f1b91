"""`pilotfish install` and `uninstall`: the mesh's configuration from an IstioOperator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO, Any

import click
import yaml

from pilotfish.api.errors import ApiError
from pilotfish.api.kinds import ISTIO_OPERATOR
from pilotfish.api.meta import Document
from pilotfish.cli.connect import with_client
from pilotfish.controllers import install as room
from pilotfish.home import Home
from pilotfish.mesh.installation import Installation, installation, with_settings

DEFAULT_OPERATOR: Document = {"apiVersion": ISTIO_OPERATOR.api_version, "kind": ISTIO_OPERATOR.kind, "spec": {}}


def install(home: Home, file: IO[str] | None, settings: Sequence[str], *, yes: bool) -> None:
    """Install what the file asks for, after asking unless `yes`. Raises click.ClickException naming faulty fields."""
    plan = _plan(_read(file) if file else DEFAULT_OPERATOR, settings)
    for warning in plan.warnings:
        click.echo(f"Warning: {warning}", err=True)
    if not yes:
        click.confirm(
            f"This configures the mesh with profile {plan.state['spec']['profile']!r}. Proceed?",
            default=True,
            abort=True,
        )
    for applied in with_client(home, lambda client: room.install(client, plan.objects, plan.components)):
        click.echo(f"  {applied}")
    for component in plan.components:
        click.echo(f"✔ {component} installed")
    click.echo("✔ Installation complete")


def uninstall(home: Home, *, yes: bool) -> None:
    """Take back the installation; pods keep the sidecars that they have."""
    if not yes:
        click.confirm("This removes the mesh's configuration. Proceed?", default=False, abort=True)
    for applied in with_client(home, room.uninstall):
        click.echo(f"  {applied}")


def _read(file: IO[str]) -> Any:
    try:
        documents = [d for d in yaml.safe_load_all(file) if d is not None]
    except yaml.YAMLError as error:
        raise click.ClickException(f"{file.name}: {error}") from None
    if len(documents) != 1:
        raise click.ClickException(f"{file.name}: expected one IstioOperator document, found {len(documents)}")
    return documents[0]


def _plan(operator: Any, settings: Sequence[str]) -> Installation:
    try:
        return installation(with_settings(operator, settings) if settings else operator)
    except ApiError as error:
        raise click.ClickException(error.message) from None
