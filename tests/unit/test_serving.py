"""The listening socket."""

from __future__ import annotations

import asyncio
import socket

from pilotfish.serving import listen


def test_answers_are_not_held_back_for_an_acknowledgement() -> None:
    async def main() -> int:
        delay: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def accepted(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            delay.set_result(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        async with await asyncio.start_server(accepted, sock=listen("127.0.0.1", 0)) as server:
            _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            no_delay = await delay
            writer.close()
            return no_delay

    assert asyncio.run(main()) != 0
