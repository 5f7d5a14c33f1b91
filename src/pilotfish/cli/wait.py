"""`pilotfish x wait`: until an object is in force at the proxies that it concerns.

istioctl had this (`istioctl experimental wait`) as long as istiod kept account of each object's way. How it is known
here is told in `xds/distribution.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import click

from pilotfish.api.errors import NotFound
from pilotfish.api.scheme import AnyKind
from pilotfish.cli.connect import with_client
from pilotfish.cli.objects import kinds_named
from pilotfish.cli.proxystatus import PAGES
from pilotfish.client.http import HTTPClient
from pilotfish.home import Home

POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Target:
    """An object that is waited for: in a version or of a generation ("" and 0: any), or gone."""

    kind: AnyKind
    namespace: str
    name: str
    version: str = ""
    generation: int = 0
    deleted: bool = False

    def __str__(self) -> str:
        return f"{self.kind.kind}/{self.namespace}/{self.name}"

    def known(self, shown: Mapping[str, Any]) -> bool:
        """Whether the control plane has it so, by what `/debug/config_distribution` shows of it."""
        version = shown.get("resourceVersion", "")
        if shown.get("pending") or self.deleted:
            return self.deleted and not version and not shown.get("pending")
        return _at_least(version, self.version) and shown.get("generation", 0) >= self.generation


def _at_least(version: str, wanted: str) -> bool:
    """Versions of one kind are numbers that grow, at every API server that there is."""
    if version.isdecimal() and wanted.isdecimal():
        return int(version) >= int(wanted)
    return bool(version) and wanted in ("", version)


@dataclass
class Progress:
    """How far it has come. `missing` are the proxies in which it is not in force, each with the reason."""

    known: bool = False
    proxies: int = 0
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def present(self) -> int:
        return self.proxies - len(self.missing)

    def reached(self, threshold: float) -> bool:
        """Whether it is in force at this share of the proxies; where none are, it is."""
        return self.known and self.present >= threshold * self.proxies


class Distribution:
    """Looks again and again at how far objects have come."""

    def __init__(self, targets: Sequence[Target], proxy: str = "") -> None:
        """`proxy` (POD.NAMESPACE) is the only one that counts; "": all do."""
        self._targets = targets
        self._proxy = proxy
        self._told: dict[tuple[str, str], int] = {}
        resources = [("resource", f"{t.kind.plural}/{t.namespace}/{t.name}") for t in targets]
        self._page = f"{PAGES}/config_distribution?{urlencode(resources)}"

    async def look(self, client: HTTPClient) -> Progress:
        """Raises ApiError."""
        page = await client.request_json("GET", self._page)
        if not all(target.known(shown) for target, shown in zip(self._targets, page["resources"], strict=True)):
            return Progress()
        proxies = [proxy for proxy in page["proxies"] if self._proxy in ("", proxy["proxy"])]
        missing = {proxy["proxy"]: reason for proxy in proxies if (reason := self._missing(proxy))}
        return Progress(True, len({proxy["proxy"] for proxy in proxies}), missing)

    def _missing(self, proxy: Mapping[str, Any]) -> str:
        """Why a proxy does not have all that it had word of when the objects were first known; "" when it has."""
        told = self._told.setdefault((proxy["proxy"], proxy["since"]), proxy["told"])
        if "refused" in proxy:
            return str(proxy["refused"])
        return "" if proxy["answered"] >= told else "it has not answered yet"


async def until_in_force(
    client: HTTPClient,
    distribution: Distribution,
    threshold: float,
    on_progress: Callable[[Progress], None],
    *,
    poll: float = POLL_SECONDS,
) -> None:
    """Returns once the objects are in force at a share of the proxies. Raises ApiError."""
    while True:
        progress = await distribution.look(client)
        on_progress(progress)
        if progress.reached(threshold):
            return
        await asyncio.sleep(poll)


@dataclass(frozen=True)
class Wanted:
    """What the command line says."""

    kind: str
    name: str
    namespace: str | None
    version: str
    generation: int
    deleted: bool
    proxy: str
    threshold: float
    timeout: float
    verbose: bool


def wait(home: Home, wanted: Wanted) -> None:
    """Raises click.ClickException when it is not in force in time, saying where not and why."""
    [kind] = kinds_named(wanted.kind)
    name, _, namespace = wanted.name.partition(".")
    last = Progress()

    def note(progress: Progress) -> None:
        nonlocal last
        if wanted.verbose and progress.known and progress.present != last.present:
            click.echo(f"present on {progress.present} of {progress.proxies} proxies")
        last = progress

    async def run(client: HTTPClient) -> Target:
        where = namespace or wanted.namespace or client.config.namespace
        target = await _target(client, wanted, Target(kind, where, name, deleted=wanted.deleted))
        try:
            async with asyncio.timeout(wanted.timeout):
                await until_in_force(client, Distribution([target], wanted.proxy), wanted.threshold, note)
        except TimeoutError:
            raise click.ClickException(_late(target, last)) from None
        return target

    target = with_client(home, run)
    click.echo(f"Resource {target} present on {last.present} out of {last.proxies} proxies")


async def _target(client: HTTPClient, wanted: Wanted, target: Target) -> Target:
    """The target in the version that is asked for, or as it is now. Raises click.ClickException."""
    if target.deleted:
        return target
    version = wanted.version
    if not version and not wanted.generation:
        try:
            found = await client.get(target.kind, target.name, target.namespace)
        except NotFound as error:
            raise click.ClickException(f"{error.message}; --for=delete waits for what is gone") from None
        version = found.metadata.resource_version
    return Target(target.kind, target.namespace, target.name, version, wanted.generation)


def _late(target: Target, last: Progress) -> str:
    what = f"timeout expired before resource {target} became effective on all proxies"
    if not last.known:
        return f"{what}: the control plane does not have it so"
    reasons = "".join(f"\n  {proxy}: {reason}" for proxy, reason in sorted(last.missing.items()))
    return f"{what}: it is on {last.present} of {last.proxies}{reasons}"
