"""From the door to the doctor over HTTP and socket, as a phone and a doctor's screen go."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from cliniq.domains.checkin.codes import hash_secret
from cliniq.platform.clock import utc_now
from tests.journeys.served import Installation, Served
from tests.support import PASSWORD, Client, SomeClinic, Someone

API = "/api/v1"
SCAN_QR = f"{API}/appointments/check-in/scan-qr"
PAGE_SECRET = "kept by the page, shown at the end"  # noqa: S105
WITHIN_SECONDS = 5


@pytest.fixture
async def phone(served: Served) -> AsyncIterator[Client]:
    async with served.client() as client:
        yield client


def soon() -> timedelta:
    """A start that is open for check-in, and in nobody else's way."""
    return timedelta(minutes=5)


async def sign_in(phone: Client, someone: Someone) -> dict[str, str]:
    answer = await phone.post(
        f"{API}/auth/login", json={"email": someone.email, "password": PASSWORD}
    )
    assert answer.status_code == 200, answer.text
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


async def scan(phone: Client, clinic: SomeClinic, headers: dict[str, str]) -> dict[str, Any]:
    answer = await phone.post(SCAN_QR, json={"code": clinic.code()}, headers=headers)
    assert answer.status_code == 200, answer.text
    (receipt,) = answer.json()["check_ins"]
    return dict(receipt)


async def open_socket(served: Served, phone: Client, headers: dict[str, str]) -> ClientConnection:
    answer = await phone.post(f"{API}/live/passes", headers=headers)
    assert answer.status_code == 201, answer.text
    return await connect(f"{served.live}?pass={answer.json()['live_pass']}", proxy=None)


async def hear(socket: ClientConnection) -> dict[str, Any]:
    frame: dict[str, Any] = json.loads(await asyncio.wait_for(socket.recv(), WITHIN_SECONDS))
    return frame


async def watch(socket: ClientConnection, clinic: SomeClinic, queue_id: str) -> dict[str, Any]:
    asked = {"op": "subscribe", "topic": f"queue:{queue_id}", "clinic_id": str(clinic.clinic_id)}
    await socket.send(json.dumps(asked))
    return await hear(socket)


async def move_once(phone: Client, doctor: dict[str, str], entry_id: str, step: str) -> None:
    """Take a place one step further, and no second time."""
    path = f"{API}/queues/entries/{entry_id}/{step}"
    answer = await phone.post(path, headers=doctor)
    assert answer.status_code == 200, answer.text
    answer = await phone.post(path, headers=doctor)
    assert (answer.status_code, answer.json()["code"]) == (409, "INVALID_TRANSITION")


# Pages and documents


async def test_visitor_of_an_unknown_page_gets_a_problem(phone: Client) -> None:
    answer = await phone.get("/nothing/here")
    assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")


async def test_visitor_finds_the_pages_and_everything_they_load(
    phone: Client, clinic: SomeClinic
) -> None:
    for path in ("/", f"/c/{clinic.code()}"):
        page = await phone.get(path)
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert "default-src 'self'" in page.headers["content-security-policy"]
        loads = set(re.findall(r'(?:src|href)="(/assets/[^"]+)"', page.text))
        assert any(each.endswith(".js") for each in loads)
        assert any(each.endswith(".css") for each in loads)
        for asset in loads:
            answer = await phone.get(asset)
            assert answer.status_code == 200, asset
            assert answer.content, asset


async def test_operator_finds_health_and_metrics_at_the_root(phone: Client) -> None:
    for state in ("live", "startup", "ready"):
        assert (await phone.get(f"/health/{state}")).status_code == 200
        assert (await phone.get(f"{API}/health/{state}")).status_code == 404
    metrics = (await phone.get("/metrics")).text
    assert 'cliniq_http_request_seconds_count{method="GET",route="/health/ready"' in metrics
    assert 'cliniq_database_connections{pool="platform",state="idle"}' in metrics


