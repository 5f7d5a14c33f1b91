"""Reading manifests: files, folders and standard input, with the place of every fault."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import msgspec
import yaml

from pilotfish.api.kinds import SCHEME
from pilotfish.api.meta import Document, metadata_of
from pilotfish.api.scheme import AnyKind

EXTENSIONS = (".json", ".yaml", ".yml")
"""What is read of a folder, as kubectl does."""

_SEPARATOR = re.compile(r"^---(?=\s|$)", re.MULTILINE)


@dataclass(frozen=True)
class Manifest:
    """One object as a user wrote it. `place` says where, e.g. "mesh.yaml:12"; `node` is what YAML made of the text."""

    kind: AnyKind
    document: Document
    place: str
    node: yaml.Node | None = field(default=None, compare=False, repr=False)

    @property
    def name(self) -> str:
        return str(metadata_of(self.document)["name"])

    @property
    def api_version(self) -> str:
        return str(self.document["apiVersion"])

    @property
    def namespace(self) -> str:
        """The namespace that is written in it, or ""."""
        return str(metadata_of(self.document).get("namespace") or "") if self.kind.namespaced else ""


@dataclass(frozen=True)
class Fault:
    """A document that is no object, and why; `unknown` one may be an object of a kind that we do not have."""

    place: str
    message: str
    unknown: bool = False


class NamespaceMismatch(Exception):
    """A manifest is written for another namespace than the one that the command line names."""


def read_manifests(sources: Iterable[str], *, recursive: bool = False) -> Iterator[Manifest | Fault]:
    """Every document of the sources in order: files, folders, or "-" for standard input.

    One that cannot be read does not hide the others. Raises click.UsageError where a source is missing.
    """
    for source in sources:
        for name, content in _texts(source, recursive=recursive):
            try:
                text = content.decode()
            except UnicodeDecodeError as error:
                yield Fault(name, f"it is not UTF-8 text: {error}")
                continue
            yield from _read_text(name, text)


def namespace_of(manifest: Manifest, asked: str | None, default: str) -> str:
    """Where an object belongs: `asked` is what the command line says, `default` what goes without saying.

    Raises NamespaceMismatch when manifest and command line disagree.
    """
    if not manifest.kind.namespaced:
        return ""
    if asked and manifest.namespace not in ("", asked):
        raise NamespaceMismatch(
            f"{manifest.kind.kind} {manifest.name} is written for the namespace {manifest.namespace}, "
            f"not for {asked}: leave --namespace away, or change the manifest"
        )
    return manifest.namespace or asked or default


def _texts(source: str, *, recursive: bool) -> Iterator[tuple[str, bytes]]:
    if source == "-":
        yield "standard input", sys.stdin.buffer.read()
        return
    path = Path(source)
    files = [path]
    if path.is_dir():
        found = path.rglob("*") if recursive else path.iterdir()
        files = sorted(file for file in found if file.suffix in EXTENSIONS and file.is_file())
        if not files:
            raise click.UsageError(f"the folder {source} holds no manifests ({', '.join(EXTENSIONS)})")
    for file in files:
        try:
            yield str(file), file.read_bytes()
        except OSError as error:
            raise click.UsageError(f"cannot read {file}: {error.strerror}") from None


def _read_text(name: str, text: str) -> Iterator[Manifest | Fault]:
    """Documents are parted before they are parsed, so that a fault ends with its document."""
    if (whole := _json(text)) is not None:
        yield from _objects(name, whole)
        return
    ends = [found.start() for found in _SEPARATOR.finditer(text)]
    for start, end in zip([0, *ends], [*ends, len(text)], strict=True):
        line = text.count("\n", 0, start)
        try:
            node = yaml.compose("\n" * line + text[start:end], Loader=_Loader)
            if node is None:
                continue
            place = f"{name}:{node.start_mark.line + 1}"
            _refuse_duplicates(node)
            document = _Loader("").construct_document(node)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            at = mark.line if mark is not None else line
            yield Fault(f"{name}:{at + 1}", f"it is not YAML: {error.problem or error.context}")
            continue
        except yaml.YAMLError as error:
            yield Fault(f"{name}:{line + 1}", f"it is not YAML: {error}")
            continue
        if document is not None:
            yield from _objects(place, document, node)


def _json(text: str) -> Any:
    """The object of a JSON text, else None: YAML forbids the tabs that JSON may be indented with."""
    try:
        return msgspec.json.decode(text) if text.lstrip().startswith("{") else None
    except msgspec.DecodeError:
        return None


def _objects(place: str, document: Any, node: yaml.Node | None = None) -> Iterator[Manifest | Fault]:
    if not isinstance(document, dict):
        yield Fault(place, f"it is {_described(document)} and not an object with apiVersion, kind and metadata")
        return
    api_version, word = document.get("apiVersion"), document.get("kind")
    if word == "List" and api_version == "v1":
        for position, item in enumerate(document.get("items") or ()):
            yield from _objects(f"{place}, items[{position}]", item, child(child(node, "items"), position))
        return
    missing = [field for field, value in (("apiVersion", api_version), ("kind", word)) if not value]
    if missing:
        yield Fault(place, f"{' and '.join(missing)} must be set")
        return
    kind = SCHEME.by_kind(str(api_version), str(word))
    if kind is None:
        same = [other.api_version for other in SCHEME if other.kind == word]
        known = f"{word} is of {same[0]}" if same else f"the kinds are {', '.join(sorted(k.kind for k in SCHEME))}"
        yield Fault(place, f'no matches for kind "{word}" in version "{api_version}": {known}', unknown=True)
    elif not metadata_of(document).get("name"):
        generated = metadata_of(document).get("generateName")
        reason = "apply and delete cannot work with generateName" if generated else "it says which object is meant"
        yield Fault(place, f"metadata.name of this {word} must be set: {reason}")
    else:
        yield Manifest(kind, document, place, node)


def child(node: yaml.Node | None, step: str | int) -> yaml.Node | None:
    """What stands in a mapping under a key, or in a sequence at a position; None where there is nothing."""
    if isinstance(node, yaml.MappingNode):
        return next((value for key, value in node.value if key.value == step), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        found: yaml.Node = node.value[step]
        return found
    return None


def line_of(node: yaml.Node | None, path: Iterable[str | int]) -> int | None:
    """The line, counted from 1, of what a path leads to below a node, or of as much of the path as there is."""
    line = None
    for step in path:
        key = next((k for k, _ in node.value if k.value == step), None) if isinstance(node, yaml.MappingNode) else None
        node = child(node, step)
        if node is None:
            break
        line = (key or node).start_mark.line + 1
    return line


def _described(value: Any) -> str:
    return "a list" if isinstance(value, list) else f"the text {value!r}" if isinstance(value, str) else repr(value)


class _Loader(yaml.SafeLoader):
    """YAML as Kubernetes reads it: timestamps are texts."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _refuse_duplicates(root: yaml.Node) -> None:
    """Raises ConstructorError where a field stands twice in one object: one of the two would be lost without a word."""
    nodes, known = [root], {id(root)}
    while nodes:
        node = nodes.pop()
        children = list(node.value) if isinstance(node, yaml.SequenceNode) else []
        if isinstance(node, yaml.MappingNode):
            lines: dict[str, int] = {}
            for key, value in node.value:
                children += key, value
                if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                    continue
                if key.value in lines:
                    problem = f"the field {key.value!r} stands here again; it was set in line {lines[key.value]}"
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                lines[key.value] = key.start_mark.line + 1
        fresh = [child for child in children if id(child) not in known]  # an alias is the node that it stands for
        known.update(map(id, fresh))
        nodes += fresh
