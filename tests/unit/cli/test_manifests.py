"""How manifests are read, document by document."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilotfish.cli.manifests import Fault, Manifest, read_manifests

HEAD = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n"


def _read(folder: Path, text: str) -> list[Manifest | Fault]:
    file = folder / "m.yaml"
    file.write_text(text)
    return list(read_manifests([str(file)]))


def _only(folder: Path, text: str) -> Manifest:
    [found] = _read(folder, text)
    assert isinstance(found, Manifest), found
    return found


def test_timestamps_stay_texts(tmp_path: Path) -> None:
    assert _only(tmp_path, f"{HEAD}data: {{day: 2024-01-02}}").document["data"] == {"day": "2024-01-02"}


def test_documents_are_parted_by_lines_and_know_where_they_begin(tmp_path: Path) -> None:
    found = _read(tmp_path, f"---\n---  # nothing\n--- \n{HEAD}---\n{HEAD}")
    assert [f.place.rpartition(":")[2] for f in found] == ["4", "8"]
    block = _only(tmp_path, f"{HEAD}data:\n  a: |\n    ---\n    b\n")
    assert block.document["data"] == {"a": "---\nb\n"}


def test_anchors_and_merge_keys(tmp_path: Path) -> None:
    text = f"{HEAD}x: &base {{k: '1'}}\ny: &both {{<<: *base, k: '2'}}\ndata: {{<<: *both, l: '3'}}\n"
    assert _only(tmp_path, text).document["data"] == {"k": "2", "l": "3"}


@pytest.mark.parametrize("text", ["a: 1\n<<: 3\n", "a: &a [*a]\nb: *c\n", "\tb: 1", "!!python/object:os.system x"])
def test_what_yaml_forbids_is_a_fault_with_its_place(text: str, tmp_path: Path) -> None:
    [fault] = _read(tmp_path, text)
    assert isinstance(fault, Fault)
    assert fault.place.startswith(f"{tmp_path}/m.yaml:")


def test_text_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_bytes(b"\xff\xfe")
    [fault] = read_manifests([str(tmp_path)])
    assert isinstance(fault, Fault) and "UTF-8" in fault.message
