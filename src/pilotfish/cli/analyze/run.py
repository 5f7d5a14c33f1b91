"""What `analyze` does: load, analyse, leave out what is not wanted, print, and say how it went."""

from __future__ import annotations

import fnmatch
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click

from pilotfish.analysis.analyzers import ANALYZERS, analyze, ordered
from pilotfish.analysis.messages import DOCUMENTATION, TYPES, Level, Message
from pilotfish.analysis.snapshot import Snapshot
from pilotfish.api.errors import NotFound
from pilotfish.api.kinds import NAMESPACE
from pilotfish.cli.analyze.sources import Loaded, from_api, from_files, mesh_config, without_api
from pilotfish.cli.connect import with_client
from pilotfish.cli.printing import as_json, as_yaml
from pilotfish.client.http import HTTPClient
from pilotfish.home import Home

FOUND_ISSUES, UNREADABLE = 79, 65
"""Exit statuses, as istioctl's."""
SUPPRESS_ANNOTATION = "galley.istio.io/analyze-suppress"
_COLOURS = {Level.ERROR: "\033[1;31m", Level.WARNING: "\033[33m", Level.INFO: ""}

Output = Literal["log", "json", "yaml"]


@dataclass(frozen=True)
class Wanted:
    """What to analyse and what to show. `namespace` None is the kubeconfig's."""

    files: Sequence[str] = ()
    namespace: str | None = None
    everywhere: bool = False
    use_kube: bool = True
    output: Output = "log"
    failure_threshold: Level = Level.ERROR
    output_threshold: Level = Level.INFO
    suppressions: Sequence[str] = ()
    analyzers: Sequence[str] = ()
    mesh_config_file: str = ""
    ignore_unknown: bool = False
    verbose: bool = False
    colour: bool = False


def list_analyzers() -> str:
    return "\n".join(f"* {one.name}:\n    {one.description}" for one in sorted(ANALYZERS))


def run(home: Home, wanted: Wanted) -> int:
    """Analyse and print; returns the exit status. Raises click.ClickException."""
    suppressed = list(map(_suppression, wanted.suppressions))
    if wanted.use_kube:
        namespace, loaded = with_client(home, lambda client: _load(client, wanted))
    else:
        namespace = wanted.namespace or "default"
        loaded = from_files(wanted.files, namespace)
        loaded.objects[:0] = without_api()
    if wanted.mesh_config_file:
        try:
            loaded.objects.append(mesh_config(Path(wanted.mesh_config_file).read_text()))
        except OSError as error:
            raise click.UsageError(f"cannot read {wanted.mesh_config_file}: {error.strerror}") from None
    for fault in loaded.faults:
        click.echo(f"Error(s) adding files: {fault.place}: {fault.message}", err=True)
    found = ordered([*loaded.messages, *analyze(Snapshot(loaded.objects), wanted.analyzers)])
    kept = [
        message
        for message in found
        if (wanted.everywhere or message.namespace in ("", namespace)) and not _is_suppressed(message, suppressed)
    ]
    target = "all namespaces" if wanted.everywhere else f"namespace: {namespace}"
    _tell(wanted, target)
    shown = [message for message in kept if message.type.level <= wanted.output_threshold]
    _print(shown, loaded, wanted)
    if not shown:
        _tell_nothing_found(wanted, target, loaded)
    return _status(kept, loaded, wanted, target)


async def _load(client: HTTPClient, wanted: Wanted) -> tuple[str, Loaded]:
    """What the API has, with the files' objects in its place; and the namespace that is meant. Raises ApiError."""
    namespace = wanted.namespace or client.config.namespace
    if not wanted.everywhere:
        try:
            await client.get(NAMESPACE, namespace)
        except NotFound:
            raise click.ClickException(f'namespace "{namespace}" not found') from None
    loaded = await from_api(client)
    files = from_files(wanted.files, namespace)
    loaded.objects += files.objects
    replaced = {(obj.kind, *obj.key) for _, obj in files.objects}
    loaded.messages = [m for m in loaded.messages if (m.object.kind, *m.object.key) not in replaced] + files.messages
    loaded.places, loaded.faults = files.places, files.faults
    return namespace, loaded


