from __future__ import annotations

import dataclasses
import datetime as dt
import stat
from pathlib import Path

import msgspec
from cryptography import x509

from pilotfish.home import Home, Settings
from pilotfish.pki.authority import SubjectNames
from pilotfish.pki.files import Files, KeyFiles, KeyPair
from pilotfish.pki.provision import provision

SETTINGS = Settings(
    node_name="laptop", api_port=6443, xds_port=15012, pod_cidr="10.73.0.0/16", service_cidr="10.96.0.0/16"
)
NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def issued(files: Files) -> dict[str, KeyPair]:
    pairs = ("api_server", "api_server_client", "xds_server", "admin", "node", "node_server")
    return {name: getattr(files, name).load() for name in pairs}


def leaf(pair: KeyFiles) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pair.load().certificate)


def test_everything_is_made_and_kept(tmp_path: Path) -> None:
    files = provision(Home(tmp_path), SETTINGS, now=NOW)
    first = issued(files)
    assert issued(provision(Home(tmp_path), SETTINGS, now=NOW + dt.timedelta(days=300))) == first
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in files.folder.glob("*.key"))


def test_names_are_those_that_clients_use(tmp_path: Path) -> None:
    files = provision(Home(tmp_path), SETTINGS, extra_ips=["192.0.2.7"], now=NOW)
    api = SubjectNames.within(leaf(files.api_server))
    assert api.dns == {
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    }
    assert api.ips == {"127.0.0.1", "::1", "10.96.0.1", "10.73.0.1", "192.0.2.7"}
    xds = SubjectNames.within(leaf(files.xds_server))
    assert {"istiod.istio-system.svc", "istiod.istio-system", "localhost"} <= xds.dns
    assert xds.ips == {"127.0.0.1", "10.73.0.1"}


def test_the_node_is_a_kubernetes_user_and_a_spiffe_identity(tmp_path: Path) -> None:
    node = leaf(provision(Home(tmp_path), SETTINGS, now=NOW).node)
    assert node.subject.rfc4514_string() == "CN=system:node:laptop,O=system:nodes"
    assert SubjectNames.within(node).uris == {"spiffe://cluster.local/ns/kube-system/sa/pilotfish-node"}


def test_what_ends_soon_is_renewed(tmp_path: Path) -> None:
    first = issued(provision(Home(tmp_path), SETTINGS, now=NOW))
    second = issued(provision(Home(tmp_path), SETTINGS, now=NOW + dt.timedelta(days=340)))
    assert all(first[name] != second[name] for name in first)


def test_names_that_no_longer_fit_renew_only_what_bears_them(tmp_path: Path) -> None:
    first = issued(provision(Home(tmp_path), SETTINGS, now=NOW))
    moved = msgspec.structs.replace(SETTINGS, pod_cidr="10.74.0.0/16")
    second = issued(provision(Home(tmp_path), moved, now=NOW))
    assert {name for name in first if first[name] != second[name]} == {"api_server", "xds_server", "node_server"}


def test_a_key_of_another_certificate_is_replaced(tmp_path: Path) -> None:
    files = provision(Home(tmp_path), SETTINGS, now=NOW)
    torn = dataclasses.replace(files.admin.load(), key=files.node.load().key)
    files.admin.save(torn)
    provision(Home(tmp_path), SETTINGS, now=NOW)
    assert files.admin.load() != torn
