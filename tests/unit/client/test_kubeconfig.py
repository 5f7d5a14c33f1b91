from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml

from pilotfish.client.kubeconfig import Kubeconfig, KubeconfigError, default_path, read_kubeconfig, write_kubeconfig


def document(**user: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "preferences": {},
        "clusters": [
            {"name": "c", "cluster": {"server": "https://127.0.0.1:6443/", "certificate-authority": "ca.pem"}}
        ],
        "users": [{"name": "u", "user": user}],
        "contexts": [
            {"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "web"}},
            {"name": "there", "context": {"cluster": "c", "user": "nobody"}},
        ],
    }


def write(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "config"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    (tmp_path / "ca.pem").write_bytes(b"authority")
    return path


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    config = Kubeconfig(
        server="https://127.0.0.1:6443",
        certificate_authority=b"ca",
        client_certificate=b"cert",
        client_key=b"key",
        token="secret",
        namespace="web",
        tls_server_name="kubernetes",
        insecure_skip_tls_verify=True,
        context="mesh",
    )
    path = tmp_path / "kubeconfig"
    path.write_text("the old one")
    path.chmod(0o644)
    write_kubeconfig(config, path)
    assert read_kubeconfig(path) == config
    assert path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["kubeconfig"]


def test_secrets_are_not_in_its_representation() -> None:
    assert "hush" not in repr(Kubeconfig(server="", token="hush", client_key=b"hush"))


def test_files_next_to_it_and_embedded_data_are_both_read(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from a file\n")
    embedded = base64.b64encode(b"embedded").decode()
    user = {"client-certificate": "absent", "client-certificate-data": embedded, "tokenFile": "token"}
    config = read_kubeconfig(write(tmp_path, document(**user)))
    assert config.server == "https://127.0.0.1:6443"
    assert config.certificate_authority == b"authority"
    assert config.client_certificate == b"embedded"
    assert config.token == "from a file"
    assert config.namespace == "web"
    assert config.context == "here"


@pytest.mark.parametrize(
    ("content", "context", "message"),
    [
        ("a: [", "", "is not a kubeconfig"),
        ("just text", "", "is not a kubeconfig"),
        ({"clusters": []}, "", "has no current-context"),
        (document(), "elsewhere", r"no context named 'elsewhere' \(it has: here, there\)"),
        (document(), "there", r"no user named 'nobody' \(it has: u\)"),
        (document(exec={"command": "aws"}), "", "user u authenticates with exec, which is not supported"),
        (document(**{"client-key-data": "?"}), "", "client-key-data is not base64"),
        (document(**{"client-key": "absent"}), "", "cannot read client-key absent: No such file"),
    ],
)
def test_faults_are_named(tmp_path: Path, content: Any, context: str, message: str) -> None:
    with pytest.raises(KubeconfigError, match=message):
        read_kubeconfig(write(tmp_path, content), context)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(KubeconfigError, match=r"cannot read the kubeconfig .*/none: No such file"):
        read_kubeconfig(tmp_path / "none")


def test_the_first_existing_file_of_the_environment_counts(tmp_path: Path) -> None:
    here = write(tmp_path, document())
    assert default_path({"KUBECONFIG": f"{tmp_path}/none:{here}:{tmp_path}/other"}) == here
    assert default_path({"KUBECONFIG": f"{tmp_path}/none"}) == tmp_path / "none"
    assert default_path({}) == Path.home() / ".kube/config"
