from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from hypothesis import given
from hypothesis import strategies as st

from pilotfish.client.stream import Channel, Frame
from pilotfish.node.kubelet.inputs import Inputs, parse_sizes


@given(st.lists(st.tuples(st.integers(1, 500), st.integers(1, 500)), max_size=4), st.integers(0, 200), st.booleans())
def test_sizes_are_found_however_they_are_cut(sizes: list[tuple[int, int]], cut: int, lines: bool) -> None:
    text = b"".join(b'{"Width":%d,"Height":%d}%s' % (*size, b"\n" * lines) for size in sizes)
    cut = min(cut, len(text))
    first, rest = parse_sizes(text[:cut])
    second, rest = parse_sizes(rest + text[cut:])
    assert first + second == sizes
    assert rest == b""


def test_what_is_no_size_is_left_out() -> None:
    assert parse_sizes(b'{"Width":0,"Height":5} [] {"Height":5} {"Width":7,"Height":8} {"Wi') == ([(7, 8)], b'{"Wi')
    assert parse_sizes(b"x" * 10_000) == ([], b"")


async def frames(*given: Frame) -> AsyncIterator[Frame]:
    for frame in given:
        yield frame


def test_input_ends_when_the_client_says_so() -> None:
    async def scenario() -> None:
        inputs = Inputs()
        closed = Frame(Channel.CLOSE, bytes([Channel.STDIN]))
        await inputs.read(frames(Frame(Channel.STDIN, b"a"), Frame(Channel.STDIN, b"b"), closed))
        assert [data async for data in inputs.stdin()] == [b"a", b"b"]

    asyncio.run(asyncio.wait_for(scenario(), 5))


def test_a_process_that_takes_no_input_holds_the_sender_up() -> None:
    async def scenario() -> None:
        inputs, sent = Inputs(), 0

        async def endless() -> AsyncIterator[Frame]:
            nonlocal sent
            while True:
                sent += 1
                yield Frame(Channel.STDIN, b"x" * 1000)

        reading = asyncio.create_task(inputs.read(endless()))
        await asyncio.wait([reading], timeout=0.1)
        assert not reading.done()
        assert sent < 20
        reading.cancel()

    asyncio.run(scenario())
