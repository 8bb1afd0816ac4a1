"""An application of the test's own process, asked over TCP."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from starlette.types import ASGIApp

from cliniq.cli.crews import QuietServer
from cliniq.platform.http.wire import Door


@asynccontextmanager
async def on_a_port(app: ASGIApp) -> AsyncIterator[str]:
    """Serve with the product's own HTTP, in the loop in which the house was opened."""
    config = uvicorn.Config(
        app,
        loop="none",
        http=Door,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=1,
    )
    listener = socket.create_server(("127.0.0.1", 0))
    server = QuietServer(config)
    serving = asyncio.create_task(server.serve([listener]))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving
