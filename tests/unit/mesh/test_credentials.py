import base64

import pytest

from pilotfish.api.core import ConfigMap, Secret
from pilotfish.api.meta import ObjectMeta
from pilotfish.mesh.credentials import KeyPair, Roots, Unusable, credential, resource_name, roots_name, secret_keys
from pilotfish.mesh.records import SecretKey


def a_secret(name="web", **data):
    encoded = {key.replace("_", "."): base64.b64encode(value).decode() for key, value in data.items()}
    return Secret(metadata=ObjectMeta(name=name, namespace="istio-system"), data=encoded)


NAMESPACE = "istio-system"


def within(*objects):
    return {SecretKey(each.namespace, each.name, type(each).__name__): each for each in objects}.get


def taken(resource, *objects):
    return credential(resource, NAMESPACE, within(*objects))


@pytest.mark.parametrize(
    ("reference", "certificate", "roots"),
    [
        ("web", "kubernetes://web", "kubernetes://web-cacert"),
        ("kubernetes://web", "kubernetes://web", "kubernetes://web-cacert"),
        ("sds://web", "kubernetes://web", "kubernetes://web-cacert"),
        ("web-cacert", "kubernetes://web-cacert", "kubernetes://web-cacert"),
        ("configmap://a/web", "configmap://a/web", "configmap://a/web-cacert"),
    ],
)
def test_the_names_under_which_proxies_ask(reference, certificate, roots):
    assert (resource_name(reference), roots_name(reference)) == (certificate, roots)


def test_secrets_of_every_layout_are_taken():
    tls = a_secret(tls_crt=b"C", tls_key=b"K", ca_crt=b"R", ca_crl=b"X")
    generic = a_secret(cert=b"C", key=b"K", cacert=b"R", crl=b"X")
    for secret in (tls, generic):
        assert taken("kubernetes://web", secret) == KeyPair(b"C", b"K")
        assert taken("kubernetes://web-cacert", secret) == Roots(b"R", b"X")
    stapled = Secret(metadata=tls.metadata, data={**tls.data, "tls.ocsp-staple": base64.b64encode(b"S").decode()})
    assert taken("kubernetes://web", stapled) == KeyPair(b"C", b"K", b"S")


def test_roots_come_from_a_secret_of_their_own_before_the_servers():
    own = a_secret("web-cacert", cacert=b"OWN")
    server = a_secret(cert=b"C", key=b"K", cacert=b"R")
    keys = SecretKey(NAMESPACE, "web-cacert"), SecretKey(NAMESPACE, "web")
    assert secret_keys("kubernetes://web-cacert", NAMESPACE) == keys
    assert taken("kubernetes://web-cacert", own, server) == Roots(b"OWN")
    assert taken("kubernetes://web-cacert", server) == Roots(b"R")


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
        taken(resource, *secrets)


@pytest.mark.parametrize("resource", ["configmap://a/web-cacert", "configmap://web-cacert"])
def test_roots_in_a_config_map_are_as_they_are(resource):
    roots = ConfigMap(metadata=ObjectMeta(name="web", namespace="a"), data={"ca.crt": "R", "ca.crl": "X"})
    assert credential(resource, "a", within(roots)) == Roots(b"R", b"X")
    with pytest.raises(Unusable, match=r"there is no ConfigMap web \(namespace a\)"):
        credential(resource, "a", within())
    with pytest.raises(Unusable, match=r"ConfigMap web has neither ca\.crt nor cacert"):
        credential(resource, "a", within(ConfigMap(metadata=roots.metadata)))


def test_keys_do_not_show():
    assert "sesame" not in repr(KeyPair(b"C", b"sesame"))
