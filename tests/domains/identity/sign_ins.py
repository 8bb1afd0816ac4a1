"""Signing in over the wire."""

from typing import Any

import httpx2

from tests.support import PASSWORD, Client, Someone

AUTH = "/api/v1/auth"


async def login(client: Client, email: str, password: str = PASSWORD) -> httpx2.Response:
    return await client.post(f"{AUTH}/login", json={"email": email, "password": password})


async def refresh(client: Client, refresh_token: str) -> httpx2.Response:
    return await client.post(f"{AUTH}/refresh", json={"refresh_token": refresh_token})


async def renewed(client: Client, refresh_token: str) -> Any:
    """A refresh that must succeed: what it gives."""
    answer = await refresh(client, refresh_token)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def is_in(client: Client, access_token: str) -> bool:
    """Whether an access token opens the door."""
    headers = {"Authorization": f"Bearer {access_token}"}
    answer = await client.get("/api/v1/me", headers=headers)
    if answer.status_code == 401:
        assert answer.json()["code"] == "UNAUTHENTICATED"
        assert answer.headers["www-authenticate"] == "Bearer"
        return False
    assert answer.status_code == 200, answer.text
    return True


async def logout(client: Client, someone: Someone) -> httpx2.Response:
    return await client.post(f"{AUTH}/logout", headers=someone.headers)


def said(answer: httpx2.Response) -> dict[str, Any]:
    """What a refusal says, without the id of its request."""
    body: dict[str, Any] = answer.json()
    assert body.pop("trace_id") == answer.headers["x-request-id"]
    return body
