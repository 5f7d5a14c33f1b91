"""The words by which users name kinds and objects."""

from __future__ import annotations

import click
import pytest

from pilotfish.api.kinds import DEPLOYMENT, ENDPOINTS, POD, SERVICE, SERVICE_ENTRY
from pilotfish.cli.objects import Wanted, kinds_named, qualified, wanted


@pytest.mark.parametrize("word", ["deployments", "deployment", "Deployment", "deploy", "deployment.apps"])
def test_the_names_of_a_kind(word: str) -> None:
    assert kinds_named(word) == (DEPLOYMENT,)


def test_versions_groups_and_categories() -> None:
    assert kinds_named("deployments.v1.apps") == (DEPLOYMENT,)
    assert kinds_named("pods.v1") == (POD,)
    assert SERVICE_ENTRY in kinds_named("istio-io")
    assert {POD, SERVICE, DEPLOYMENT} <= set(kinds_named("all"))
    for word in ("frob", "deployments.v2.apps", "pods.apps", ""):
        with pytest.raises(click.UsageError, match=r"there is no kind .*deployments"):
            kinds_named(word)


def test_what_a_command_line_names() -> None:
    assert wanted(["pods"]) == [Wanted(POD)]
    assert wanted(["po,svc", "a", "b", "a"]) == [Wanted(POD, ("a", "b")), Wanted(SERVICE, ("a", "b"))]
    assert wanted(["pod/a", "svc/b", "pods/c"]) == [Wanted(POD, ("a", "c")), Wanted(SERVICE, ("b",))]
    for arguments in ([], ["pod/a", "b"], ["pod/"], ["/a"], ["pod/a/b"]):
        with pytest.raises(click.UsageError, match="KIND/NAME"):
            wanted(arguments)


def test_the_word_for_one_object() -> None:
    assert [qualified(kind) for kind in (POD, DEPLOYMENT, ENDPOINTS)] == ["pod", "deployment.apps", "endpoints"]
