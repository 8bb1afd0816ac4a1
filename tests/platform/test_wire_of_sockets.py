"""Sockets as the real server has them: frames go out at once, and nothing is left behind."""

import asyncio
import gc
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from websockets.asyncio.client import ClientConnection, connect
from websockets.server import ServerProtocol

from cliniq.cli.crews import QuietServer
from cliniq.platform.http.wire import Door, LiveSocket, Wire, take_wire
from cliniq.platform.live_frames import beat_frame

TRIES, PAUSE_SECONDS = 200, 0.02
LARGE = 70_000  # longer than 16 bits say

Talk = Callable[[Wire, Receive, Send], Awaitable[None]]


@asynccontextmanager
async def served(talk: Talk) -> AsyncIterator[str]:
    """Serve sockets as `cliniq serve` does; `talk` has each once it is accepted."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        wire = take_wire(dict(scope))  # a layer in between may copy it
        assert wire
        await receive()
        assert not wire.push(beat_frame("t", 0, 0).wire)  # nothing goes before the handshake
        await send({"type": "websocket.accept"})
        await talk(wire, receive, send)

    config = uvicorn.Config(
        app,
        loop="none",
        http=Door,
        ws=LiveSocket,
        ws_per_message_deflate=False,
        lifespan="off",
        log_config=None,
    )
    listener = socket.create_server(("127.0.0.1", 0))
    server = QuietServer(config)
    serving = asyncio.create_task(server.serve([listener]))
    try:
        yield f"ws://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        server.should_exit = True
        await serving


async def until_left(receive: Receive) -> None:
    while (await receive())["type"] != "websocket.disconnect":
        pass


@asynccontextmanager
async def talking(talk: Talk) -> AsyncIterator[ClientConnection]:
    async with served(talk) as address, connect(address, proxy=None, max_size=None) as client:
        yield client


@pytest.mark.parametrize("size", [1, 120, 126, 65_000, LARGE])
async def test_frame_of_any_length_is_heard_as_it_was_said(size: int) -> None:
    frame = beat_frame("t" * size, 7, 0)

    async def talk(wire: Wire, receive: Receive, _send: Send) -> None:
        assert wire.push(frame.wire)
        await until_left(receive)

    async with talking(talk) as client:
        assert await client.recv() == frame.text


async def test_frames_are_heard_in_their_order_whichever_way_they_went() -> None:
    frames = [beat_frame("t", at, 0) for at in range(40)]

    async def talk(wire: Wire, receive: Receive, send: Send) -> None:
        for at, frame in enumerate(frames):
            if at % 3:
                assert wire.push(frame.wire)
            else:
                await send({"type": "websocket.send", "text": frame.text})
        await until_left(receive)

    async with talking(talk) as client:
        assert [await client.recv() for _ in frames] == [each.text for each in frames]


async def test_nothing_more_is_pushed_at_somebody_who_does_not_read() -> None:
    frame, pushed = beat_frame("t" * LARGE, 7, 0), asyncio.get_running_loop().create_future()

    async def talk(wire: Wire, receive: Receive, _send: Send) -> None:
        many = 0
        while wire.push(frame.wire):
            many += 1
            await asyncio.sleep(0)
        pushed.set_result(many)
        await until_left(receive)

    async with talking(talk) as client:
        assert 0 < await asyncio.wait_for(pushed, 30) < 1000
        client.transport.abort()


async def test_socket_that_has_ended_leaves_nothing_for_the_collector() -> None:
    async def talk(_wire: Wire, receive: Receive, _send: Send) -> None:
        await until_left(receive)

    gc.collect()
    gc.disable()
    try:
        async with talking(talk) as client:
            assert left_behind() == 2  # the socket, and what speaks WebSocket for it
            client.transport.abort()
            for _ in range(TRIES):
                if not left_behind():
                    return
                await asyncio.sleep(PAUSE_SECONDS)
            raise AssertionError("it holds itself")
    finally:
        gc.enable()


def left_behind() -> int:
    return sum(isinstance(each, Door | LiveSocket | ServerProtocol) for each in gc.get_objects())
