from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import ssl
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pilotfish.api.errors import AlreadyExists, Conflict, Expired, NotFound, ServiceUnavailable
from pilotfish.api.kinds import POD
from pilotfish.api.meta import ObjectMeta
from pilotfish.api.pods import Pod
from pilotfish.client.client import Client, WatchEvent
from pilotfish.client.http import HTTPClient
from pilotfish.client.kubeconfig import Kubeconfig

Serve = Callable[..., Any]


def test_objects_are_created_read_replaced_and_deleted(fake_api: Serve) -> None:
    async def run() -> None:
        async with fake_api() as server:
            client: Client = HTTPClient(server.config)
            created = await client.create(POD, Pod(metadata=ObjectMeta(name="web", namespace="default")))
            assert (created.kind, created.metadata.resource_version) == ("Pod", "1")
            assert await client.get(POD, "web", "default") == created
            with pytest.raises(AlreadyExists, match='pods "web" already exists'):
                await client.create(POD, {"metadata": {"name": "web"}}, "default")
            document = {"metadata": {"name": "web", "namespace": "default", "resourceVersion": "1"}}
            assert (await client.update(POD, document)).metadata.resource_version == "2"
            with pytest.raises(Conflict):
                await client.update(POD, document)
            await client.delete(POD, "web", "default", uid="u", grace_period_seconds=0)
            *_, body = server.requests[-1]
            assert msgspec.json.decode(body) == {
                "apiVersion": "v1",
                "kind": "DeleteOptions",
                "preconditions": {"uid": "u"},
                "gracePeriodSeconds": 0,
            }
            with pytest.raises(NotFound):
                await client.get(POD, "web", "default")
            await client.close()

    asyncio.run(run())


def test_a_patch_says_which_it_is(fake_api: Serve) -> None:
    async def run() -> None:
        async with fake_api() as server:
            await server.put("pods", "web")
            client = HTTPClient(server.config)
            await client.patch(POD, "web", "default", {"status": {"phase": "Running"}}, subresource="status")
            await client.patch(POD, "web", "default", [{"op": "remove", "path": "/spec"}])
            merge, json_patch = server.requests
            assert merge[:2] == ("PATCH", "/api/v1/namespaces/default/pods/web/status")
            assert merge[3:] == ("application/merge-patch+json", b'{"status":{"phase":"Running"}}')
            assert json_patch[3] == "application/json-patch+json"
            await client.close()

    asyncio.run(run())


def test_lists_and_watches_continue_each_other(fake_api: Serve) -> None:
    async def run() -> None:
        async with fake_api() as server:
            await server.put("pods", "a", metadata={"labels": {"app": "web"}})
            await server.put("pods", "b")
            client = HTTPClient(server.config)
            listing = await client.list(POD, labels="app=web", fields="metadata.name!=x")
            assert [p.name for p in listing.items] == ["a"]
            assert server.requests[-1][2] == {"labelSelector": "app=web", "fieldSelector": "metadata.name!=x"}
            await server.remove("pods", "b")
            async with aclosing(client.watch(POD, resource_version=listing.resource_version)) as events:
                event = await anext(events)
            assert isinstance(event, WatchEvent)
            assert event.object is not None
            assert (event.type, event.object.name, event.resource_version) == ("DELETED", "b", "3")
            params = server.requests[-1][2]
            assert params["allowWatchBookmarks"] == "true"
            assert 300 <= int(params["timeoutSeconds"]) <= 600
            await client.close()

    asyncio.run(run())


def test_a_watch_that_cannot_be_continued_is_expired(fake_api: Serve, until: Serve) -> None:
    async def run() -> None:
        async with fake_api(history=2) as server:
            for name in "abcd":
                await server.put("pods", name)
            client = HTTPClient(server.config)
            # Refused from the start, by the answer's code.
            with pytest.raises(Expired):
                await anext(client.watch(POD, resource_version="1"))
            # Ended later, by an event.
            watch = client.watch(POD, resource_version="4")
            first = asyncio.ensure_future(anext(watch))
            await until(lambda: server.requests[-1][2]["resourceVersion"] == "4")
            await asyncio.gather(*(server.put("pods", str(n)) for n in range(4)))
            with pytest.raises(Expired):
                await first
            await client.close()

    asyncio.run(run())