def _suppression(text: str) -> tuple[str, str]:
    """Code and pattern of names from e.g. "IST0103=Pod *.testing". Raises click.UsageError."""
    code, equals, name = text.partition("=")
    if not equals or "=" in name:
        raise click.UsageError(f"{text!r} is not of the form CODE=KIND NAME.NAMESPACE, e.g. IST0103=Pod *.testing")
    if code not in TYPES:
        click.echo(f"Warning: there is no message code {code!r}: it suppresses nothing.", err=True)
    return code, name


def _is_suppressed(message: Message, suppressed: Iterable[tuple[str, str]]) -> bool:
    """By an annotation of the object, or by a pattern of its name, written with a dot or with a slash."""
    codes = message.object.metadata.annotations.get(SUPPRESS_ANNOTATION, "").split(",")
    if not {"*", message.type.code}.isdisjoint(codes):
        return True
    obj = message.object
    names = message.origin, f"{obj.kind} {obj.name}.{obj.namespace}" if obj.namespace else message.origin
    return any(
        code == message.type.code and any(fnmatch.fnmatchcase(name, pattern) for name in names)
        for code, pattern in suppressed
    )


def _print(shown: Sequence[Message], loaded: Loaded, wanted: Wanted) -> None:
    if wanted.output == "log":
        for message in shown:
            click.echo(as_line(message, loaded, colour=wanted.colour), color=wanted.colour)
        return
    documents = [as_document(message, loaded) for message in shown]
    click.echo(as_json(documents) if wanted.output == "json" else as_yaml(documents).rstrip())


def as_line(message: Message, loaded: Loaded, *, colour: bool = False) -> str:
    """E.g. `Error [IST0101] (VirtualService default/web mesh.yaml:12) The host …`."""
    place = loaded.place_of(message.object)
    reference = f" {place.at(message.path)}" if place is not None else ""
    level = message.type.level
    word = f"{_COLOURS[level]}{level.word}\033[0m" if colour else level.word
    return f"{word} [{message.type.code}] ({message.origin}{reference}) {message.text}"


def as_document(message: Message, loaded: Loaded) -> dict[str, Any]:
    place = loaded.place_of(message.object)
    return {
        "code": message.type.code,
        "documentationUrl": message.type.documentation,
        "level": message.type.level.word,
        "message": message.text,
        "origin": message.origin,
        **({"reference": place.at(message.path)} if place is not None else {}),
    }


def _tell(wanted: Wanted, target: str) -> None:
    if wanted.verbose:
        click.echo(f"Analyzed resources in {target}\nExecuted analyzers:", err=True)
        for one in ANALYZERS:
            if not wanted.analyzers or one.name in wanted.analyzers:
                click.echo(f"\t {one.name}", err=True)


def _tell_nothing_found(wanted: Wanted, target: str, loaded: Loaded) -> None:
    if loaded.faults:
        count = len(loaded.faults)
        documents = "document" if count == 1 else "documents"
        click.echo(
            f"No validation issues found when analyzing {target} (but {count} {documents} could not be parsed).",
            err=True,
        )
        return
    what = "\n  - ".join(["", *wanted.files]) if len(wanted.files) > 1 else f" {(*wanted.files, target)[0]}."
    click.echo(f"✔ No validation issues found when analyzing{':' if len(wanted.files) > 1 else ''}{what}", err=True)


def _status(kept: Sequence[Message], loaded: Loaded, wanted: Wanted, target: str) -> int:
    """Only the log format makes findings a failure, as with istioctl."""
    if wanted.output != "log":
        return 0
    if any(message.type.level <= wanted.failure_threshold for message in kept):
        click.echo(f"Error: Analyzers found issues when analyzing {target}.", err=True)
        click.echo(f"See {DOCUMENTATION} for more information about causes and resolutions.", err=True)
        return FOUND_ISSUES
    if loaded.faults and not wanted.ignore_unknown:
        click.echo("Error: Some files couldn't be parsed.", err=True)
        return UNREADABLE
    return 0


def wants_colour(chosen: bool | None) -> bool:
    """Whether to write in colours: as chosen, or where a terminal shows them."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb" if chosen is None else chosen
