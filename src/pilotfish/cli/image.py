"""`pilotfish image`: the local image store."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import click

from pilotfish.home import Home
from pilotfish.node import images


def add(home: Home, name: str, command: Sequence[str], workdir: str, variables: Sequence[str]) -> None:
    """Put an image into the store; pods that waited for it start by themselves."""
    env = {}
    for variable in variables:
        key, equals, value = variable.partition("=")
        if not equals or not key:
            raise click.BadParameter(f"{variable!r} is not of the form NAME=VALUE", param_hint="--env")
        env[key] = value
    entry = images.Image(name=name, command=tuple(command), workdir=str(Path(workdir).absolute()), env=env)
    try:
        added = images.add(home.images, entry)
    except images.InvalidImageName as error:
        raise click.BadParameter(str(error), param_hint="NAME") from None
    click.echo(f"{added.name} runs `{shlex.join(added.command)}` in {added.workdir}")


def show(home: Home) -> None:
    """Print the store as a table."""
    entries = images.entries(home.images)
    width = max([len("IMAGE"), *(len(entry.name) for entry in entries)])
    click.echo(f"{'IMAGE':<{width}}   COMMAND")
    for entry in entries:
        click.echo(f"{entry.name:<{width}}   {shlex.join(entry.command)}")


def remove(home: Home, name: str) -> None:
    """Take an image out of the store; containers that run go on."""
    try:
        removed = images.remove(home.images, name)
    except images.InvalidImageName as error:
        raise click.BadParameter(str(error), param_hint="NAME") from None
    if not removed:
        raise click.ClickException(f"there is no image {name}; `pilotfish image ls` lists those that there are")