def test_a_broken_connection_is_service_unavailable(fake_api: Serve) -> None:
    async def run() -> None:
        async with fake_api() as server:
            await server.put("pods", "web")
            client = HTTPClient(server.config)
            watch = client.watch(POD, resource_version="0")
            assert (await anext(watch)).resource_version == "1"
            server.drop_connections()
            with pytest.raises(ServiceUnavailable, match="cannot reach http://127"):
                await anext(watch)
            await server.stop()
            with pytest.raises(ServiceUnavailable, match="cannot reach http://127"):
                await client.get(POD, "web", "default")
            await client.close()

    asyncio.run(run())


def test_raw_requests(fake_api: Serve) -> None:
    async def run() -> None:
        async with fake_api() as server:
            path = "/api/v1/namespaces/default/pods/web/log"
            server.answer[path] = (200, b"one\n\ntwo\n")
            server.answer["/version"] = (200, b'{"major":"1"}')
            server.answer["/broken"] = (502, b"bad gateway")
            client = HTTPClient(server.config)
            assert [line async for line in client.stream_lines(path, {"follow": "true"})] == [b"one", b"", b"two"]
            assert server.requests[-1][2] == {"follow": "true"}
            assert await client.request_json("GET", "/version") == {"major": "1"}
            with pytest.raises(Exception, match="the server answered 502: bad gateway"):
                await client.request("GET", "/broken")
            with pytest.raises(NotFound):
                _ = [line async for line in client.stream_lines("/api/v1/namespaces/default/pods/none/log")]
            await client.close()

    asyncio.run(run())


def certificate(name: str, issuer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None) -> tuple[bytes, bytes]:
    """(certificate, key) in PEM, signed by the issuer or by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=1))
        .not_valid_after(now + dt.timedelta(minutes=5))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .sign(issuer[1] if issuer else key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return signed.public_bytes(serialization.Encoding.PEM), private


def test_mutual_tls(fake_api: Serve, tmp_path: Path) -> None:
    authority, authority_key = certificate("ca", None)
    loaded = serialization.load_pem_private_key(authority_key, None)
    assert isinstance(loaded, ec.EllipticCurvePrivateKey)
    issuer = (x509.load_pem_x509_certificate(authority), loaded)
    serving, client_pair = certificate("server", issuer), certificate("admin", issuer)
    names = {"ca": authority, "crt": serving[0], "key": serving[1]}
    for name, content in names.items():
        (tmp_path / name).write_bytes(content)

    async def run() -> None:
        options = {
            "ssl_certfile": str(tmp_path / "crt"),
            "ssl_keyfile": str(tmp_path / "key"),
            "ssl_ca_certs": str(tmp_path / "ca"),
            "ssl_cert_reqs": ssl.CERT_REQUIRED,
        }
        async with fake_api(**options) as server:
            url = server.config.server
            assert url.startswith("https:")
            known = Kubeconfig(
                url, certificate_authority=authority, client_certificate=client_pair[0], client_key=client_pair[1]
            )
            client = HTTPClient(known)
            assert (await client.list(POD)).items == ()
            await client.close()
            nobody = HTTPClient(Kubeconfig(url, certificate_authority=authority))
            with pytest.raises(ServiceUnavailable):
                await nobody.list(POD)
            await nobody.close()
            trusting_others = HTTPClient(Kubeconfig(url))
            with pytest.raises(ServiceUnavailable, match="certificate verify failed"):
                await trusting_others.list(POD)
            await trusting_others.close()

    asyncio.run(run())


def test_certificates_that_cannot_be_used_are_named() -> None:
    with pytest.raises(ServiceUnavailable, match="kubeconfig context 'mesh' cannot be used"):
        HTTPClient(Kubeconfig("https://127.0.0.1:1", certificate_authority=b"nonsense", context="mesh"))
