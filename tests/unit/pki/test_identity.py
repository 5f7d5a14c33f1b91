from __future__ import annotations

import pytest

from pilotfish.pki.identity import Identity, node_identity


def test_an_identity_is_its_spiffe_uri() -> None:
    identity = Identity.parse("spiffe://cluster.local/ns/default/sa/web")
    assert identity == Identity("cluster.local", "default", "web")
    assert str(identity) == "spiffe://cluster.local/ns/default/sa/web"


def test_node_agents_have_one_identity() -> None:
    assert str(node_identity("example.org")) == "spiffe://example.org/ns/kube-system/sa/pilotfish-node"


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "https://cluster.local/ns/a/sa/b",
        "spiffe://cluster.local/ns/a",
        "spiffe://cluster.local/ns/a/sa/b/c",
        "spiffe://cluster.local/ns//sa/b",
        "spiffe://cluster.local/ns/A/sa/b",
        "spiffe://cluster.local/ns/a/sa/b\n",
        "spiffe://u@cluster.local/ns/a/sa/b",
    ],
)
def test_other_forms_are_refused(uri: str) -> None:
    with pytest.raises(ValueError, match="is not of the form"):
        Identity.parse(uri)
