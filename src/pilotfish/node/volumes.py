"""A pod's volumes: what is mounted where, and the files that are made for it.

All containers of a pod share one view of the file system, the host's with the pod's mounts in it; so a volume that one
container mounts is seen by the others too, and two volumes cannot be at one place. Files of config maps and secrets are
those of the moment at which the pod's sandbox was made.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from pilotfish.api.pods import Container, Pod, VolumeMount
from pilotfish.node import proxy
from pilotfish.node.environment import ConfigError, Sources, field
from pilotfish.node.sandbox import Bind, PodFolder, write_private

DEFAULT_MODE = 0o644
_OFFERED = ("emptyDir", "configMap", "secret", "downwardAPI", "projected", "hostPath")
_SHARED = 0o777


def references(pod: Pod) -> tuple[frozenset[str], frozenset[str]]:
    """The names of the (config maps, secrets) that the pod's mounted volumes are made of."""
    maps, secrets = set(), set()
    for volume in _mounted(pod).values():
        for source in _sources(volume):
            if config_map := source.get("configMap"):
                maps.add(str(config_map.get("name", "")))
            if secret := source.get("secret"):
                secrets.add(str(secret.get("secretName") or secret.get("name", "")))
    return frozenset(maps), frozenset(secrets)


def make(pod: Pod, folder: PodFolder, sources: Sources) -> tuple[Bind, ...]:
    """Make the volumes' files in the pod's folder; returns what is to be mounted. Raises ConfigError or OSError."""
    volumes = {}
    for name, volume in _mounted(pod).items():
        try:
            volumes[name] = _make(pod, name, volume, folder, sources)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ConfigError(f'volume "{name}" is not written as its kind wants it: {error!r}') from error
    binds: dict[str, tuple[str, Bind]] = {}
    for container, mount in _mounts(pod):
        if mount.name not in volumes:
            raise ConfigError(f'container "{container.name}" mounts volume "{mount.name}", which the pod does not have')
        source = _within(volumes[mount.name], mount)
        target = str(PurePosixPath(mount.mount_path))
        if not target.startswith("/") or ".." in PurePosixPath(target).parts:
            raise ConfigError(f'mountPath "{mount.mount_path}" of container "{container.name}" is not an absolute path')
        other, known = binds.get(target, (container.name, None))
        bind = Bind(str(source), target, mount.read_only)
        if known is not None and known != bind:
            raise ConfigError(
                f'containers "{other}" and "{container.name}" mount different things at {target}: '
                "the containers of a pod share one file system here"
            )
        binds[target] = (container.name, bind)
    # What is mounted inside another mount has to come after it.
    return tuple(bind for _, (_, bind) in sorted(binds.items()))


def _mounts(pod: Pod) -> Iterator[tuple[Container, VolumeMount]]:
    """Every mount, but the proxy's: the node gives it its files itself."""
    own = proxy.proxy_container(pod)
    for container in (*pod.spec.init_containers, *pod.spec.containers):
        if container != own:
            for mount in container.volume_mounts:
                yield container, mount


def _mounted(pod: Pod) -> dict[str, Mapping[str, Any]]:
    """The volumes that some container mounts, by name."""
    wanted = {mount.name for _, mount in _mounts(pod)}
    return {volume["name"]: volume for volume in pod.spec.volumes or () if volume.get("name") in wanted}


