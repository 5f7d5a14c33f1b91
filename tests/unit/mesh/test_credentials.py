import base64

import pytest

from pilotfish.api.core import Secret
from pilotfish.api.meta import ObjectMeta
from pilotfish.mesh.credentials import KeyPair, Roots, Unusable, credential, resource_name, roots_name, secret_names


def a_secret(name="web", **data):
    encoded = {key.replace("_", "."): base64.b64encode(value).decode() for key, value in data.items()}
    return Secret(metadata=ObjectMeta(name=name, namespace="istio-system"), data=encoded)


def within(*secrets):
    return {secret.name: secret for secret in secrets}.get


@pytest.mark.parametrize(
    ("reference", "certificate", "roots"),
    [
        ("web", "kubernetes://web", "kubernetes://web-cacert"),
        ("kubernetes://web", "kubernetes://web", "kubernetes://web-cacert"),
        ("sds://web", "kubernetes://web", "kubernetes://web-cacert"),
        ("web-cacert", "kubernetes://web-cacert", "kubernetes://web-cacert"),
    ],
)
def test_the_names_under_which_proxies_ask(reference, certificate, roots):
    assert (resource_name(reference), roots_name(reference)) == (certificate, roots)


def test_secrets_of_every_layout_are_taken():
    tls = a_secret(tls_crt=b"C", tls_key=b"K", ca_crt=b"R", ca_crl=b"X")
    generic = a_secret(cert=b"C", key=b"K", cacert=b"R", crl=b"X")
    for secret in (tls, generic):
        assert credential("kubernetes://web", within(secret)) == KeyPair(b"C", b"K")
        assert credential("kubernetes://web-cacert", within(secret)) == Roots(b"R", b"X")
    stapled = Secret(metadata=tls.metadata, data={**tls.data, "tls.ocsp-staple": base64.b64encode(b"S").decode()})
    assert credential("kubernetes://web", within(stapled)) == KeyPair(b"C", b"K", b"S")


def test_roots_come_from_a_secret_of_their_own_before_the_servers():
    own = a_secret("web-cacert", cacert=b"OWN")
    server = a_secret(cert=b"C", key=b"K", cacert=b"R")
    assert secret_names("kubernetes://web-cacert") == ("web-cacert", "web")
    assert credential("kubernetes://web-cacert", within(own, server)) == Roots(b"OWN")
    assert credential("kubernetes://web-cacert", within(server)) == Roots(b"R")


@pytest.mark.parametrize(
    ("resource", "secrets", "message"),
    [
        ("kubernetes://web", (), "there is no Secret web"),
        ("kubernetes://web-cacert", (), "there is no Secret web-cacert or web"),
        ("kubernetes://web", (a_secret(tls_crt=b"C", tls_key=b""),), "neither tls.crt and tls.key nor cert and key"),
        ("kubernetes://web-cacert", (a_secret(tls_crt=b"C"),), r"neither ca\.crt nor cacert; it has tls\.crt"),
        ("kubernetes://web", (Secret(metadata=a_secret().metadata, data={"cert": "=", "key": "="}),), "not base64"),
    ],
)
def test_what_a_secret_lacks_is_said(resource, secrets, message):
    with pytest.raises(Unusable, match=message):
        credential(resource, within(*secrets))


def test_keys_do_not_show():
    assert "sesame" not in repr(KeyPair(b"C", b"sesame"))
