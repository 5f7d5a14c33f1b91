"""`pilotfish delete`: objects go, by name, by selector or by their manifests."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import click

from pilotfish.api.errors import ApiError, NotFound
from pilotfish.api.meta import metadata_of
from pilotfish.api.scheme import AnyKind
from pilotfish.cli.connect import with_client
from pilotfish.cli.get import Query, items_of, tell_nothing_found
from pilotfish.cli.manifests import Fault, NamespaceMismatch, namespace_of, read_manifests
from pilotfish.cli.objects import complain, in_version, qualified
from pilotfish.client.backoff import backoff
from pilotfish.client.http import HTTPClient
from pilotfish.client.paths import path_of
from pilotfish.home import Home


@dataclass(frozen=True)
class How:
    """How to delete. `grace_period` is in seconds, None for the object's own."""

    ignore_not_found: bool = False
    wait: bool = True
    grace_period: int | None = None


@dataclass(frozen=True)
class _Target:
    """An object that is to go; `place` is where a manifest names it, or ""."""

    kind: AnyKind
    namespace: str
    name: str
    place: str = ""

    @property
    def path(self) -> str:
        return path_of(self.kind, self.namespace, self.name)


def delete_manifests(home: Home, sources: Sequence[str], namespace: str | None, how: How, *, recursive: bool) -> int:
    """Delete what the manifests name; returns the exit status: 0, or 1 when something could not be deleted."""

    async def run(client: HTTPClient) -> int:
        return await _delete(client, _from_manifests(client, sources, namespace, recursive=recursive), how)

    return with_client(home, run)


def delete(home: Home, asked: Query, how: How, *, everything: bool) -> int:
    """Delete what the query finds; returns the exit status. `everything` means all objects of the kinds.

    Raises click.UsageError where the query names nothing.
    """
    chosen = bool(asked.labels) or everything
    if not chosen and any(not w.names for w in asked.wanted):
        raise click.UsageError("say which: NAME, -l SELECTOR, or --all for all in the namespace.")
    if everything and (asked.labels or any(w.names for w in asked.wanted)):
        raise click.UsageError("--all leaves nothing to choose: give it, or names, or -l SELECTOR.")

    async def run(client: HTTPClient) -> int:
        targets = await _from_query(client, asked)
        if chosen and not targets:
            tell_nothing_found(client, asked)
        # What a list shows may be gone by itself before its turn comes.
        return await _delete(client, targets, replace(how, ignore_not_found=how.ignore_not_found or chosen))

    return with_client(home, run)


def _from_manifests(
    client: HTTPClient, sources: Sequence[str], asked: str | None, *, recursive: bool
) -> Iterator[_Target | None]:
    """The objects that manifests name; None where there is none, and the user has been told why."""
    for manifest in read_manifests(sources, recursive=recursive):
        if isinstance(manifest, Fault):
            complain(manifest.message, manifest.place)
            yield None
            continue
        try:
            namespace = namespace_of(manifest, asked, client.config.namespace)
        except NamespaceMismatch as error:
            complain(str(error), manifest.place)
            yield None
            continue
        kind = in_version(manifest.kind, manifest.api_version)
        yield _Target(kind, namespace, manifest.name, manifest.place)


async def _from_query(client: HTTPClient, asked: Query) -> list[_Target]:
    targets: list[_Target] = []
    for of in asked.wanted:
        if of.names:
            namespace = asked.namespace or client.config.namespace
            targets += [_Target(of.kind, namespace, name) for name in of.names]
            continue
        answer = await client.request_json("GET", asked.path(of.kind, client.config.namespace), params=asked.params)
        abouts = map(metadata_of, items_of(of.kind, answer))
        targets += [_Target(of.kind, about.get("namespace", ""), about["name"]) for about in abouts]
    return targets


async def _delete(client: HTTPClient, targets: Iterable[_Target | None], how: How) -> int:
    """Delete one after the other, then wait for all. An object that cannot be deleted does not stop the others."""
    failed = False
    going: list[tuple[_Target, str]] = []
    for target in targets:
        if target is None:
            failed = True
            continue
        try:
            uid = str(metadata_of(await client.request_json("GET", target.path)).get("uid", ""))
            await client.delete(
                target.kind, target.name, target.namespace, uid=uid, grace_period_seconds=how.grace_period
            )
        except ApiError as error:
            if not (how.ignore_not_found and isinstance(error, NotFound)):
                complain(error, target.place)
                failed = True
            continue
        click.echo(f'{qualified(target.kind)} "{target.name}" deleted')
        going.append((target, uid))
    if how.wait:
        for target, uid in going:
            await _gone(client, target, uid)
    return 1 if failed else 0


async def _gone(client: HTTPClient, target: _Target, uid: str) -> None:
    """Return when there is no such object any more; one of the same name that was made since is another."""
    for seconds in backoff(most=0.5):
        try:
            found = await client.request_json("GET", target.path)
        except NotFound:
            return
        if metadata_of(found).get("uid") != uid:
            return
        await asyncio.sleep(seconds)
