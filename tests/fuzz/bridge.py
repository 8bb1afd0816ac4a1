"""Brings requests from the stranger's thread to the loop in which the house was opened."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import ASGIApp, Message, Receive, Scope, Send

T = TypeVar("T")


class Bridge:
    """An application that answers in the loop it was built in, whoever asks from another."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._home = asyncio.get_running_loop()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise NotImplementedError  # who serves it has started it already
        away = asyncio.get_running_loop()

        async def receive_there() -> Message:
            return await _within(away, receive())

        async def send_there(message: Message) -> None:
            await _within(away, send(message))

        known = {**scope, "client": ("127.0.0.1", 1)}
        await _within(self._home, self._app(known, receive_there, send_there))


async def _within(loop: asyncio.AbstractEventLoop, asked: Coroutine[Any, Any, T] | Any) -> T:
    """Wait in one loop for what is done in another."""
    done: T = await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(asked, loop))
    return done
