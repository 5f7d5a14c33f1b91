"""`pilotfish apply`: objects become what their manifests say, through server-side apply."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import click

from pilotfish.api.errors import ApiError, NotFound
from pilotfish.api.meta import Document, metadata_of
from pilotfish.cli.connect import with_client
from pilotfish.cli.manifests import Fault, Manifest, NamespaceMismatch, namespace_of, read_manifests
from pilotfish.cli.objects import complain, in_version, qualified
from pilotfish.client.http import HTTPClient
from pilotfish.client.paths import path_of
from pilotfish.home import Home

FIELD_MANAGER = "pilotfish"
APPLY_PATCH = "application/apply-patch+yaml"

Outcome = Literal["created", "configured", "unchanged"]


def apply(home: Home, sources: Sequence[str], namespace: str | None, *, recursive: bool) -> int:
    """Apply every manifest of the sources; returns the exit status: 0, or 1 when one of them could not be applied.

    Fields that others own are taken over (`force`): what stands in a manifest is what its author wants.
    """

    async def run(client: HTTPClient) -> int:
        done = [
            await _apply_one(client, manifest, namespace) for manifest in read_manifests(sources, recursive=recursive)
        ]
        if not done:
            raise click.ClickException("no objects passed to apply: the manifests are empty")
        return 0 if all(done) else 1

    return with_client(home, run, on_warning=lambda warning: click.echo(f"Warning: {warning}", err=True))


async def _apply_one(client: HTTPClient, manifest: Manifest | Fault, asked: str | None) -> bool:
    """Whether it is applied; if not, the user has been told why."""
    if isinstance(manifest, Fault):
        complain(manifest.message, manifest.place)
        return False
    try:
        namespace = namespace_of(manifest, asked, client.config.namespace)
        outcome = await server_side_apply(client, manifest, namespace)
    except NamespaceMismatch as error:
        complain(str(error), manifest.place)
        return False
    except ApiError as error:
        complain(error, manifest.place)
        return False
    click.echo(f"{qualified(manifest.kind)}/{manifest.name} {outcome}")
    return True


async def server_side_apply(client: HTTPClient, manifest: Manifest, namespace: str) -> Outcome:
    """Make the object what the manifest says, and say what that changed. Raises ApiError."""
    path = path_of(in_version(manifest.kind, manifest.api_version), namespace, manifest.name)
    try:
        before = await client.request_json("GET", path)
    except NotFound:
        before = None
    after = await client.request_json(
        "PATCH",
        path,
        params={"fieldManager": FIELD_MANAGER, "force": "true", "fieldValidation": "Strict"},
        body=manifest.document,
        content_type=APPLY_PATCH,
    )
    if before is None:
        return "created"
    has_status = "status" in manifest.kind.subresources
    return "unchanged" if _content(before, has_status) == _content(after, has_status) else "configured"


def _content(document: Document, has_status: bool) -> dict[str, Any]:
    """What users wrote and servers filled in; who owns which field, and what is observed, are left out."""
    metadata = {k: v for k, v in metadata_of(document).items() if k not in ("managedFields", "resourceVersion")}
    rest = {k: v for k, v in document.items() if k != "status" or not has_status}
    return {**rest, "metadata": metadata}