async def test_document_that_is_served_equals_the_one_that_is_printed(
    phone: Client, installation: Installation
) -> None:
    printed = await installation.tried("openapi")
    assert printed.returncode == 0, printed.stderr
    document = json.loads(printed.stdout)
    assert (await phone.get("/openapi.json")).json() == document
    assert f"{API}/appointments/check-in/scan-qr" in document["paths"]


# The refusals


async def test_stranger_cannot_sign_in_scan_or_listen(
    served: Served, phone: Client, clinic: SomeClinic
) -> None:
    wrong = {"email": clinic.doctor.email, "password": "not the password"}
    answer = await phone.post(f"{API}/auth/login", json=wrong)
    assert (answer.status_code, answer.json()["code"]) == (401, "SIGN_IN_FAILED")
    answer = await phone.post(SCAN_QR, json={"code": clinic.code()})
    assert (answer.status_code, answer.json()["code"]) == (401, "UNAUTHENTICATED")
    with pytest.raises(InvalidStatus) as refusal:
        await connect(f"{served.live}?pass=a-pass-that-nobody-has-sold", proxy=None)
    assert refusal.value.response.status_code == 403


async def test_phone_with_a_forged_code_or_anothers_scan_pass_is_refused(
    phone: Client, clinic: SomeClinic
) -> None:
    someone, _, _ = await clinic.visit(utc_now() + soon())
    code = clinic.code()
    forged = code[:-1] + ("A" if code[-1] != "A" else "B")
    body = {"code": forged, "secret_hash": hash_secret(PAGE_SECRET)}
    answer = await phone.post(f"{API}/appointments/check-in/scans", json=body)
    assert (answer.status_code, answer.json()["code"]) == (404, "QR_INVALID")
    answer = await phone.post(f"{API}/appointments/check-in/scans", json=body | {"code": code})
    stolen = {"scan_pass": answer.json()["scan_pass"], "scan_secret": "the secret of another page"}
    answer = await phone.post(SCAN_QR, json=stolen, headers=someone.headers)
    assert (answer.status_code, answer.json()["code"]) == (404, "QR_INVALID")


async def test_live_pass_opens_one_socket_only(
    served: Served, phone: Client, clinic: SomeClinic
) -> None:
    someone, _ = await clinic.signed_in_patient()
    answer = await phone.post(f"{API}/live/passes", headers=someone.headers)
    address = f"{served.live}?pass={answer.json()['live_pass']}"
    async with connect(address, proxy=None):
        with pytest.raises(InvalidStatus):
            await connect(address, proxy=None)


async def test_patient_hears_nothing_of_a_queue_without_a_place_in_it(
    served: Served, phone: Client, clinic: SomeClinic
) -> None:
    someone, _, _ = await clinic.visit(utc_now() + soon())
    receipt = await scan(phone, clinic, someone.headers)
    other, _ = await clinic.signed_in_patient()
    async with await open_socket(served, phone, other.headers) as socket:
        frame = await watch(socket, clinic, receipt["queue_id"])
        assert (frame["type"], frame["code"]) == ("refused", "QUEUE_NOT_FOUND")


# The path


async def test_patient_taps_signs_in_and_gets_a_ticket_that_a_second_scan_repeats(
    phone: Client, clinic: SomeClinic
) -> None:
    someone, _, visit = await clinic.visit(utc_now() + soon())
    touch = {"code": clinic.code(), "secret_hash": hash_secret(PAGE_SECRET)}
    answer = await phone.post(f"{API}/appointments/check-in/scans", json=touch)
    assert answer.status_code == 200, answer.text
    assert answer.json()["point_name"] == clinic.point.name
    headers = await sign_in(phone, someone)  # which may take its time: the scan is kept
    held = {"scan_pass": answer.json()["scan_pass"], "scan_secret": PAGE_SECRET}
    answer = await phone.post(SCAN_QR, json=held, headers=headers)
    assert answer.status_code == 200, answer.text
    (receipt,) = answer.json()["check_ins"]
    assert receipt["appointment_id"] == str(visit.appointment_id)
    assert (receipt["ticket"], receipt["position"], receipt["already"]) == (1, 1, False)
    assert await scan(phone, clinic, headers) == receipt | {"already": True}


