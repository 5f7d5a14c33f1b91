"""`pilotfish describe`: one object for people to read, and what happened to it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

from pilotfish.api.core import Event
from pilotfish.api.errors import ApiError, NotFound
from pilotfish.api.kinds import EVENT, SECRET
from pilotfish.api.meta import Document, metadata_of
from pilotfish.api.scheme import AnyKind, age
from pilotfish.cli.connect import with_client
from pilotfish.cli.get import Query, items_of, tell_nothing_found
from pilotfish.cli.objects import Wanted, complain
from pilotfish.cli.printing import as_yaml
from pilotfish.cli.tables import render
from pilotfish.client.http import HTTPClient
from pilotfish.home import Home

LABEL_WIDTH = 14


def describe(home: Home, asked: Query) -> int:
    """Print the objects that the query finds; returns the exit status: 0, or 1 when something was not found."""

    async def run(client: HTTPClient) -> int:
        complete, texts = True, []
        for of in asked.wanted:
            try:
                found = await _find(client, asked, of)
            except ApiError as error:
                complain(error)
                complete = False
                continue
            texts += [as_text(of.kind, document, await _events(client, document)) for document in found]
        if texts:
            click.echo("\n\n".join(texts))
        elif complete:
            tell_nothing_found(client, asked)
        return 0 if complete else 1

    return with_client(home, run)


async def _find(client: HTTPClient, asked: Query, of: Wanted) -> list[Document]:
    """The objects; a name that there is not stands for those that begin with it, as with kubectl. Raises ApiError."""
    collection = asked.path(of.kind, client.config.namespace)
    if not of.names:
        return items_of(of.kind, await client.request_json("GET", collection, params=asked.params))
    found: list[Document] = []
    for name in of.names:
        try:
            path = asked.path(of.kind, client.config.namespace, name)
            found += items_of(of.kind, await client.request_json("GET", path))
        except NotFound:
            everything = items_of(of.kind, await client.request_json("GET", collection))
            similar = [document for document in everything if metadata_of(document)["name"].startswith(name)]
            if not similar:
                raise
            found += similar
    return found


async def _events(client: HTTPClient, document: Document) -> Sequence[Event]:
    """What was told of an object, the latest last."""
    about = metadata_of(document)
    fields = {
        "involvedObject.kind": document["kind"],
        "involvedObject.name": about["name"],
        "involvedObject.uid": about.get("uid", ""),
    }
    selector = ",".join(f"{path}={value}" for path, value in fields.items() if value)
    listing = await client.list(EVENT, about.get("namespace") or "default", fields=selector)
    return sorted(listing.items, key=_moment)


def as_text(kind: AnyKind, document: Document, events: Sequence[Event]) -> str:
    """The whole description, without a last newline: metadata, then each part as it could stand in a manifest."""
    sections = [_metadata(kind, metadata_of(document))]
    for name, value in document.items():
        if name in ("apiVersion", "kind", "metadata") or value in (None, {}, []):
            continue
        shown = _sizes(value) if kind is SECRET and name == "data" else value
        sections.append(f"{name[0].upper()}{name[1:]}:\n{textwrap.indent(as_yaml(shown).rstrip(), '  ')}")
    sections.append(_events_text(events))
    return "\n".join(sections)


def _metadata(kind: AnyKind, about: Mapping[str, Any]) -> str:
    owner = next((o for o in about.get("ownerReferences") or () if o.get("controller")), None)
    fields: list[tuple[str, Iterable[str]]] = [("Name", [about["name"]])]
    if kind.namespaced:
        fields.append(("Namespace", [about.get("namespace", "")]))
    fields.append(("Labels", [f"{k}={v}" for k, v in sorted((about.get("labels") or {}).items())]))
    fields.append(("Annotations", [f"{k}: {v}" for k, v in sorted((about.get("annotations") or {}).items())]))
    fields.append(("Kind", [f"{kind.kind}, {kind.api_version}"]))
    created = about.get("creationTimestamp")
    fields.append(("Created", [f"{created} ({age(created)} ago)"] if created else []))
    if about.get("deletionTimestamp"):
        fields.append(("Deleted", [f"{about['deletionTimestamp']}, {about.get('deletionGracePeriodSeconds', 0)} s"]))
    if about.get("finalizers"):
        fields.append(("Finalizers", about["finalizers"]))
    if owner:
        fields.append(("Controlled By", [f"{owner['kind']}/{owner['name']}"]))
    return "\n".join(_field(name, list(values)) for name, values in fields)


def _field(name: str, values: Sequence[str]) -> str:
    """One name and its values, one below the other; texts of several lines keep to their column."""
    lines = [line for value in values or ["<none>"] for line in value.splitlines() or [""]]
    return "\n".join(f"{f'{name}:' if i == 0 else '':<{LABEL_WIDTH}} {line}".rstrip() for i, line in enumerate(lines))


def _sizes(data: Mapping[str, str]) -> dict[str, str]:
    """What a Secret holds without telling it: base64 has four characters for three bytes."""
    return {name: f"{len(value) * 3 // 4 - value[-2:].count('=')} bytes" for name, value in data.items()}


def _events_text(events: Sequence[Event]) -> str:
    if not events:
        return f"{'Events:':<{LABEL_WIDTH}} <none>"
    rows = [["Type", "Reason", "Age", "From", "Message"], ["----", "------", "----", "----", "-------"]]
    for event in events:
        seconds = age(_moment(event) or None)
        if event.count > 1 and event.first_timestamp:
            seconds = f"{seconds} (x{event.count} over {age(event.first_timestamp)})"
        source = event.source.component or event.reporting_component
        rows.append([event.type, event.reason, seconds, source, event.message.strip()])
    return "Events:\n" + textwrap.indent(render(rows), "  ")


def _moment(event: Event) -> str:
    """When it was told last, "" where that is not known."""
    series = event.series.last_observed_time if event.series is not None else None
    return series or event.last_timestamp or event.event_time or event.first_timestamp or ""
