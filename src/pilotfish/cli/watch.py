"""`pilotfish get --watch`: what there is, and then every change, until the user ends it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import Any, Never

import click
import msgspec

from pilotfish.api.meta import Document, metadata_of
from pilotfish.api.scheme import AnyKind
from pilotfish.cli.connect import with_client
from pilotfish.cli.get import Query, formatted, items_of, print_objects
from pilotfish.cli.tables import TableView, column_widths, render
from pilotfish.client.http import HTTPClient
from pilotfish.client.wire import read_error
from pilotfish.home import Home


def watch(home: Home, asked: Query) -> None:
    """Print until interrupted. Raises click.UsageError when more than one kind or object is asked for."""
    if len(asked.wanted) != 1 or len(asked.wanted[0].names) > 1:
        raise click.UsageError("only one kind, or one object, can be watched at a time.")
    with_client(home, lambda client: _watch(client, asked))


async def _watch(client: HTTPClient, asked: Query) -> Never:
    kind, names = asked.wanted[0].kind, asked.wanted[0].names
    params = {**asked.params, **({"fieldSelector": f"metadata.name={names[0]}"} if names else {})}
    path = asked.path(kind, client.config.namespace)
    answer = await client.request_json("GET", path, params=params, accept=asked.accept)
    printer = _TablePrinter(asked.view) if asked.view is not None else _ObjectPrinter(kind, asked)
    printer.show(answer)
    version = str(metadata_of(answer).get("resourceVersion", ""))
    while True:  # servers end a watch after a while; it goes on where it was
        follow = {**params, "watch": "true", "allowWatchBookmarks": "true", "resourceVersion": version}
        async with contextlib.aclosing(_events(client, path, follow, asked.accept)) as events:
            async for type, found in events:
                if type != "BOOKMARK":
                    printer.show(found)
                version = _version(found) or version


async def _events(
    client: HTTPClient, path: str, params: dict[str, str], accept: str
) -> AsyncGenerator[tuple[str, Document], None]:
    """The events of one watch, until the server ends it. Raises the error that an ERROR event carries."""
    async with contextlib.aclosing(client.stream_lines(path, params, accept=accept)) as lines:
        async for line in lines:
            event = msgspec.json.decode(line, type=dict[str, Any])
            if event["type"] == "ERROR":
                raise read_error(msgspec.json.encode(event["object"]), 500)
            yield event["type"], event["object"]


def _version(found: Document) -> str:
    """The resource version that an event brings: its object's, or that of a table's row."""
    rows = found.get("rows") or [{}]
    return str(metadata_of(rows[-1].get("object") or found).get("resourceVersion", ""))


class _TablePrinter:
    """Prints rows as they come, under one header; columns keep their places as far as they can."""

    def __init__(self, view: TableView) -> None:
        self._view = view
        self._columns: list[Document] = []
        self._widths: list[int] = []

    def show(self, table: Document) -> None:
        # Kubernetes describes the columns in a watch's first table alone.
        columns = self._columns or table["columnDefinitions"]
        rows = self._view.rows(columns, table)
        if not rows:
            return
        if not self._columns:
            self._columns = columns
            rows.insert(0, self._view.header(columns))
        self._widths = column_widths(rows, self._widths)
        click.echo(render(rows, self._widths))


class _ObjectPrinter:
    """Prints whole objects as they come; YAML as a stream of documents."""

    def __init__(self, kind: AnyKind, asked: Query) -> None:
        self._kind = kind
        self._asked = asked

    def show(self, found: Document) -> None:
        if self._asked.output == "name":
            print_objects([(self._kind, [found])], self._asked)
            return
        for item in items_of(self._kind, found):
            separator = "---\n" if self._asked.output == "yaml" else ""
            click.echo(separator + formatted(item, self._asked.output), nl=False)
