"""A node asks for its pods' certificates, over a real connection with mutual TLS."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509

from pilotfish.api.errors import ApiError, Forbidden, ServiceUnavailable
from pilotfish.node.certificates import WorkloadCertificate, obtain
from pilotfish.pki.authority import Authority, SubjectNames
from pilotfish.pki.files import Files, KeyPair
from pilotfish.pki.identity import Identity, node_identity
from pilotfish.xds.certificates import certificate_service
from pilotfish.xds.server import mutual_tls, serving

WEB = Identity("cluster.local", "default", "web")
Ask = Callable[[KeyPair, str], Coroutine[Any, Any, WorkloadCertificate]]


def runs_on(node: str, identity: Identity) -> bool:
    return node == "laptop" and identity == WEB


def with_service(folder: Path, talk: Callable[[Authority, Ask], Coroutine[Any, Any, None]]) -> None:
    authority = Authority.at(Files(folder))
    server = authority.issue_server("istiod", SubjectNames.of(dns=["istiod.istio-system.svc"]))

    async def run() -> None:
        services = [certificate_service(authority, {"cluster.local"}, runs_on)]
        async with serving(services, "127.0.0.1:0", mutual_tls(server, authority.pem)) as port:

            async def ask(pair: KeyPair, identity: str) -> WorkloadCertificate:
                credentials = grpc.ssl_channel_credentials(authority.pem, pair.key, pair.certificate)
                return await obtain(f"127.0.0.1:{port}", credentials, identity)

            await talk(authority, ask)

    asyncio.run(run())


def agent(authority: Authority, node: str = "laptop") -> KeyPair:
    names = SubjectNames.of(uris=[str(node_identity("cluster.local"))])
    return authority.issue_client(f"system:node:{node}", "system:nodes", names)


def test_a_node_gets_the_certificate_of_a_pod_that_runs_on_it(tmp_path: Path) -> None:
    async def talk(authority: Authority, ask: Ask) -> None:
        got = await ask(agent(authority), str(WEB))
        leaf = x509.load_pem_x509_certificate(got.chain)
        assert SubjectNames.within(leaf) == SubjectNames.of(uris=[str(WEB)])
        assert got.root == authority.pem
        # The workload renews its own, with the certificate that it has.
        again = await ask(KeyPair(got.chain, got.key), str(WEB))
        assert again.key != got.key

    with_service(tmp_path, talk)


def test_others_are_told_why_they_get_none(tmp_path: Path) -> None:
    async def talk(authority: Authority, ask: Ask) -> None:
        with pytest.raises(Forbidden, match="node other has no pod with service account web in namespace default"):
            await ask(agent(authority, "other"), str(WEB))
        with pytest.raises(Forbidden, match="node laptop has no pod with service account admin"):
            await ask(agent(authority), "spiffe://cluster.local/ns/default/sa/admin")
        with pytest.raises(ApiError, match="ImpersonatedIdentity 'nobody' is not of the form"):
            await ask(agent(authority), "nobody")
        web = authority.issue_client("web", names=SubjectNames.of(uris=[str(WEB)]))
        with pytest.raises(Forbidden, match=r"sa/web is not a node agent and cannot ask for .*sa/admin"):
            await ask(web, "spiffe://cluster.local/ns/default/sa/admin")
        with pytest.raises(Forbidden, match="names 0 SPIFFE identities, not one"):
            await ask(authority.issue_client("kubernetes-admin"), str(WEB))

    with_service(tmp_path, talk)


def test_a_certificate_of_another_mesh_is_not_let_in(tmp_path: Path) -> None:
    async def talk(authority: Authority, ask: Ask) -> None:
        stranger = Authority.at(Files(tmp_path / "other"))
        with pytest.raises(ServiceUnavailable):
            await ask(agent(stranger), str(WEB))

    with_service(tmp_path / "pki", talk)
