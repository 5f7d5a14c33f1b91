"""From a container of a pod to the process that it is."""

from __future__ import annotations

import pwd
import uuid
from collections.abc import Mapping
from typing import Any

from pilotfish.api.pods import Container, Pod
from pilotfish.api.proxy_files import PROXY_DIRECTORY
from pilotfish.node import proxy
from pilotfish.node.capture import PROXY_ID
from pilotfish.node.environment import DEFAULT_PATH, ConfigError, expand
from pilotfish.node.images import Image
from pilotfish.node.runtime import ContainerSpec


def container_spec(
    pod: Pod, container: Container, env: Mapping[str, str], image: Image | None, *, hostname: str, attempt: int
) -> ContainerSpec:
    """How to start a container. `env` is its own environment, resolved; `image` None is one that needs no entry.

    Raises ConfigError for what cannot be started as it is written.
    """
    is_proxy = proxy.proxy_container(pod) == container
    uid, gid, groups = _user(pod, container, PROXY_ID if is_proxy else None)
    full = {
        "PATH": f"{PROXY_DIRECTORY}:{DEFAULT_PATH}" if is_proxy else DEFAULT_PATH,
        "HOSTNAME": hostname,
        "HOME": _home(uid),
        **(image.env if image else {}),
        **env,
    }
    if is_proxy:
        arguments = proxy.parse_arguments([expand(text, full) for text in container.args])
        argv = proxy.envoy_arguments(arguments, proxy.proxy_config(full), proxy.concurrency(container, full))
    else:
        command = container.command or (image.command if image else ())
        argv = tuple(expand(text, full) for text in (*command, *container.args)) if command is container.command else (
            *command, *(expand(text, full) for text in container.args)
        )  # fmt: skip
    if not argv:
        raise ConfigError(f'container "{container.name}" has no command')
    return ContainerSpec(
        name=container.name,
        id=uuid.uuid4().hex + uuid.uuid4().hex,
        attempt=attempt,
        argv=argv,
        env=full,
        cwd=container.working_dir or (image.workdir if image else "/"),
        uid=uid,
        gid=gid,
        groups=groups,
        tty=container.tty,
        stdin=container.stdin,
        log=f"logs/{container.name}/{attempt}.log",
    )


def _user(pod: Pod, container: Container, default: int | None) -> tuple[int | None, int | None, tuple[int, ...]]:
    """(uid, gid, supplementary groups) as the security contexts say; None is root, who we are."""
    whole: Mapping[str, Any] = pod.spec.security_context or {}
    own = container.security_context
    uid = own.run_as_user if own and own.run_as_user is not None else whole.get("runAsUser", default)
    gid = own.run_as_group if own and own.run_as_group is not None else whole.get("runAsGroup", default)
    if uid is not None and gid is None:
        gid = _group_of(uid)
    non_root = own.run_as_non_root if own and own.run_as_non_root is not None else whole.get("runAsNonRoot")
    if non_root and not uid:
        raise ConfigError("container has runAsNonRoot and would run as root: set runAsUser")
    groups = tuple(whole.get("supplementalGroups") or ())
    if whole.get("fsGroup") is not None:
        groups += (whole["fsGroup"],)
    return uid, gid, (gid, *groups) if gid is not None else groups


def _group_of(uid: int) -> int:
    try:
        return pwd.getpwuid(uid).pw_gid
    except KeyError:
        return 0  # as container runtimes do for a user without an entry


def _home(uid: int | None) -> str:
    try:
        return pwd.getpwuid(uid or 0).pw_dir
    except KeyError:
        return "/"