def _sources(volume: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    projected = volume.get("projected")
    return list(projected.get("sources") or ()) if projected is not None else [volume]


def _make(pod: Pod, name: str, volume: Mapping[str, Any], folder: PodFolder, sources: Sources) -> Path:
    if (host := volume.get("hostPath")) is not None:
        path = Path(str(host.get("path", "")))
        if not path.is_absolute() or not path.exists():
            raise ConfigError(f'volume "{name}": hostPath "{path}" does not exist on this host')
        return path
    if not any(kind in volume for kind in _OFFERED):
        kinds = ", ".join(key for key in volume if key != "name")
        raise ConfigError(
            f'volume "{name}" is of a kind that is not offered ({kinds}); there are {", ".join(_OFFERED)}'
        )
    path = folder.path / "volumes" / name
    path.mkdir(parents=True, exist_ok=True)
    if "emptyDir" in volume:
        path.chmod(_SHARED)  # whichever user a container runs as, as the kubelet makes it
        return path
    path.chmod(0o755)
    mode = _mode(volume)
    for source in _sources(volume):
        for file, content, own_mode in _files(pod, name, source, sources):
            write_private(path / file, content, own_mode if own_mode is not None else mode)
    return path


def _mode(volume: Mapping[str, Any]) -> int:
    held: Mapping[str, Any] = next((volume[kind] for kind in _OFFERED if isinstance(volume.get(kind), Mapping)), {})
    return int(held.get("defaultMode") or DEFAULT_MODE)


def _files(
    pod: Pod, volume: str, source: Mapping[str, Any], sources: Sources
) -> Iterator[tuple[str, bytes, int | None]]:
    """(path, content, mode) of each file of one source."""
    if (config_map := source.get("configMap")) is not None:
        name = str(config_map.get("name", ""))
        held = sources.config_maps.get(name)
        binary = {key: base64.b64decode(value) for key, value in held.binary_data.items()} if held else {}
        data = {**{key: value.encode() for key, value in held.data.items()}, **binary} if held else None
        yield from _chosen(volume, "configmap", name, data, config_map)
    elif (secret := source.get("secret")) is not None:
        name = str(secret.get("secretName") or secret.get("name", ""))
        kept = sources.secrets.get(name)
        data = {key: base64.b64decode(value) for key, value in kept.data.items()} if kept else None
        yield from _chosen(volume, "secret", name, data, secret)
    elif (downward := source.get("downwardAPI")) is not None:
        for item in downward.get("items") or ():
            reference = item.get("fieldRef")
            if reference is None:
                raise ConfigError(f'volume "{volume}": a downwardAPI item needs a fieldRef here')
            yield _relative(volume, item["path"]), _field(pod, reference["fieldPath"], sources), item.get("mode")
    else:
        kinds = ", ".join(source)
        raise ConfigError(f'volume "{volume}": projected sources are configMap, secret and downwardAPI, not {kinds}')


def _chosen(
    volume: str, kind: str, name: str, data: Mapping[str, bytes] | None, source: Mapping[str, Any]
) -> Iterator[tuple[str, bytes, int | None]]:
    if data is None:
        if source.get("optional"):
            return
        raise ConfigError(f'volume "{volume}": {kind} "{name}" not found')
    items = source.get("items")
    if not items:
        yield from ((_relative(volume, key), content, None) for key, content in data.items())
        return
    for item in items:
        if item["key"] not in data:
            if source.get("optional"):
                continue
            raise ConfigError(f'volume "{volume}": {kind} "{name}" has no key {item["key"]}')
        yield _relative(volume, item["path"]), data[item["key"]], item.get("mode")


def _field(pod: Pod, path: str, sources: Sources) -> bytes:
    if path in ("metadata.labels", "metadata.annotations"):
        held = pod.metadata.labels if path == "metadata.labels" else pod.metadata.annotations
        return "\n".join(f'{key}="{value}"' for key, value in sorted(held.items())).encode()
    return field(pod, path, sources).encode()


def _within(volume: Path, mount: VolumeMount) -> Path:
    """What of a volume is mounted: all of it, or its subPath, which is made where it is missing."""
    if mount.sub_path_expr:
        raise ConfigError(f"subPathExpr of the mount at {mount.mount_path} is not offered; use subPath")
    if not mount.sub_path:
        return volume
    path = volume / _relative(mount.name, mount.sub_path)
    if not path.exists():
        path.mkdir(parents=True)
    return path


def _relative(volume: str, path: str) -> str:
    if not path or PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        raise ConfigError(f'volume "{volume}": "{path}" leads out of the volume')
    return path
