"""Logs and metrics: lines of JSON and counts of routes, and never a word about a person."""

import asyncio
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cliniq.app import House
from cliniq.platform.source import Urls
from tests.platform.wire import MARK, operations
from tests.support import NOON, PASSWORD, SECRET, Client, Hands, SomeClinic, found_clinic

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Said:
    """What a process answered and logged, and what it must not have logged."""

    answers: list[tuple[int, str]]
    metrics: str
    journal: str
    secrets: list[str]

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.journal.splitlines()]


@pytest.fixture(scope="module")
async def said(house: House, urls: Urls) -> Said:
    """One talk, which every test here looks at."""
    clinic = await found_clinic(house)
    patient = await clinic.patient()
    staff, bearer = clinic.acting(clinic.receptionist), clinic.receptionist.headers
    named = {"given_name": MARK, "family_name": MARK}
    sign_in = {"email": clinic.doctor.email, "password": PASSWORD}
    requests: list[dict[str, Any]] = [
        {"method": "POST", "url": "/api/v1/patients", "json": named, "headers": staff},
        {"method": "GET", "url": f"/api/v1/patients/{patient.patient_id}", "headers": staff},
        {"method": "POST", "url": "/api/v1/auth/login", "json": sign_in},
        {"method": "POST", "url": "/api/v1/auth/login", "json": sign_in | {"password": MARK}},
        {"method": "POST", "url": "/api/v1/live/passes", "headers": bearer},
        {"method": "GET", "url": f"/api/v1/appointments?cursor={MARK}", "headers": staff},
        {"method": "GET", "url": f"/api/v1/appointments?status={MARK}", "headers": staff},
        {"method": "GET", "url": f"/api/v1/patients/{MARK}", "headers": staff},
        {"method": "GET", "url": f"/{MARK}?{MARK}={MARK}", "headers": {"User-Agent": MARK}},
        {"method": "GET", "url": f"/c/{clinic.code()}"},
        {"method": "GET", "url": "/api/v1/queues", "headers": bearer | {"X-Clinic-Id": MARK}},
        {"method": "POST", "url": "/api/v1/patients", "headers": staff, "content": MARK},
        {"method": "POST", "url": "/api/v1/patients", "json": named, "headers": bearer}
        | {"headers": clinic.acting(clinic.doctor)},
    ]
    process = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "tests.platform.talk"],
        input=json.dumps(
            {
                "dsn": urls.application,
                "secret": SECRET,
                "noon": NOON.isoformat(),
                "level": "debug",
                "mark": MARK,
                "requests": requests,
                "broken": [requests[0]],
            }
        ),
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=180,
    )
    assert process.returncode == 0, process.stderr
    answers = json.loads(process.stdout)
    signed_in = json.loads(answers["answers"][2][1])
    live_pass = json.loads(answers["answers"][4][1])["live_pass"]
    secrets = [
        MARK,
        PASSWORD,
        SECRET,
        clinic.doctor.email,
        clinic.receptionist.access_token,
        signed_in["access_token"],
        signed_in["refresh_token"],
        live_pass,
        clinic.code(),
        patient.given_name,
        str(patient.patient_id),
        str(clinic.receptionist.person_id),
    ]
    return Said(**answers, journal=process.stderr, secrets=secrets)


async def test_log_is_json_a_line_and_holds_no_secret_and_no_person(said: Said) -> None:
    statuses = [status for status, _ in said.answers]
    assert statuses == [201, 200, 200, 401, 201, 422, 422, 422, 404, 200, 422, 422, 403, 500]
    for line in said.lines:
        assert line.keys() >= {"event", "level", "timestamp"}
    requests = [line for line in said.lines if line["event"] == "request"]
    assert len(requests) == len(statuses) + 1
    for secret in said.secrets:
        assert secret not in said.journal


async def test_log_names_routes_codes_and_ids_of_requests(said: Said) -> None:
    requests = [line for line in said.lines if line["event"] == "request"]
    routes = {line["route"] for line in requests}
    assert {"/api/v1/patients/{patient_id}", "/c/{code}", "unrouted"} <= routes
    told = [json.loads(text).get("trace_id") for status, text in said.answers if status >= 400]
    assert {line["request_id"] for line in requests if line["code"]} == set(told)
    for line, (status, text) in zip(requests, said.answers, strict=False):
        assert line["status"] == status
        assert line["code"] == (json.loads(text)["code"] if status >= 400 else "")


async def test_errors_are_logged_with_their_place_and_without_their_message(said: Said) -> None:
    errors = {line["event"]: line for line in said.lines if line["level"] == "error"}
    assert errors.keys() == {
        "unexpected error",
        "a library fails",
        "we fail",
        "a task was forgotten",
    }
    for line in errors.values():
        assert ", line " in line["trace"]
    assert "23503" in errors["unexpected error"]["trace"] or (
        "23505" in errors["unexpected error"]["trace"]
    )
    for event in ("a library fails", "we fail", "a task was forgotten"):
        assert "builtins.ValueError" in errors[event]["trace"]
        assert errors[event]["trace"].endswith("builtins.KeyError")


async def test_metrics_count_routes_and_codes_and_nobody(said: Said) -> None:
    families = {each.name: each for each in text_string_to_metric_families(said.metrics)}
    assert {name.removesuffix("_created") for name in families} == {
        "cliniq_http_request_seconds",
        "cliniq_problems",
        "cliniq_live_sockets",
        "cliniq_database_connections",
        "cliniq_cache_reads",
    }
    counted = {
        (each.labels["method"], each.labels["route"], each.labels["status"]): each.value
        for each in families["cliniq_http_request_seconds"].samples
        if each.name.endswith("_count")
    }
    assert counted["POST", "/api/v1/patients", "201"] == 1
    assert counted["POST", "/api/v1/patients", "500"] == 1
    assert counted["GET", "unrouted", "404"] == 1
    known = {each.path for each in operations()} | {"unrouted", "/c/{code}"}
    assert {route for _, route, _ in counted} <= known
    problems = {
        each.labels["code"]: each.value
        for each in families["cliniq_problems"].samples
        if each.name.endswith("_total")
    }
    assert problems["REQUEST_INVALID"] == 5
    assert problems["INTERNAL"] == problems["FORBIDDEN"] == problems["SIGN_IN_FAILED"] == 1
    for secret in said.secrets:
        assert secret not in said.metrics


async def test_metrics_show_connections_in_use(
    client: Client, clinic: SomeClinic, hands: Hands
) -> None:
    pool = clinic.house.entrance.database.clinic

    async def shown() -> dict[tuple[str, str], float]:
        text = (await client.get("/metrics")).text
        families = {each.name: each for each in text_string_to_metric_families(text)}
        return {
            (each.labels["pool"], each.labels["state"]): each.value
            for each in families["cliniq_database_connections"].samples
        }

    before = await shown()
    assert before["clinic", "busy"] == 0
    async with pool.acquire():
        assert (await shown())["clinic", "busy"] == 1
    assert before.keys() == {
        (name, state) for name in ("clinic", "person", "platform") for state in ("idle", "busy")
    }