async def test_patient_who_waits_hears_of_everything_until_they_are_seen(
    served: Served, phone: Client, clinic: SomeClinic
) -> None:
    someone, patient, _ = await clinic.visit(utc_now() + soon())
    queue_id = (await scan(phone, clinic, someone.headers))["queue_id"]
    async with await open_socket(served, phone, someone.headers) as socket:
        frames = [await watch(socket, clinic, queue_id)]
        assert frames[0]["type"] == "snapshot"
        assert (frames[0]["state"]["waiting"], frames[0]["state"]["called"]) == ([1], [])

        other, _, _ = await clinic.visit(utc_now() + timedelta(minutes=25))
        assert (await scan(phone, clinic, other.headers))["ticket"] == 2
        frames.append(await hear(socket))

        doctor = await sign_in(phone, clinic.doctor) | {"X-Clinic-Id": str(clinic.clinic_id)}
        calls = f"{API}/queues/{queue_id}/calls"
        called = (await phone.post(calls, json={"room": "Room 3"}, headers=doctor)).json()
        assert (called["ticket"], called["patient_name"]) == (1, f"{patient.given_name} Tester")
        frames.append(await hear(socket))
        (place,) = (await phone.get(f"{API}/me/queue", headers=someone.headers)).json()
        assert (place["status"], place["position"], place["room"]) == ("called", 0, "Room 3")

        for step in ("start", "complete"):
            await move_once(phone, doctor, called["entry_id"], step)
            frames.append(await hear(socket))
        assert (await watch(socket, clinic, queue_id))["type"] == "refused", "no place, no sight"
    async with await open_socket(served, phone, other.headers) as socket:
        fresh = await watch(socket, clinic, queue_id)

    assert [(each["kind"], each["body"]) for each in frames[1:]] == [
        ("queue.entry_joined.v1", {"ticket": 2, "position": 2}),
        ("queue.entry_called.v1", {"ticket": 1, "room": "Room 3"}),
        ("queue.entry_started.v1", {"ticket": 1}),
        ("queue.entry_completed.v1", {"ticket": 1}),
    ]
    assert all(after["version"] == before["version"] + 1 for before, after in pairwise(frames))
    # What the events made of the old snapshot equals a fresh one.
    assert (fresh["type"], fresh["version"]) == ("snapshot", frames[-1]["version"])
    assert fresh["state"] == frames[0]["state"] | {"waiting": [2], "called": [], "in_progress": []}


async def test_patient_who_signs_out_is_cut_off(
    served: Served, phone: Client, clinic: SomeClinic
) -> None:
    someone, _ = await clinic.signed_in_patient()
    headers = await sign_in(phone, someone)
    kept = await sign_in(phone, someone)
    async with (
        await open_socket(served, phone, headers) as socket,
        await open_socket(served, phone, kept) as other,
    ):
        answer = await phone.post(f"{API}/auth/logout", headers=headers)
        assert answer.status_code == 204, answer.text
        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(socket.recv(), WITHIN_SECONDS)
        answer = await phone.get(f"{API}/me/queue", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "UNAUTHENTICATED")
        await other.send("{}")  # another sign-in of theirs goes on
        assert (await hear(other))["type"] == "refused"


async def test_log_of_the_whole_path_holds_no_patient(
    served: Served, phone: Client, clinic: SomeClinic
) -> None:
    someone, patient, _ = await clinic.visit(utc_now() + soon())
    headers = await sign_in(phone, someone)
    await scan(phone, clinic, headers)
    answer = await phone.post(f"{API}/queues/{patient.patient_id}/calls", headers=headers)
    trace = answer.json()["trace_id"]
    for _ in range(100):  # the line is written once the answer has left
        if f'"request_id":"{trace}"' in (said := served.said()):
            break
        await asyncio.sleep(0.05)
    else:
        raise AssertionError("the refusal is not in the log")
    private = (patient.given_name, someone.email, headers["Authorization"][7:], clinic.code())
    assert not [each for each in private if each in said]
