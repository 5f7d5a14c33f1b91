"""All the certificates that a mesh's own processes need, in one call at `pilotfish up`."""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Callable, Iterable

from pilotfish.home import Home, Settings
from pilotfish.pki.authority import Authority, SubjectNames, needs_renewal, utc_now
from pilotfish.pki.files import Files, KeyFiles, KeyPair
from pilotfish.pki.identity import node_identity

LOOPBACK = "127.0.0.1"
XDS_SERVER_NAME = "istiod.istio-system.svc"
"""The name that proxies expect of the xDS server, whatever address they reach it by."""


def provision(
    home: Home, settings: Settings, *, extra_ips: Iterable[str] = (), now: dt.datetime | None = None
) -> Files:
    """Make what is missing in `$HOME/pki` and renew what ends soon or bears names that no longer fit the settings.

    `extra_ips` are further addresses at which the API server is reached. Calling it again changes nothing that is
    still good. Returns where everything lies.
    """
    at = now or utc_now()
    files = Files(home.pki)
    authority = Authority.at(files, name=settings.trust_domain, now=at)

    def server(common_name: str, names: SubjectNames, to: KeyFiles) -> None:
        _keep(to, authority, names, at, lambda: authority.issue_server(common_name, names, now=at))

    def client(common_name: str, organisation: str, names: SubjectNames, to: KeyFiles) -> None:
        _keep(to, authority, names, at, lambda: authority.issue_client(common_name, organisation, names, now=at))

    server("kube-apiserver", api_server_names(settings, extra_ips), files.api_server)
    server(XDS_SERVER_NAME, xds_server_names(settings), files.xds_server)
    server(node_user(settings), node_server_names(settings), files.node_server)
    client("kubernetes-admin", "system:masters", SubjectNames(), files.admin)
    client("pilotfish-apiserver", "", SubjectNames(), files.api_server_client)
    identity = SubjectNames.of(uris=[str(node_identity(settings.trust_domain))])
    client(node_user(settings), "system:nodes", identity, files.node)
    return files


def node_user(settings: Settings) -> str:
    """The node agent's user name, as Kubernetes' node authorizer wants it."""
    return f"system:node:{settings.node_name}"


def api_server_names(settings: Settings, extra_ips: Iterable[str] = ()) -> SubjectNames:
    """What clients call the API server: on the host, and from pods through the Service `kubernetes`."""
    service = "kubernetes.default.svc"
    names = ["localhost", "kubernetes", "kubernetes.default", service, f"{service}.{settings.cluster_domain}"]
    service_ip = str(ipaddress.ip_network(settings.service_cidr)[1])
    return SubjectNames.of(dns=names, ips=[LOOPBACK, "::1", service_ip, settings.gateway_ip, *extra_ips])


def xds_server_names(settings: Settings) -> SubjectNames:
    names = [XDS_SERVER_NAME, "istiod.istio-system", f"{XDS_SERVER_NAME}.{settings.cluster_domain}", "localhost"]
    return SubjectNames.of(dns=names, ips=[LOOPBACK, settings.gateway_ip])


def node_server_names(settings: Settings) -> SubjectNames:
    return SubjectNames.of(dns=[settings.node_name, "localhost"], ips=[LOOPBACK, settings.gateway_ip])


def _keep(
    files: KeyFiles, authority: Authority, names: SubjectNames, at: dt.datetime, issue: Callable[[], KeyPair]
) -> None:
    try:
        pair = files.load()
    except FileNotFoundError:
        files.save(issue())
        return
    if needs_renewal(pair, authority, names, at):
        files.save(issue())
