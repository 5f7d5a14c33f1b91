"""Kubeconfig files: where an API server is and how to prove who we are (client-go, clientcmd/api/v1)."""

from __future__ import annotations

import base64
import binascii
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import msgspec
import yaml


class KubeconfigError(Exception):
    """The file is missing, cannot be read, or asks for something that we cannot do; the message names the file."""


@dataclass(frozen=True)
class Kubeconfig:
    """One context of a kubeconfig, complete; certificates and key are PEM, embedded or not."""

    server: str
    certificate_authority: bytes | None = None
    client_certificate: bytes | None = None
    client_key: bytes | None = field(default=None, repr=False)
    token: str = field(default="", repr=False)
    namespace: str = "default"
    tls_server_name: str = ""
    insecure_skip_tls_verify: bool = False
    context: str = "pilotfish"


class _Part(msgspec.Struct, rename="kebab", omit_defaults=True):
    """The base of the file's own records, as far as we read them."""


class _Cluster(_Part):
    server: str = ""
    certificate_authority: str = ""
    certificate_authority_data: str = ""
    insecure_skip_tls_verify: bool = False
    tls_server_name: str = ""


class _User(_Part):
    client_certificate: str = ""
    client_certificate_data: str = ""
    client_key: str = ""
    client_key_data: str = ""
    token: str = ""
    token_file: str = msgspec.field(name="tokenFile", default="")
    exec: dict[str, object] | None = None
    auth_provider: dict[str, object] | None = None
    username: str = ""


class _Context(_Part):
    cluster: str
    user: str = ""
    namespace: str = ""


class _NamedCluster(_Part):
    name: str
    cluster: _Cluster


class _NamedUser(_Part):
    name: str
    user: _User


class _NamedContext(_Part):
    name: str
    context: _Context


class _File(_Part):
    api_version: str = msgspec.field(name="apiVersion", default="")
    kind: str = ""
    clusters: list[_NamedCluster] | None = None
    contexts: list[_NamedContext] | None = None
    users: list[_NamedUser] | None = None
    current_context: str = ""


def default_path(environment: Mapping[str, str] = os.environ) -> Path:
    """The file to read: the one that $KUBECONFIG names, else ~/.kube/config.

    Of several files in $KUBECONFIG the first that exists counts; kubectl would merge them all.
    """
    listed = [Path(part).expanduser() for part in environment.get("KUBECONFIG", "").split(os.pathsep) if part]
    if listed:
        return next((path for path in listed if path.exists()), listed[0])
    return Path.home() / ".kube/config"


def read_kubeconfig(path: Path, context: str = "") -> Kubeconfig:
    """The named context of a file, or its current one. Raises KubeconfigError."""
    try:
        file = msgspec.convert(yaml.safe_load(path.read_bytes()), _File)
    except OSError as error:
        raise KubeconfigError(f"cannot read the kubeconfig {path}: {error.strerror}") from error
    except (yaml.YAMLError, msgspec.ValidationError) as error:
        raise KubeconfigError(f"{path} is not a kubeconfig: {error}") from error
    chosen = context or file.current_context
    if not chosen:
        raise KubeconfigError(f"{path} has no current-context: set one with kubectl config use-context NAME")
    named = _find(file.contexts, chosen, "context", path).context
    cluster = _find(file.clusters, named.cluster, "cluster", path).cluster
    user = _find(file.users, named.user, "user", path).user if named.user else _User()
    if not cluster.server:
        raise KubeconfigError(f"{path}: cluster {named.cluster} has no server")
    _refuse_what_we_cannot_do(user, named.user, path)
    return Kubeconfig(
        server=cluster.server.rstrip("/"),
        certificate_authority=_content(
            path, "certificate-authority", cluster.certificate_authority_data, cluster.certificate_authority
        ),
        client_certificate=_content(path, "client-certificate", user.client_certificate_data, user.client_certificate),
        client_key=_content(path, "client-key", user.client_key_data, user.client_key),
        token=user.token or (_content(path, "tokenFile", "", user.token_file) or b"").decode().strip(),
        namespace=named.namespace or "default",
        tls_server_name=cluster.tls_server_name,
        insecure_skip_tls_verify=cluster.insecure_skip_tls_verify,
        context=chosen,
    )


def write_kubeconfig(config: Kubeconfig, path: Path) -> None:
    """Write a kubeconfig with this one context, certificates embedded: mode 0600, whole or not at all."""
    name = config.context
    cluster = _Cluster(
        server=config.server,
        certificate_authority_data=_embed(config.certificate_authority),
        insecure_skip_tls_verify=config.insecure_skip_tls_verify,
        tls_server_name=config.tls_server_name,
    )
    user = _User(
        client_certificate_data=_embed(config.client_certificate),
        client_key_data=_embed(config.client_key),
        token=config.token,
    )
    file = _File(
        api_version="v1",
        kind="Config",
        clusters=[_NamedCluster(name=name, cluster=cluster)],
        contexts=[_NamedContext(name=name, context=_Context(cluster=name, user=name, namespace=config.namespace))],
        users=[_NamedUser(name=name, user=user)],
        current_context=name,
    )
    _replace(path, yaml.safe_dump(msgspec.to_builtins(file), sort_keys=False).encode())


_Named = TypeVar("_Named", _NamedCluster, _NamedUser, _NamedContext)


def _find(entries: Sequence[_Named] | None, name: str, what: str, path: Path) -> _Named:
    found = next((entry for entry in entries or () if entry.name == name), None)
    if found is None:
        known = ", ".join(entry.name for entry in entries or ()) or "none"
        raise KubeconfigError(f"{path} has no {what} named {name!r} (it has: {known})")
    return found


def _refuse_what_we_cannot_do(user: _User, name: str, path: Path) -> None:
    for what, present in (("exec", user.exec), ("auth-provider", user.auth_provider), ("username", user.username)):
        if present:
            raise KubeconfigError(
                f"{path}: user {name} authenticates with {what}, which is not supported; "
                "use a client certificate or a token"
            )


def _content(path: Path, what: str, data: str, file: str) -> bytes | None:
    """Embedded data wins over a file; a relative file is next to the kubeconfig (client-go does both)."""
    if data:
        try:
            return base64.b64decode(data, validate=True)
        except binascii.Error as error:
            raise KubeconfigError(f"{path}: {what}-data is not base64: {error}") from error
    if not file:
        return None
    try:
        return (path.parent / file).read_bytes()
    except OSError as error:
        raise KubeconfigError(f"{path}: cannot read {what} {file}: {error.strerror}") from error


def _embed(content: bytes | None) -> str:
    return base64.b64encode(content).decode() if content else ""


def _replace(path: Path, content: bytes) -> None:
    # mkstemp makes the file with mode 0600.
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
