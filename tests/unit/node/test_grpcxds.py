"""The files of gRPC's own xDS client. That gRPC reads them, tests/unit/xds/test_proxyless.py shows."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from pilotfish.api.decode import decode
from pilotfish.api.kinds import POD
from pilotfish.api.pods import Pod
from pilotfish.home import Settings
from pilotfish.node import grpcxds
from pilotfish.node.proxy import Certificate
from pilotfish.node.sandbox import PodFolder

SETTINGS = Settings(node_name="n", api_port=6443, xds_port=15012, pod_cidr="10.1.0.0/16", service_cidr="10.2.0.0/16")


def pod(**annotations: str) -> Pod:
    metadata = {"name": "web-1", "namespace": "ns", "labels": {"app": "web"}, "annotations": annotations}
    return decode(POD, {"metadata": metadata, "spec": {}})


@pytest.mark.parametrize(("annotations", "wanted"), [({}, False), ({grpcxds.ANNOTATION: "true"}, True)])
def test_a_pod_asks_for_it(annotations: dict[str, str], wanted: bool) -> None:
    assert grpcxds.wanted(pod(**annotations)) is wanted


def test_the_bootstrap_names_the_pod_and_the_control_plane() -> None:
    made = grpcxds.bootstrap(pod(), "10.1.0.7", SETTINGS)
    assert made["xds_servers"][0]["server_uri"] == "10.1.0.1:15012"
    assert made["node"]["id"] == "sidecar~10.1.0.7~web-1.ns~ns.svc.cluster.local"
    assert made["node"]["metadata"]["GENERATOR"] == "grpc"


def test_files_for_every_container_of_the_pod_alone(tmp_path: Path) -> None:
    folder = PodFolder(tmp_path / "uid")
    grpcxds.prepare_directory(folder)
    grpcxds.write_certificate(folder, Certificate(chain="chain", key="key", root="root"))
    grpcxds.write_bootstrap(folder, pod(), "10.1.0.7", SETTINGS)
    named = json.loads((folder.grpc / "bootstrap.json").read_text())["xds_servers"][0]["channel_creds"][0]["config"]
    for name, content in (("certificate_file", "chain"), ("private_key_file", "key"), ("ca_certificate_file", "root")):
        file = folder.grpc / Path(named[name]).relative_to(grpcxds.DIRECTORY)
        assert file.read_text() == content
        assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700, "nobody else on the host"
