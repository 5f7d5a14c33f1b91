"""`pilotfish get --watch`: a process of its own that is interrupted."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml


@pytest.mark.parametrize("output", ["table", "name", "yaml", "json"])
def test_what_changes_is_shown_until_ctrl_c(
    output: str, cli_mesh: Any, namespace: str, tmp_path: Path, wait_until: Any, ended: Callable[..., Any]
) -> None:
    cli_mesh.pod("first", namespace)
    options = [] if output == "table" else ["-o", output]
    file = tmp_path / "out"
    with file.open("wb") as out:
        watching: subprocess.Popen[bytes] = ended(
            cli_mesh.start("get", "pods", "-n", namespace, "-w", *options, stdout=out, stderr=subprocess.STDOUT)
        )
    wait_until(lambda: "first" in file.read_text(), "what there is")
    cli_mesh.pod("second", namespace)
    wait_until(lambda: "second" in file.read_text(), "what comes")
    watching.send_signal(signal.SIGINT)
    assert watching.wait(10) == 130
    text = file.read_text()
    assert "Traceback" not in text and "Aborted" not in text
    match output:
        case "table":
            assert [line.split()[0] for line in text.splitlines()] == ["NAME", "first", "second"]
        case "name":
            assert text == "pod/first\npod/second\n"
        case "yaml":
            assert [d["metadata"]["name"] for d in yaml.safe_load_all(text)] == ["first", "second"]
        case "json":
            first, rest = json.JSONDecoder().raw_decode(text)
            assert (first["metadata"]["name"], json.loads(text[rest:])["metadata"]["name"]) == ("first", "second")


def test_one_object_alone_is_watched(
    cli_mesh: Any, namespace: str, tmp_path: Path, wait_until: Any, ended: Callable[..., Any]
) -> None:
    cli_mesh.pod("mine", namespace)
    file = tmp_path / "out"
    with file.open("wb") as out:
        ended(cli_mesh.start("get", "pod", "mine", "-n", namespace, "-w", "-o", "name", stdout=out))
    wait_until(lambda: file.read_text(), "what there is")
    cli_mesh.pod("other", namespace)
    cli_mesh.run("delete", "pod", "mine", "-n", namespace, "--grace-period", "0")
    wait_until(lambda: file.read_text() == "pod/mine\npod/mine\n", "its deletion")
