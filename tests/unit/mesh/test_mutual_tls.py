"""Identities of the mesh, and what MeshConfig says of its mutual TLS."""

from __future__ import annotations

import pytest

from pilotfish.api.errors import Invalid
from pilotfish.mesh.meshconfig import mesh_config
from pilotfish.mesh.mutual_tls import MutualTlsSettings, mutual_tls_settings

ALIASED = MutualTlsSettings(trust_domain="mesh.test", aliases=("old.test", "older.test"))


def test_an_identity_names_the_account() -> None:
    assert ALIASED.identity("shop", "web") == "spiffe://mesh.test/ns/shop/sa/web"


def test_the_same_identity_in_every_trust_domain() -> None:
    found = ALIASED.in_all_domains(frozenset({"spiffe://mesh.test/ns/a/sa/b", "web.test", "spiffe://nobody"}))
    assert found == (
        "spiffe://mesh.test/ns/a/sa/b",
        "spiffe://nobody",
        "spiffe://old.test/ns/a/sa/b",
        "spiffe://older.test/ns/a/sa/b",
        "web.test",
    )
    assert MutualTlsSettings().in_all_domains(frozenset({"spiffe://far.test/x"})) == ("spiffe://far.test/x",)


def test_each_trust_domain_once() -> None:
    assert ALIASED.trust_domains == ("mesh.test", "old.test", "older.test")
    assert MutualTlsSettings(trust_domain="a", aliases=("a", "b", "b")).trust_domains == ("a", "b")


def test_what_mesh_config_says() -> None:
    assert mutual_tls_settings(mesh_config({})) == MutualTlsSettings()
    said = {
        "trustDomain": "mesh.test",
        "enableAutoMtls": False,
        "meshMTLS": {"minProtocolVersion": "TLSV1_3", "cipherSuites": ["X"]},
    }
    found = mutual_tls_settings(mesh_config(said))
    assert found == MutualTlsSettings(False, "mesh.test", (), "TLSv1_3", ("X",))


@pytest.mark.parametrize(
    ("said", "where"),
    [
        ({"trustDomain": "Mesh.test"}, "trustDomain"),
        ({"trustDomain": ""}, "trustDomain"),
        ({"trustDomainAliases": ["a.test", "b/c"]}, r"trustDomainAliases\[1\]"),
        ({"meshMTLS": {"ecdhCurves": ["P-256"]}}, r"meshMTLS\.ecdhCurves"),
    ],
)
def test_what_it_cannot_say(said: dict[str, object], where: str) -> None:
    with pytest.raises(Invalid, match=where):
        mesh_config(said)
