"""What users call objects on the command line, and what they are called when we speak of them (kubectl's words)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import click

from pilotfish.api.errors import ApiError
from pilotfish.api.kinds import SCHEME
from pilotfish.api.scheme import AnyKind


@dataclass(frozen=True)
class Wanted:
    """Objects of one kind that a command line names; no names mean all of them."""

    kind: AnyKind
    names: tuple[str, ...] = ()


def kinds_named(word: str) -> tuple[AnyKind, ...]:
    """The kinds that a word means: "pods", "po", "deployment.apps", "deployments.v1.apps", or a category like "all".

    Raises click.UsageError, listing the kinds that there are.
    """
    name, _, rest = word.lower().partition(".")
    kind = SCHEME.search(name)
    if kind is not None and rest in ("", kind.group, *(f"{v}.{kind.group}".rstrip(".") for v in kind.versions)):
        return (kind,)
    if category := tuple(kind for kind in SCHEME if word.lower() in kind.categories):
        return category
    known = ", ".join(sorted(kind.plural for kind in SCHEME))
    raise click.UsageError(f"there is no kind {word!r}. The kinds are: {known}.")


def wanted(arguments: Sequence[str]) -> list[Wanted]:
    """What `KIND[,KIND…] [NAME…]` or `KIND/NAME…` names, in the order given. Raises click.UsageError."""
    if not arguments:
        raise click.UsageError("say which kind, e.g. pods, or KIND/NAME, e.g. deploy/web.")
    if not any("/" in argument for argument in arguments):
        words = [word for word in arguments[0].split(",") if word]
        names = tuple(dict.fromkeys(arguments[1:]))
        return [Wanted(kind, names) for kind in dict.fromkeys(k for word in words for k in kinds_named(word))]
    found: dict[AnyKind, list[str]] = {}
    for argument in arguments:
        word, slash, name = argument.partition("/")
        if not (word and slash and name) or "/" in name:
            raise click.UsageError(
                f"{argument!r} is not of the form KIND/NAME as others are: write all of them so, or KIND NAME NAME."
            )
        for kind in kinds_named(word):
            found.setdefault(kind, []).append(name)
    return [Wanted(kind, tuple(dict.fromkeys(names))) for kind, names in found.items()]


def qualified(kind: AnyKind) -> str:
    """The word for one object of a kind, e.g. "pod" or "deployment.apps"."""
    word = kind.singular or kind.kind.lower()
    return f"{word}.{kind.group}" if kind.group else word


def in_version(kind: AnyKind, api_version: str) -> AnyKind:
    """The same kind, to be spoken of in another of its versions: a server may not have the one that we prefer."""
    return replace(kind, versions=(api_version.rpartition("/")[2],))


def complain(what: str | ApiError, place: str = "") -> None:
    """Say on standard error what went wrong with one of several things; the command goes on to the next."""
    text = f"({what.reason}): {what.message}" if isinstance(what, ApiError) else what
    click.echo(f"Error: {f'{place}: ' if place else ''}{text}", err=True)
