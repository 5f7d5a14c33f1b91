"""HTTP/1.1 and WebSocket, from the server's side."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import h11
from websockets.frames import Frame, Opcode
from websockets.server import ServerProtocol

from echo import connection
from echo.instructions import HEADER, Server, received_request


async def serve(
    server: Server, told: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter, first: bytes
) -> None:
    """Requests until either side ends the connection. `told` is what is known of it, `first` what was read already."""
    protocol = h11.Connection(h11.SERVER)
    protocol.receive_data(first)
    while await _request(server, told, protocol, reader, writer):
        if protocol.our_state is not h11.DONE or protocol.their_state is not h11.DONE:
            return
        protocol.start_next_cycle()


async def _request(
    server: Server,
    told: dict[str, Any],
    protocol: h11.Connection,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> bool:
    """Answer one request; False when there is none, or none was answered."""
    request, body = None, b""
    while not isinstance(event := protocol.next_event(), h11.EndOfMessage):
        if event is h11.NEED_DATA:
            protocol.receive_data(await reader.read(connection.MAX_READ))
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            body += event.data
        else:
            return False
    assert request is not None
    if (b"upgrade", b"websocket") in request.headers:
        await _websocket(server, told, reader, writer, request)
        return False
    headers = [(name.decode(), value.decode("latin-1")) for name, value in request.headers]
    authority = dict(headers).get("host", "")
    received = received_request(request.method.decode(), request.target.decode(), authority, headers, body)
    wanted = server.instructed(received["headers"].get(HEADER), received["attempt"])
    await asyncio.sleep(wanted.delay)
    if wanted.reset:
        connection.reset(writer)
        return False
    version = f"HTTP/{request.http_version.decode()}"
    answer = server.answer(wanted, server.report(version, told, **received))
    head = [("content-type", "application/json"), ("x-version", server.version), *wanted.headers.items()]
    if wanted.trailers:
        head += [("transfer-encoding", "chunked"), ("trailer", ", ".join(wanted.trailers))]
    else:
        head.append(("content-length", str(len(answer))))
    if wanted.close:
        head.append(("connection", "close"))
    out = protocol.send(h11.Response(status_code=wanted.status, headers=head)) or b""
    if request.method != b"HEAD":
        out += protocol.send(h11.Data(data=answer)) or b""
    out += protocol.send(h11.EndOfMessage(headers=list(wanted.trailers.items()))) or b""
    writer.write(out)
    await writer.drain()
    return True


async def _websocket(
    server: Server,
    told: dict[str, Any],
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    request: h11.Request,
) -> None:
    """A report of the handshake, then each message as it came."""
    lines = [b"GET %s HTTP/1.1" % request.target, *(b"%s: %s" % header for header in request.headers), b"\r\n"]
    protocol = ServerProtocol()
    protocol.receive_data(b"\r\n".join(lines))
    while True:
        for event in protocol.events_received():
            if not isinstance(event, Frame):
                headers = list(event.headers.raw_items())
                received = received_request("GET", event.path, event.headers.get("host", ""), headers, b"")
                protocol.send_response(protocol.accept(event))
                report = server.report("websocket", told, **received)
                protocol.send_text(json.dumps(report).encode())
            elif event.opcode is Opcode.TEXT:
                protocol.send_text(event.data)
        for data in protocol.data_to_send():
            if not data:
                return
            writer.write(data)
        await writer.drain()
        if not (data := await reader.read(connection.MAX_READ)):
            return
        protocol.receive_data(data)
