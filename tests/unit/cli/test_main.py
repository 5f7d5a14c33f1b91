"""The command line as a whole: homes, help and what is started lazily."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pilotfish import __version__
from pilotfish.cli.main import main
from pilotfish.cli.process import hold
from pilotfish.home import Home

COMMANDS = (
    "analyze", "apply", "delete", "describe", "down", "exec", "experimental", "get", "image", "install", "logs",
    "proxy-config", "proxy-status", "status", "uninstall", "up", "workload",
)  # fmt: skip
HIDDEN = ("supervise", "serve", "node", "dns")


def _run(*argv: str, **env: str) -> Result:
    return CliRunner().invoke(main, argv, env={"KUBECONFIG": "", **env})


def test_help_lists_the_commands_of_users() -> None:
    shown = _run("-h").output
    listed = [line.split()[0] for line in shown.partition("Commands:\n")[2].splitlines()]
    assert tuple(listed) == COMMANDS
    for command in COMMANDS:
        assert _run(command, "--help").exit_code == 0
    for command in HIDDEN:
        assert _run(command, "--help").exit_code == 0


def test_version() -> None:
    assert _run("--version").output == f"pilotfish, version {__version__}\n"


def test_the_home_is_that_of_the_option_then_of_the_environment(tmp_path: Path) -> None:
    chosen, usual = tmp_path / "chosen", tmp_path / "usual"
    assert f"home   {usual}\n" in _run("status", PILOTFISH_HOME=str(usual)).output
    assert f"home   {chosen}\n" in _run("--home", str(chosen), "status", PILOTFISH_HOME=str(usual)).output


def test_a_relative_home_is_meant_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert f"home   {tmp_path}/here\n" in _run("--home", "here", "status").output


def test_status_of_nothing(tmp_path: Path) -> None:
    done = _run("--home", str(tmp_path), "status", "-o", "json")
    assert done.exit_code == 1
    assert '"reachable": false' in done.output


def test_status_names_the_process_of_a_role(tmp_path: Path) -> None:
    with hold(Home(tmp_path), "serve"):
        assert f"serve      process {os.getpid()}, " in _run("--home", str(tmp_path), "status").output


def test_help_comes_without_the_rooms() -> None:
    """Starting is quick because nothing is imported but what a command needs."""
    program = "import sys, pilotfish.cli.main; print(*[m for m in sys.modules if m.startswith('pilotfish.')])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == {
        "pilotfish.cli", "pilotfish.cli.analyze", "pilotfish.cli.analyze.commands", "pilotfish.cli.goflags",
        "pilotfish.cli.main", "pilotfish.cli.meshdescribe", "pilotfish.cli.meshdescribe.commands",
        "pilotfish.cli.objectcommands",
        "pilotfish.cli.proxyconfig", "pilotfish.cli.proxyconfig.commands", "pilotfish.home",
    }  # fmt: skip
