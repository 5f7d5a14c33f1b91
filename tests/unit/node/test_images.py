from __future__ import annotations

from pathlib import Path

import pytest

from pilotfish.node import images
from pilotfish.node.images import Image, InvalidImageName


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("web", "docker.io/library/web:latest"),
        ("shop/web:1", "docker.io/shop/web:1"),
        ("x.x.x.x/x/meshb:latest", "x.x.x.x/x/meshb:latest"),
        ("x.x.x.x/x/meshb", "x.x.x.x/x/meshb:latest"),
        ("localhost/web", "localhost/web:latest"),
        ("registry:5000/web", "registry:5000/web:latest"),
        ("web@sha256:" + "a" * 64, "docker.io/library/web@sha256:" + "a" * 64),
    ],
)
def test_names_are_read_as_docker_reads_them(name: str, full: str) -> None:
    assert images.normalise(name) == full


@pytest.mark.parametrize("name", ["", "Web", "a b", "web:", "/web", "web//x"])
def test_what_is_no_image_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidImageName, match="is not an image name"):
        images.normalise(name)


def test_the_proxy_image_is_known_under_any_registry_and_tag() -> None:
    assert images.is_proxy_image("docker.io/istio/proxyv2:1.10.4")
    assert images.is_proxy_image("proxyv2")
    assert not images.is_proxy_image("istio/proxyv2-like:1")
    assert not images.is_proxy_image("istio/pilot:1.10.4")
    assert not images.is_proxy_image("Not An Image")


def test_entries_are_found_by_every_form_of_their_name(tmp_path: Path) -> None:
    entry = images.add(tmp_path, Image(name="web", command=("run", "it"), workdir="/srv", env={"A": "1"}))
    assert images.get(tmp_path, "docker.io/library/web:latest") == entry
    assert images.get(tmp_path, "web:other") is None
    changed = images.add(tmp_path, Image(name="web:latest", command=("run", "that")))
    assert images.entries(tmp_path) == [changed]
    assert changed.id != entry.id
    assert images.remove(tmp_path, "web")
    assert not images.remove(tmp_path, "web")
    assert images.entries(tmp_path) == []
