from __future__ import annotations

import datetime as dt
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from cryptography.x509.verification import PolicyBuilder, Store

from pilotfish.pki.authority import ROOT_LIFETIME, Authority, SubjectNames
from pilotfish.pki.files import Files
from pilotfish.pki.identity import Identity

WEB = Identity("cluster.local", "default", "web")
NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def signing_request(
    *uris: str, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None, common_name: str = ""
) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else [])
    )
    if uris:
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri) for uri in uris])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(key or ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()).public_bytes(
        serialization.Encoding.PEM
    )


def test_the_root_is_made_once_and_its_key_is_private(tmp_path: Path) -> None:
    files = Files(tmp_path / "pki")
    first = Authority.at(files, now=NOW)
    assert Authority.at(files, now=NOW).certificate == first.certificate
    assert stat.S_IMODE(files.ca_key.stat().st_mode) == 0o600
    assert sorted(path.name for path in files.folder.iterdir()) == ["ca.crt", "ca.key"]


def test_processes_that_start_at_once_agree_on_one_root(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: Authority.at(Files(tmp_path), now=NOW).pem, range(16)))
    assert len(set(made)) == 1


def test_a_root_that_ends_is_renewed_with_the_same_key(tmp_path: Path) -> None:
    first = Authority.at(Files(tmp_path), now=NOW)
    later = Authority.at(Files(tmp_path), now=NOW + ROOT_LIFETIME)
    assert later.certificate.not_valid_after_utc == NOW + 2 * ROOT_LIFETIME
    assert later.certificate.public_key() == first.certificate.public_key()


def test_a_root_that_belongs_to_another_key_is_named(tmp_path: Path) -> None:
    Authority.at(Files(tmp_path / "a"))
    Authority.at(Files(tmp_path / "b"))
    (tmp_path / "a/ca.key").rename(tmp_path / "b/ca.key")
    with pytest.raises(ValueError, match=r"ca\.crt does not belong to .*ca\.key"):
        Authority.at(Files(tmp_path / "b"))


def test_a_server_certificate_verifies_for_its_names_only(tmp_path: Path) -> None:
    authority = Authority.at(Files(tmp_path), now=NOW)
    pair = authority.issue_server("api", SubjectNames.of(dns=["localhost"], ips=["127.0.0.1"]), now=NOW)
    policy = PolicyBuilder().store(Store([authority.certificate])).time(NOW)
    leaf = x509.load_pem_x509_certificate(pair.certificate)
    policy.build_server_verifier(x509.DNSName("localhost")).verify(leaf, [])
    with pytest.raises(x509.verification.VerificationError):
        policy.build_server_verifier(x509.DNSName("elsewhere")).verify(leaf, [])


def test_a_client_certificate_names_user_and_group(tmp_path: Path) -> None:
    authority = Authority.at(Files(tmp_path))
    leaf = x509.load_pem_x509_certificate(authority.issue_client("kubernetes-admin", "system:masters").certificate)
    assert leaf.subject.rfc4514_string() == "CN=kubernetes-admin,O=system:masters"


def test_a_workload_certificate_names_the_identity_alone(tmp_path: Path) -> None:
    authority = Authority.at(Files(tmp_path), now=NOW)
    chain = authority.sign_workload(signing_request(str(WEB), common_name="ignored"), WEB, now=NOW)
    leaf, root = x509.load_pem_x509_certificates(chain)
    assert SubjectNames.within(leaf) == SubjectNames.of(uris=[str(WEB)])
    assert not len(leaf.subject)
    assert root == authority.certificate
    assert leaf.not_valid_before_utc < NOW
    assert leaf.not_valid_after_utc == NOW + dt.timedelta(hours=24)
    verifier = PolicyBuilder().store(Store([root])).time(NOW).build_client_verifier()
    assert verifier.verify(leaf, []).subjects == [x509.UniformResourceIdentifier(str(WEB))]


@pytest.mark.parametrize(("asked", "given"), [(1, 1), (24, 24), (1000, 24)])
def test_a_workload_certificate_lives_a_day_at_most(tmp_path: Path, asked: int, given: int) -> None:
    authority = Authority.at(Files(tmp_path), now=NOW)
    chain = authority.sign_workload(signing_request(), WEB, dt.timedelta(hours=asked), now=NOW)
    leaf = x509.load_pem_x509_certificate(chain)
    assert leaf.not_valid_after_utc == NOW + dt.timedelta(hours=given)


def test_requests_that_ask_for_more_are_refused(tmp_path: Path) -> None:
    authority = Authority.at(Files(tmp_path))
    other = "spiffe://cluster.local/ns/default/sa/admin"
    with pytest.raises(ValueError, match=r"asks for spiffe://cluster.local/ns/default/sa/admin; only .*sa/web can be"):
        authority.sign_workload(signing_request(str(WEB), other), WEB)
    with pytest.raises(ValueError, match="not PEM-encoded"):
        authority.sign_workload(b"nonsense", WEB)
    with pytest.raises(ValueError, match="1024 bits is too short"):
        authority.sign_workload(signing_request(key=rsa.generate_private_key(65537, 1024)), WEB)
