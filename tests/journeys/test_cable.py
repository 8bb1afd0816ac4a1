"""The cable that proofs cut is one: what is cut carries nothing, and tells nobody."""

import asyncio
import sys
from contextlib import suppress

import pytest

from tests.journeys.cable import laid_cable

PORT = 7000
ECHO = f"""
import socket
server = socket.create_server(("", {PORT}))
print("listening", flush=True)
while True:
    connection, _ = server.accept()
    connection.sendall(connection.recv(4))
    connection.close()
"""


async def test_cable_carries_until_it_is_cut_and_again_when_it_is_mended() -> None:
    with laid_cable() as cable:
        echo = await asyncio.create_subprocess_exec(
            *cable.inside(sys.executable, "-c", ECHO), stdout=asyncio.subprocess.PIPE
        )
        try:
            assert echo.stdout is not None
            assert await echo.stdout.readline() == b"listening\n"
            assert await _echoed(cable.far) == b"here"
            cable.cut()
            with pytest.raises((TimeoutError, OSError)):
                await asyncio.wait_for(_echoed(cable.far), 2)
            cable.mend()
            assert await asyncio.wait_for(_echoed_in_the_end(cable.far), 20) == b"here"
        finally:
            echo.kill()
            await echo.wait()


async def _echoed_in_the_end(host: str) -> bytes:
    """Whoever was found to be away is looked for again only after a moment."""
    while True:
        with suppress(OSError):
            return await _echoed(host)
        await asyncio.sleep(0.1)


async def _echoed(host: str) -> bytes:
    reader, writer = await asyncio.open_connection(host, PORT)
    try:
        writer.write(b"here")
        return await reader.read()
    finally:
        writer.close()
