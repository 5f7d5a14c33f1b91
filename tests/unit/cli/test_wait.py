"""`x wait`: what it makes of what the control plane tells."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pilotfish.api.kinds import VIRTUAL_SERVICE
from pilotfish.cli.wait import Distribution, Progress, Target

WEB = Target(VIRTUAL_SERVICE, "shop", "web", version="12")


def proxy(name: str, told: int, answered: int, since: str = "s", **more: str) -> dict[str, Any]:
    return {"proxy": name, "since": since, "told": told, "answered": answered, **more}


class FakePages:
    """Answers one page after the other."""

    def __init__(self, *pages: Any) -> None:
        self._pages = list(pages)
        self.asked = ""

    async def request_json(self, method: str, path: str) -> Any:
        self.asked = path
        return self._pages.pop(0)


def looks(*pages: Any, target: Target = WEB, **options: Any) -> list[Progress]:
    async def run() -> list[Progress]:
        client: Any = FakePages(*pages)
        distribution = Distribution([target], **options)
        found = [await distribution.look(client) for _ in pages]
        assert client.asked.endswith("/debug/config_distribution?resource=virtualservices%2Fshop%2Fweb")
        return found

    return asyncio.run(run())


def page(version: str, *proxies: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"resources": [{"resourceVersion": version, "generation": 2, **more}], "proxies": list(proxies)}


def test_what_proxies_had_word_of_when_it_was_first_known_is_what_counts() -> None:
    first, second, third = looks(
        page("12", proxy("a.x", 5, 5), proxy("b.x", 7, 3)),
        page("12", proxy("a.x", 9, 5), proxy("b.x", 9, 6)),
        page("13", proxy("a.x", 9, 5), proxy("b.x", 99, 7)),
    )
    assert (first.present, first.proxies, first.missing) == (1, 2, {"b.x": "it has not answered yet"})
    assert not second.reached(1.0) and second.reached(0.5)
    assert third.reached(1.0), "what came later is not waited for"


def test_nothing_counts_before_the_control_plane_has_it() -> None:
    early = proxy("a.x", 5, 5)
    for before in (page("11", early), page("", early), page("12", early, pending=True)):
        first, second = looks(before, page("12", proxy("a.x", 6, 5)))
        assert not first.reached(0.0)
        assert first.known is False and second.known is True
        assert second.missing.keys() == {"a.x"}


def test_a_proxy_that_came_back_has_to_have_its_configuration() -> None:
    _, second, third = looks(
        page("12", proxy("a.x", 5, 4)),
        page("12", proxy("a.x", 2, 0, since="later")),
        page("12", proxy("a.x", 2, 2, since="later")),
    )
    assert not second.reached(1.0) and third.reached(1.0)


def test_one_that_refuses_it_does_not_have_it() -> None:
    [found] = looks(page("12", proxy("a.x", 5, 5, refused="bad value")))
    assert found.missing == {"a.x": "bad value"}


def test_one_proxy_can_be_all_that_counts() -> None:
    [found] = looks(page("12", proxy("a.x", 5, 5), proxy("b.x", 5, 4)), proxy="a.x")
    assert found.reached(1.0) and found.proxies == 1


@pytest.mark.parametrize(
    ("target", "shown", "known"),
    [
        (WEB, {"resourceVersion": "100"}, True),
        (WEB, {"resourceVersion": "9"}, False),
        (WEB, {}, False),
        (Target(VIRTUAL_SERVICE, "shop", "web", generation=2), {"resourceVersion": "9", "generation": 1}, False),
        (Target(VIRTUAL_SERVICE, "shop", "web", generation=2), {"resourceVersion": "9", "generation": 2}, True),
        (Target(VIRTUAL_SERVICE, "shop", "web", deleted=True), {"resourceVersion": "9"}, False),
        (Target(VIRTUAL_SERVICE, "shop", "web", deleted=True), {"pending": True}, False),
        (Target(VIRTUAL_SERVICE, "shop", "web", deleted=True), {}, True),
    ],
)
def test_versions(target: Target, shown: dict[str, Any], known: bool) -> None:
    assert target.known(shown) is known
