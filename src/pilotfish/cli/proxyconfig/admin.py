"""Envoy's admin interface of a pod, reached through the API server as istioctl does: it works with any Kubernetes."""

from __future__ import annotations

from dataclasses import dataclass

import click

from pilotfish.api.kinds import POD
from pilotfish.api.meta import Object
from pilotfish.api.pods import Pod
from pilotfish.cli.objects import wanted
from pilotfish.cli.pods import find_pod, selector_of
from pilotfish.client.http import HTTPClient
from pilotfish.client.portforward import http_request

DEFAULT_PORT = 15000


@dataclass(frozen=True)
class Admin:
    """The admin interface of one pod's Envoy."""

    client: HTTPClient
    pod: Pod
    port: int = DEFAULT_PORT

    @property
    def full_name(self) -> str:
        return f"{self.pod.name}.{self.pod.namespace}"

    async def get(self, path: str, *, method: str = "GET") -> bytes:
        """The body of an answer. Raises ApiError, and click.ClickException when Envoy refuses."""
        status, body = await http_request(
            self.client.config, self.pod.namespace, self.pod.name, self.port, f"/{path}", method=method
        )
        if status != 200:
            text = body.decode(errors="replace").strip()
            raise click.ClickException(f"the proxy of {self.full_name} answers {status} to /{path}: {text}")
        return body


def split_name(name: str, namespace: str) -> tuple[str, str]:
    """`[KIND/]NAME[.NAMESPACE]` and the namespace that goes without saying, as name and namespace (istioctl)."""
    kind, slash, rest = name.rpartition("/")
    short, dot, named = rest.rpartition(".")
    return (f"{kind}{slash}{short}", named) if dot else (name, namespace)


async def find_proxy(client: HTTPClient, name: str, namespace: str | None, port: int) -> Admin:
    """The proxy of the pod that `[KIND/]NAME[.NAMESPACE]` means. Raises ApiError, click.ClickException."""
    short, where = split_name(name, namespace or client.config.namespace)
    return Admin(client, await find_pod(client, short, where), port)


async def find_proxies(client: HTTPClient, name: str, namespace: str | None, labels: str, port: int) -> list[Admin]:
    """All proxies that a name means (every pod of a workload), or that have certain labels. Raises as `find_proxy`."""
    if not labels:
        short, where = split_name(name, namespace or client.config.namespace)
        if "/" not in short:
            return [await find_proxy(client, name, namespace, port)]
        [of] = wanted([short])
        found: Object = await client.get(of.kind, of.names[0], where)
        if isinstance(found, Pod):
            return [Admin(client, found, port)]
        labels = selector_of(found) or ""
    else:
        where = namespace or client.config.namespace
    pods = (await client.list(POD, where, labels=labels)).items if labels else ()
    if not pods:
        raise click.ClickException("no pods found")
    return [Admin(client, pod, port) for pod in pods]
