"""`pilotfish get`: objects as the server's tables, as YAML or JSON, or by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import click

from pilotfish.api.errors import ApiError
from pilotfish.api.meta import Document, metadata_of
from pilotfish.api.scheme import AnyKind
from pilotfish.cli.connect import with_client
from pilotfish.cli.objects import Wanted, complain, qualified, wanted
from pilotfish.cli.printing import as_json, as_list, as_yaml, without_managed_fields
from pilotfish.cli.tables import TableView, render
from pilotfish.client.http import JSON, HTTPClient
from pilotfish.client.paths import path_of
from pilotfish.home import Home

Output = Literal["", "wide", "yaml", "json", "name"]

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


@dataclass(frozen=True)
class Query:
    """What to look for and how to show it. `namespace` None means that of the kubeconfig."""

    wanted: tuple[Wanted, ...]
    namespace: str | None = None
    everywhere: bool = False
    labels: str = ""
    output: Output = ""

    @property
    def view(self) -> TableView | None:
        """How tables are shown; None where whole objects are asked for."""
        return TableView(self.output == "wide", self.everywhere) if self.output in ("", "wide") else None

    @property
    def accept(self) -> str:
        return JSON if self.view is None else TABLE

    @property
    def params(self) -> dict[str, str]:
        return {"labelSelector": self.labels} if self.labels else {}

    def path(self, kind: AnyKind, default_namespace: str, name: str = "") -> str:
        """Where a kind's objects, or one of them, are found in the API."""
        return path_of(kind, None if self.everywhere else self.namespace or default_namespace, name)


def query(
    arguments: Sequence[str],
    *,
    namespace: str | None = None,
    everywhere: bool = False,
    labels: str = "",
    output: Output = "",
) -> Query:
    """What a command line asks for. Raises click.UsageError where it contradicts itself."""
    asked = tuple(wanted(arguments))
    if any(w.names for w in asked):
        if labels:
            raise click.UsageError("names and a selector exclude each other: give NAME or -l.")
        if everywhere:
            raise click.UsageError("a name is one of a single namespace: give -n NAMESPACE instead of -A.")
    return Query(asked, namespace, everywhere, labels, output)


def get(home: Home, asked: Query) -> int:
    """Print what the query finds; returns the exit status: 0, or 1 when something could not be had."""

    async def run(client: HTTPClient) -> int:
        answers = [(w.kind, await _ask(client, asked, w)) for w in asked.wanted]
        had = [(kind, [a for a in found if a is not None]) for kind, found in answers]
        complete = all(answer is not None for _, found in answers for answer in found)
        if asked.view is None:
            print_objects(had, asked)
        elif not _print_tables(had, asked, asked.view) and complete:
            tell_nothing_found(client, asked)
        return 0 if complete else 1

    return with_client(home, run)


async def _ask(client: HTTPClient, asked: Query, of: Wanted) -> list[Document | None]:
    """The server's answers: one list, or one object or table for each name. None where an error was told."""
    answers: list[Document | None] = []
    for name in of.names or ("",):
        path = asked.path(of.kind, client.config.namespace, name)
        try:
            answers.append(await client.request_json("GET", path, params=asked.params, accept=asked.accept))
        except ApiError as error:
            complain(error)
            answers.append(None)
    return answers


def _print_tables(answers: Sequence[tuple[AnyKind, Sequence[Document]]], asked: Query, view: TableView) -> bool:
    """One table for each kind of which there is something; with several kinds, names tell theirs. Whether there was."""
    full = [(kind, tables) for kind, tables in answers if any(table["rows"] for table in tables)]
    for position, (kind, tables) in enumerate(full):
        prefix = f"{qualified(kind)}/" if len(asked.wanted) > 1 else ""
        columns = tables[0]["columnDefinitions"]
        rows = [row for table in tables for row in view.rows(columns, table, prefix)]
        click.echo(("\n" if position else "") + render([view.header(columns), *rows]))
    return bool(full)


def print_objects(answers: Sequence[tuple[AnyKind, Sequence[Document]]], asked: Query) -> None:
    """Print whole objects, or their names: one that was named as it is, others as a List."""
    items = [(kind, item) for kind, found in answers for answer in found for item in items_of(kind, answer)]
    named = [name for w in asked.wanted for name in w.names]
    if asked.output == "name":
        for kind, item in items:
            click.echo(f"{qualified(kind)}/{metadata_of(item)['name']}")
    elif len(named) != 1:
        click.echo(formatted(as_list([item for _, item in items]), asked.output), nl=False)
    elif items:
        click.echo(formatted(items[0][1], asked.output), nl=False)


def tell_nothing_found(client: HTTPClient, asked: Query) -> None:
    """Say on standard error, as kubectl does, that there is nothing, and where."""
    namespaced = not asked.everywhere and any(w.kind.namespaced for w in asked.wanted)
    where = f" in {asked.namespace or client.config.namespace} namespace." if namespaced else ""
    click.echo(f"No resources found{where}", err=True)


def formatted(document: Document, output: Output) -> str:
    """The document as YAML or JSON, with a last newline."""
    return f"{as_json(document)}\n" if output == "json" else as_yaml(document)


def items_of(kind: AnyKind, answer: Document) -> list[Document]:
    """The objects of an answer, complete: some servers' lists leave apiVersion and kind out."""
    found = [answer] if answer.get("kind") == kind.kind else answer.get("items") or []
    identity = {"apiVersion": kind.api_version, "kind": kind.kind}
    return [without_managed_fields({**identity, **item}) for item in found]
