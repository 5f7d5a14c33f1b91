from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import msgspec
import pytest

from pilotfish.api.errors import ApiError, Conflict, Expired, Forbidden, Invalid, NotFound, ServiceUnavailable
from pilotfish.api.kinds import POD
from pilotfish.client.wire import (
    read_error,
    read_event,
    read_list,
    read_object,
    read_warnings,
    split_lines,
    write_object,
)


def test_items_of_a_list_get_their_kind() -> None:
    body = b'{"metadata":{"resourceVersion":"7"},"items":[{"metadata":{"name":"web"}}]}'
    listing = read_list(POD, body)
    assert listing.resource_version == "7"
    assert [(p.name, p.kind, p.api_version) for p in listing.items] == [("web", "Pod", "v1")]
    assert read_list(POD, b'{"metadata":{"resourceVersion":"7"},"items":null}').items == ()


def test_an_item_that_cannot_be_read_does_not_hide_the_others(caplog: pytest.LogCaptureFixture) -> None:
    body = b'{"items":[{"metadata":{"name":"bad","namespace":"x"},"spec":7},{"metadata":{"name":"good"}}]}'
    with caplog.at_level(logging.ERROR):
        assert [p.name for p in read_list(POD, body).items] == ["good"]
    assert "Pod x/bad cannot be read and is left out" in caplog.text
    assert read_event(POD, b'{"type":"ADDED","object":{"spec":7}}') is None


def test_an_answer_of_another_shape_is_refused() -> None:
    with pytest.raises(Invalid, match="the server's answer is not a Pod"):
        read_object(POD, b"<html>")
    with pytest.raises(Invalid, match="the server's answer is not a list of pods"):
        read_list(POD, b"<html>")


def test_watch_events() -> None:
    event = read_event(POD, b'{"type":"DELETED","object":{"metadata":{"name":"web","resourceVersion":"8"}}}')
    assert event is not None
    assert event.object is not None
    assert (event.type, event.object.name, event.resource_version) == ("DELETED", "web", "8")
    bookmark = read_event(POD, b'{"type":"BOOKMARK","object":{"kind":"Pod","metadata":{"resourceVersion":"9"}}}')
    assert bookmark is not None
    assert (bookmark.type, bookmark.object, bookmark.resource_version) == ("BOOKMARK", None, "9")
    assert read_event(POD, b'{"type":"NEWS","object":{}}') is None
    with pytest.raises(ServiceUnavailable, match="broke off"):
        read_event(POD, b'{"type":"ADDED","object":{"meta')
    status = {"kind": "Status", "code": 410, "reason": "Gone", "message": "too old resource version"}
    with pytest.raises(Expired, match="too old"):
        read_event(POD, msgspec.json.encode({"type": "ERROR", "object": status}))


@pytest.mark.parametrize(
    ("body", "code", "error", "message"),
    [
        (b'{"kind":"Status","reason":"NotFound","message":"no web"}', 404, NotFound, "no web"),
        (b'{"kind":"Status","reason":"Conflict","message":"modified"}', 409, Conflict, "modified"),
        (b'{"kind":"Status","reason":"Gone","code":410}', 410, Expired, "the server answered 410"),
        (b"<h1>keep out</h1>", 403, Forbidden, "the server answered 403: <h1>keep out</h1>"),
        (b"", 503, ServiceUnavailable, "the server answered 503"),
        (b"[]", 418, ApiError, r"the server answered 418: \[\]"),
    ],
)
def test_errors(body: bytes, code: int, error: type[ApiError], message: str) -> None:
    found = read_error(body, code)
    assert type(found) is error
    assert found.code == code
    with pytest.raises(error, match=message):
        raise found


def test_what_is_written_says_its_kind() -> None:
    pod = read_object(POD, b'{"metadata":{"name":"web"}}')
    expected = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}}
    assert msgspec.json.decode(write_object(POD, pod)) == expected
    assert msgspec.json.decode(write_object(POD, {"metadata": {"name": "web"}})) == expected


def test_warnings_are_read_from_their_headers() -> None:
    headers = ['299 - "a field \\"x\\" of C:\\\\"', '299 - "one", 299 server "two"', "no warning", '299 - "cut short']
    assert read_warnings(headers) == ['a field "x" of C:\\', "one", "two"]


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_lines_come_whole_however_the_bytes_arrive(size: int) -> None:
    text = b"first\n\nthird\nno newline"

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(text), size):
            yield text[start : start + size]

    async def run() -> list[bytes]:
        return [line async for line in split_lines(chunks())]

    assert asyncio.run(run()) == [b"first", b"", b"third", b"no newline"]
