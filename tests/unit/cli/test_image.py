"""`pilotfish image`: the local image store by its commands."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pilotfish.cli.main import main
from pilotfish.home import Home
from pilotfish.node import images


def _run(home: Path, *argv: str) -> Result:
    return CliRunner().invoke(main, ["--home", str(home), "image", *argv])


def test_an_image_is_added_listed_and_removed(tmp_path: Path) -> None:
    added = _run(
        tmp_path, "add", "web", "--workdir", str(tmp_path), "-e", "A=1", "-e", "B=x=y", "--", "sh", "-c", "echo -e 'hi'"
    )
    assert added.exit_code == 0, added.output
    command = "sh -c 'echo -e '\"'\"'hi'\"'\"''"
    assert added.output == f"docker.io/library/web:latest runs `{command}` in {tmp_path}\n"
    entry = images.get(Home(tmp_path).images, "web")
    assert entry is not None
    assert (entry.command, entry.env) == (("sh", "-c", "echo -e 'hi'"), {"A": "1", "B": "x=y"})
    _run(tmp_path, "add", "x.x.x.x/a:1", "--", "true")
    lines = _run(tmp_path, "ls").output.splitlines()
    assert [line.split()[0] for line in lines] == ["IMAGE", "docker.io/library/web:latest", "x.x.x.x/a:1"]
    assert lines[0].index("COMMAND") == lines[2].index("true")
    assert _run(tmp_path, "rm", "web:latest").exit_code == 0
    assert [line.split()[0] for line in _run(tmp_path, "ls").output.splitlines()] == ["IMAGE", "x.x.x.x/a:1"]


def test_the_same_name_again_replaces_the_entry(tmp_path: Path) -> None:
    for command in ("true", "false"):
        assert _run(tmp_path, "add", "web", "--", command).exit_code == 0
    assert len(_run(tmp_path, "ls").output.splitlines()) == 2
    assert "false" in _run(tmp_path, "ls").output


def test_a_relative_working_folder_is_meant_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "app").mkdir()
    monkeypatch.chdir(tmp_path)
    assert _run(tmp_path, "add", "web", "--workdir", "app", "--", "true").output.endswith(f"in {tmp_path}/app\n")


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (["add", "Web", "--", "true"], 2, "'Web' is not an image name"),
        (["add", "web"], 2, "Missing argument 'COMMAND...'"),
        (["add", "web", "-e", "A", "--", "true"], 2, "'A' is not of the form NAME=VALUE"),
        (["add", "web", "-e", "=1", "--", "true"], 2, "'=1' is not of the form NAME=VALUE"),
        (["add", "web", "--workdir", "/nonexistent", "--", "true"], 2, "'/nonexistent' does not exist"),
        (["rm", "web"], 1, "there is no image web; `pilotfish image ls` lists"),
        (["rm", "a b"], 2, "'a b' is not an image name"),
    ],
)
def test_what_cannot_be_done_is_said_and_nothing_changes(
    argv: list[str], code: int, message: str, tmp_path: Path
) -> None:
    done = _run(tmp_path, *argv)
    assert done.exit_code == code, done.output
    assert message in " ".join(done.stderr.replace("│", " ").split())
    assert _run(tmp_path, "ls").output == "IMAGE   COMMAND\n"
