"""A container's environment, as the kubelet makes it: service variables, envFrom, env with references, `$(VAR)`."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pilotfish.api.core import ConfigMap, Secret, Service
from pilotfish.api.pods import Container, EnvVar, Pod

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_REFERENCE = re.compile(r"\$(?:\$|\(([^()$\s]+)\))")
_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['(.+)'\]")
_QUANTITY = re.compile(r"([0-9.]+)(m|k|M|G|T|Ki|Mi|Gi|Ti)?")
_UNITS = {"m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


class ConfigError(Exception):
    """The container's configuration names something that is not there (Kubernetes: CreateContainerConfigError)."""


@dataclass(frozen=True)
class Sources:
    """What a container's environment may refer to besides its pod; config maps and secrets by name."""

    pod_ip: str
    host_ip: str
    config_maps: Mapping[str, ConfigMap]
    secrets: Mapping[str, Secret]
    services: tuple[Service, ...] = ()
    """Those of the pod's namespace, and `kubernetes` of namespace default."""


def resolve(pod: Pod, container: Container, sources: Sources) -> dict[str, str]:
    """The variables in full. Raises ConfigError."""
    links = pod.spec.enable_service_links is not False
    env = service_variables(
        service
        for service in sources.services
        if links or (service.namespace, service.name) == ("default", "kubernetes")
    )
    for source in container.env_from:
        if source.config_map_ref is not None:
            found = sources.config_maps.get(source.config_map_ref.name)
            data = dict(found.data) if found else None
            kind, name, optional = "configmap", source.config_map_ref.name, source.config_map_ref.optional
        elif source.secret_ref is not None:
            held = sources.secrets.get(source.secret_ref.name)
            data = {key: _decoded(value) for key, value in held.data.items()} if held else None
            kind, name, optional = "secret", source.secret_ref.name, source.secret_ref.optional
        else:
            continue
        if data is None and not optional:
            raise ConfigError(f'{kind} "{name}" not found')
        env.update({source.prefix + key: value for key, value in (data or {}).items()})
    for variable in container.env:
        value = _value(pod, container, variable, sources, env)
        if value is not None:
            env[variable.name] = value
    return env


def expand(text: str, env: Mapping[str, str]) -> str:
    """Replace each `$(NAME)` that `env` has; `$$` stands for a dollar sign, other references stay as they are."""

    def replacement(found: re.Match[str]) -> str:
        if found[1] is None:
            return "$"
        return env.get(found[1], found[0])

    return _REFERENCE.sub(replacement, text)


def service_variables(services: Iterable[Service]) -> dict[str, str]:
    """`{SVC}_SERVICE_HOST` and its like, and Docker's links (Kubernetes: pkg/kubelet/envvars)."""
    env: dict[str, str] = {}
    for service in services:
        ip = service.spec.cluster_ip
        if not ip or ip == "None" or not service.spec.ports:
            continue
        name = _upper(service.name)
        env[f"{name}_SERVICE_HOST"] = ip
        env[f"{name}_SERVICE_PORT"] = str(service.spec.ports[0].port)
        for position, port in enumerate(service.spec.ports):
            protocol = port.protocol or "TCP"
            url = f"{protocol.lower()}://{ip}:{port.port}"
            if port.name:
                env[f"{name}_SERVICE_PORT_{_upper(port.name)}"] = str(port.port)
            if position == 0:
                env[f"{name}_PORT"] = url
            prefix = f"{name}_PORT_{port.port}_{protocol}"
            env[prefix] = url
            env[f"{prefix}_PROTO"] = protocol.lower()
            env[f"{prefix}_PORT"] = str(port.port)
            env[f"{prefix}_ADDR"] = ip
    return env


def references(container: Container) -> tuple[frozenset[str], frozenset[str]]:
    """The names of the (config maps, secrets) that a container's environment refers to."""
    maps = {s.config_map_ref.name for s in container.env_from if s.config_map_ref}
    secrets = {s.secret_ref.name for s in container.env_from if s.secret_ref}
    for variable in container.env:
        if variable.value_from is not None and variable.value_from.config_map_key_ref is not None:
            maps.add(variable.value_from.config_map_key_ref.name)
        if variable.value_from is not None and variable.value_from.secret_key_ref is not None:
            secrets.add(variable.value_from.secret_key_ref.name)
    return frozenset(maps), frozenset(secrets)


def field(pod: Pod, path: str, sources: Sources) -> str:
    """The value of a downward API field, e.g. "metadata.labels['app']". Raises ConfigError for one that is unknown."""
    found = _SUBSCRIPT.fullmatch(path)
    if found is not None:
        held = pod.metadata.labels if found[1] == "labels" else pod.metadata.annotations
        return held.get(found[2], "")
    fields = {
        "metadata.name": pod.name,
        "metadata.namespace": pod.namespace,
        "metadata.uid": pod.metadata.uid,
        "spec.nodeName": pod.spec.node_name,
        "spec.serviceAccountName": pod.spec.service_account_name or "default",
        "status.hostIP": sources.host_ip,
        "status.hostIPs": sources.host_ip,
        "status.podIP": sources.pod_ip,
        "status.podIPs": sources.pod_ip,
    }
    if path not in fields:
        raise ConfigError(f'fieldPath "{path}" is not supported: one of {", ".join(fields)}')
    return fields[path]


def _value(pod: Pod, container: Container, variable: EnvVar, sources: Sources, env: Mapping[str, str]) -> str | None:
    """The value of one variable; None where an optional key is missing."""
    source = variable.value_from
    if source is None:
        return expand(variable.value, env)
    if source.field_ref is not None:
        return field(pod, source.field_ref.field_path, sources)
    if source.resource_field_ref is not None:
        reference = source.resource_field_ref
        owner = next((c for c in pod.spec.containers if c.name == reference.container_name), container)
        return _resource(owner, reference.resource, str(reference.divisor or "1"))
    if source.config_map_key_ref is not None:
        selector, kind = source.config_map_key_ref, "configmap"
        config_map = sources.config_maps.get(selector.name)
        data = dict(config_map.data) if config_map else None
    elif source.secret_key_ref is not None:
        selector, kind = source.secret_key_ref, "secret"
        secret = sources.secrets.get(selector.name)
        data = {key: _decoded(value) for key, value in secret.data.items()} if secret else None
    else:
        return ""
    if data is not None and selector.key in data:
        return data[selector.key]
    if selector.optional:
        return None
    if data is None:
        raise ConfigError(f'{kind} "{selector.name}" not found')
    raise ConfigError(f"couldn't find key {selector.key} in {kind} {pod.namespace}/{selector.name}")


def _resource(container: Container, resource: str, divisor: str) -> str:
    """A limit or request in units of the divisor, rounded up; where none is set, what the machine has."""
    kind, _, name = resource.partition(".")
    machine = {"cpu": str(os.cpu_count() or 1), "memory": str(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))}
    declared = container.resources if isinstance(container.resources, Mapping) else {}
    fallback = machine.get(name, "0") if kind == "limits" else "0"
    amount = str((declared.get(kind) or {}).get(name, fallback))
    return str(-int(-_quantity(amount) // (_quantity(divisor) or 1)))


def _quantity(text: str) -> float:
    found = _QUANTITY.fullmatch(text)
    if found is None:
        raise ConfigError(f'"{text}" is not a quantity such as 500m or 64Mi')
    return float(found[1]) * _UNITS.get(found[2] or "", 1)


def _decoded(value: str) -> str:
    return base64.b64decode(value).decode(errors="replace")


def _upper(name: str) -> str:
    return re.sub(r"[^A-Z0-9_]", "_", name.upper())
