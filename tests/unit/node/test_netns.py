import secrets
import subprocess
import threading
from pathlib import Path

import pytest

from pilotfish.node import netns


def _own_namespace() -> str:
    return str(Path("/proc/thread-self/ns/net").readlink())


@pytest.mark.root
def test_a_named_namespace_is_entered_listed_and_removed_while_the_caller_stays_where_it_is() -> None:
    name, own, threads = f"pf-test-{secrets.token_hex(4)}", _own_namespace(), threading.active_count()
    path = netns.create(name)
    try:
        assert name in netns.names("pf-test-")
        assert name in subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout
        inside = netns.run_in(path, _own_namespace)
        assert inside != own
        assert netns.run_in(path, _own_namespace) == inside
        started = netns.run_in(
            path, lambda: subprocess.run(["readlink", "/proc/self/ns/net"], capture_output=True, text=True, check=True)
        )
        assert started.stdout.strip() == inside
        with pytest.raises(FileExistsError):
            netns.create(name)
    finally:
        netns.delete(name)
    assert name not in netns.names()
    assert _own_namespace() == own
    assert threading.active_count() == threads
    netns.delete(name)


@pytest.mark.root
def test_a_half_made_name_is_removed() -> None:
    name = f"pf-test-{secrets.token_hex(4)}"
    netns.delete(name)
    netns.path_of(name).touch()
    netns.delete(name)
    assert not netns.path_of(name).exists()


@pytest.mark.root
def test_what_the_function_raises_is_raised_to_the_caller() -> None:
    with pytest.raises(ZeroDivisionError):
        netns.run_in_new(lambda: 1 // 0)
    with pytest.raises(FileNotFoundError):
        netns.run_in(netns.path_of("pf-test-nowhere"), _own_namespace)
