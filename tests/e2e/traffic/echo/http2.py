"""HTTP/2 from the server's side, with and without TLS. An answer must fit the window that a stream begins with."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes

from echo import connection
from echo.instructions import HEADER, Server, received_request

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@dataclass
class _Request:
    headers: list[tuple[str, str]]
    body: bytes = b""
    trailers: list[tuple[str, str]] = field(default_factory=list)


async def serve(
    server: Server, told: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter, first: bytes
) -> None:
    """Streams until the client ends the connection, each answered on its own."""
    protocol = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
    protocol.initiate_connection()
    requests: dict[int, _Request] = {}
    async with asyncio.TaskGroup() as answers:
        data = first
        while data:
            for event in protocol.receive_data(data):
                if isinstance(event, events.RequestReceived):
                    requests[event.stream_id] = _Request(list(event.headers))
                elif isinstance(event, events.TrailersReceived):
                    requests[event.stream_id].trailers = list(event.headers)
                elif isinstance(event, events.DataReceived):
                    requests[event.stream_id].body += event.data
                    protocol.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, events.StreamEnded):
                    request = requests.pop(event.stream_id)
                    answers.create_task(_answer(server, told, protocol, writer, event.stream_id, request))
                elif isinstance(event, events.StreamReset):
                    requests.pop(event.stream_id, None)
            writer.write(protocol.data_to_send())
            await writer.drain()
            data = await reader.read(connection.MAX_READ)


async def _answer(
    server: Server,
    told: dict[str, Any],
    protocol: H2Connection,
    writer: asyncio.StreamWriter,
    stream: int,
    request: _Request,
) -> None:
    pseudo = {name: value for name, value in request.headers if name.startswith(":")}
    headers = [(name, value) for name, value in request.headers if not name.startswith(":")]
    received = received_request(pseudo[":method"], pseudo[":path"], pseudo[":authority"], headers, request.body)
    received |= {"scheme": pseudo[":scheme"], "trailers": dict(request.trailers)}
    wanted = server.instructed(received["headers"].get(HEADER), received["attempt"])
    await asyncio.sleep(wanted.delay)
    if stream not in protocol.streams or protocol.streams[stream].closed:
        return  # the client has given up
    if wanted.reset:
        protocol.reset_stream(stream, ErrorCodes.INTERNAL_ERROR)
    else:
        answer = server.answer(wanted, server.report("HTTP/2", told, **received))
        head = [(":status", str(wanted.status)), ("content-type", "application/json"), ("x-version", server.version)]
        protocol.send_headers(stream, [*head, *wanted.headers.items()])
        content = b"" if pseudo[":method"] == "HEAD" else answer
        protocol.send_data(stream, content, end_stream=not wanted.trailers)
        if wanted.trailers:
            protocol.send_headers(stream, list(wanted.trailers.items()), end_stream=True)
    if wanted.close:
        protocol.close_connection()
    writer.write(protocol.data_to_send())
