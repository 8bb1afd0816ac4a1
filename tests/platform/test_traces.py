"""Traces: from a request to all it causes, without a word about a person, and free when off."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import structlog
from msgspec.structs import replace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from cliniq.app import House
from cliniq.domains.checkin import service as checkin
from cliniq.domains.queue.events import EntryCalled
from cliniq.kernel.ids import new_id
from cliniq.kernel.problem import NotFound
from cliniq.platform import traces
from cliniq.platform.db import Unit
from cliniq.platform.jobs import Job, Registry, when
from cliniq.platform.lanes import Lane
from cliniq.platform.live import Connection, Known, Snapshot, topic_in
from cliniq.platform.outbound.provider import Provider, Request
from cliniq.platform.outbound.refusals import ProviderRefused
from cliniq.platform.telemetry import configure_logs
from cliniq.platform.traces import carrier, configure_traces, is_tracing, note, span, trace_id
from tests.platform.outbound.servers import calling, reply, serving
from tests.platform.tasks import worker_of
from tests.platform.wire import MARK
from tests.relays import free_leases, relay_of
from tests.support import PASSWORD, Admin, Client, SomeClinic

THEIRS = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def names(spans: InMemorySpanExporter) -> list[str]:
    return [each.name for each in spans.get_finished_spans()]


def one(spans: InMemorySpanExporter, name: str) -> ReadableSpan:
    (found,) = [each for each in spans.get_finished_spans() if each.name == name]
    return found


def ids(opened: ReadableSpan) -> tuple[int, int]:
    assert opened.context is not None
    return opened.context.trace_id, opened.context.span_id


# --- off ------------------------------------------------------------------------------------------


def test_process_that_does_not_trace_makes_and_tells_nothing() -> None:
    with configure_traces(None, "api"):
        assert not is_tracing()
        with span("x", parent=THEIRS, links=[THEIRS], y="z") as opened:
            note("moment")
            assert (carrier(), trace_id()) == ("", "")
            opened.set_attribute("x", 1)
            assert not opened.is_recording()
        assert span("x") is span("y", kind="client", a=1)


def test_importing_opens_no_thread_and_no_provider() -> None:
    assert traces._TRACING.tracer is None  # noqa: SLF001


# --- on -------------------------------------------------------------------------------------------


async def test_request_is_a_span_with_its_route_its_status_and_its_units(
    client: Client, clinic: SomeClinic, spans: InMemorySpanExporter
) -> None:
    someone, patient = await clinic.signed_in_patient()
    spans.clear()
    path = f"/api/v1/patients/{patient.patient_id}"
    answer = await client.get(path, headers=clinic.acting(someone))
    assert answer.status_code == 200
    opened = one(spans, "GET /api/v1/patients/{patient_id}")
    assert opened.attributes == {
        "http.request.method": "GET",
        "http.route": "/api/v1/patients/{patient_id}",
        "http.response.status_code": 200,
        "cliniq.code": "",
        "cliniq.request_id": answer.headers["x-request-id"],
    }
    assert [each.name for each in opened.events] == ["begin", "commit"]
    assert opened.events[0].attributes == {"role": "cliniq_person"}
    assert opened.parent is None


async def test_refusal_is_told_by_its_code_and_a_break_by_its_kind(
    client: Client, clinic: SomeClinic, spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"/api/v1/patients/{clinic.clinic_id}"
    await client.get(path, headers=clinic.acting(clinic.receptionist))
    opened = one(spans, "GET /api/v1/patients/{patient_id}")
    assert opened.attributes is not None
    assert opened.attributes["cliniq.code"] == "PATIENT_NOT_FOUND"
    assert [each.name for each in opened.events][:2] == ["begin", "rollback"]
    with pytest.raises(KeyError), span("broken"):
        raise KeyError(MARK)
    broken = one(spans, "broken")
    assert broken.status.status_code is StatusCode.ERROR
    assert broken.attributes == {"error.type": "KeyError"}
    assert broken.status.description is None
    assert broken.events == ()
    with pytest.raises(NotFound), span("refused"):
        raise NotFound
    assert one(spans, "refused").attributes == {"cliniq.code": "NOT_FOUND"}
    assert one(spans, "refused").status.status_code is StatusCode.UNSET


async def test_trace_of_whoever_asks_is_linked_and_never_continued(
    client: Client, spans: InMemorySpanExporter
) -> None:
    await client.get("/health/live", headers={"traceparent": THEIRS})
    opened = one(spans, "GET /health/live")
    assert opened.parent is None
    assert f"{ids(opened)[0]:032x}" not in THEIRS
    (link,) = opened.links
    assert f"{link.context.trace_id:032x}-{link.context.span_id:016x}" in THEIRS


@pytest.mark.parametrize("sin", ["", "x", "00-0-0-01", f"00-{'0' * 32}-{'0' * 16}-01", "\xff" * 99])
async def test_traceparent_that_is_none_is_overheard(
    client: Client, spans: InMemorySpanExporter, sin: str
) -> None:
    headers = [(b"traceparent", sin.encode("latin-1"))]
    assert (await client.get("/health/live", headers=headers)).status_code == 200
    assert one(spans, "GET /health/live").links == ()
    with span("job", parent=sin, links=[sin]):
        assert carrier()
    assert one(spans, "job").parent is None


async def test_what_a_request_tells_is_continued_elsewhere_under_the_same_trace(
    client: Client,
    clinic: SomeClinic,
    spans: InMemorySpanExporter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As an event of a scan goes: its row has the traceparent, a job and a batch go on with it."""
    someone, _, _ = await clinic.visit()
    told: list[str] = []
    scan = checkin.scan

    async def scanned(*given: Any, **named: Any) -> Any:
        told.append(carrier())
        return await scan(*given, **named)

    monkeypatch.setattr(checkin, "scan", scanned)
    spans.clear()
    assert (await clinic.scan(client, someone)).status_code == 200
    request = one(spans, "POST /api/v1/appointments/check-in/scan-qr")
    with span("run job", parent=told[0], kind="consumer", job="queue.notify"):
        pass
    with span("relay", links=told):
        pass
    job, relay = one(spans, "run job"), one(spans, "relay")
    assert job.parent is not None
    assert (job.parent.trace_id, job.parent.span_id) == ids(request)
    assert ids(job)[0] == ids(request)[0]
    assert [each.context.trace_id for each in relay.links] == [ids(request)[0]]
    assert ids(relay)[0] != ids(request)[0]


async def test_requests_at_once_keep_their_traces_apart(
    client: Client, clinic: SomeClinic, spans: InMemorySpanExporter
) -> None:
    headers = clinic.acting(clinic.admin)
    await asyncio.gather(
        *(client.get("/api/v1/clinic-locations", headers=headers) for _ in range(20))
    )
    opened = [each for each in spans.get_finished_spans() if each.name.endswith("clinic-locations")]
    assert len({ids(each)[0] for each in opened}) == 20
    assert {tuple(event.name for event in each.events) for each in opened} == {("begin", "commit")}


async def test_call_to_a_provider_is_a_span_and_only_who_may_hears_of_our_trace(
    spans: InMemorySpanExporter,
) -> None:
    async with serving(reply(200)) as server, calling() as caller:
        request = Request("GET", server.url(f"/{MARK}?{MARK}"), {"X-Key": MARK})
        provider = Provider("acme", ports=frozenset({server.port}), is_plain=True)
        await caller.outbound.call(None, provider, request)
        provider = replace(provider, is_traced=True)
        await caller.outbound.call(None, provider, request)
        server.replies[:] = [reply(403, MARK.encode())]
        with pytest.raises(ProviderRefused):
            await caller.outbound.call(None, provider, request)
    first, second, third = spans.get_finished_spans()
    assert first.attributes == {"provider": "acme", "http.response.status_code": 200}
    assert third.attributes == {"provider": "acme", "cliniq.code": "PROVIDER_REFUSED"}
    assert "traceparent" not in server.heard[0].headers
    trace, here = ids(second)
    assert server.heard[1].headers["traceparent"].startswith(f"00-{trace:032x}-{here:016x}-")
    assert MARK not in str([each.to_json() for each in (first, second, third)])


async def test_log_lines_name_the_trace(
    client: Client, spans: InMemorySpanExporter, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    before = structlog.get_config()
    configure_logs("info")
    try:
        with span("x") as opened:
            structlog.get_logger().new().info("inside")
        structlog.get_logger().new().info("outside")
    finally:
        structlog.configure(**before)
    inside, outside = map(json.loads, capfdbinary.readouterr().err.splitlines())
    assert inside["otel_trace_id"] == f"{opened.get_span_context().trace_id:032x}"
    assert "otel_trace_id" not in outside


async def test_no_span_holds_a_person_a_token_or_a_query(
    client: Client, clinic: SomeClinic, spans: InMemorySpanExporter
) -> None:
    patient = await clinic.patient()
    spans.clear()
    staff = clinic.acting(clinic.receptionist)
    named = {"given_name": MARK, "family_name": MARK}
    sign_in = {"email": clinic.doctor.email, "password": PASSWORD}
    await client.post("/api/v1/patients", json=named, headers=staff)
    await client.get(f"/api/v1/patients/{patient.patient_id}", headers=staff)
    await client.get(f"/api/v1/patients/{MARK}", headers=staff)
    await client.get(f"/api/v1/appointments?cursor={MARK}&status={MARK}", headers=staff)
    await client.get(f"/{MARK}?{MARK}={MARK}", headers={"User-Agent": MARK, "tracestate": MARK})
    await client.get(f"/c/{clinic.code()}")
    await client.post("/api/v1/auth/login", json=sign_in)
    await client.post("/api/v1/auth/login", json=sign_in | {"password": MARK})
    await client.post("/api/v1/live/passes", headers=clinic.doctor.headers)
    said = str([each.to_json() for each in spans.get_finished_spans()])
    assert len(spans.get_finished_spans()) == 9
    for secret in [
        MARK,
        PASSWORD,
        clinic.doctor.email,
        clinic.receptionist.access_token,
        clinic.code(),
        patient.given_name,
        str(patient.patient_id),
        str(clinic.receptionist.person_id),
        str(clinic.clinic_id),
    ]:
        assert secret not in said
    with span("sin", name=MARK):  # the canary sings
        pass
    assert MARK in str([each.to_json() for each in spans.get_finished_spans()])


# --- where they go --------------------------------------------------------------------------------


@dataclass
class Collector:
    """A collector of traces (OTLP over HTTP) on loopback."""

    url: str = ""
    paths: list[str] = field(default_factory=list)
    taken: list[ExportTraceServiceRequest] = field(default_factory=list)

    @property
    def spans(self) -> list[Any]:
        return [
            each
            for batch in self.taken
            for resource in batch.resource_spans
            for scope in resource.scope_spans
            for each in scope.spans
        ]


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    collector = Collector()
    async with serving(reply(200, content_type="application/x-protobuf")) as server:
        collector.url = server.url("").rstrip("/")
        yield collector
        for heard in server.heard:
            collector.paths.append(heard.path)
            collector.taken.append(ExportTraceServiceRequest.FromString(heard.body))


async def send(url: str, code: Sequence[str]) -> str:
    """Run a process that traces."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "\n".join(["from cliniq.platform.traces import configure_traces, span", *code]),
        url,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said
    return said.decode()


MAKE_SPANS = [
    "import sys",
    "with configure_traces(sys.argv[1], 'worker'):",
    "    with span('outer', job='x'):",
    "        with span('inner'): pass",
]


async def test_traces_arrive_at_the_collector_before_the_process_ends() -> None:
    async with collecting() as collector:
        assert await send(collector.url, [*MAKE_SPANS, "import os", "os._exit(0)"]) == ""
    assert collector.paths == ["/v1/traces"]
    inner, outer = collector.spans
    assert (outer.name, inner.name) == ("outer", "inner")
    assert inner.parent_span_id == outer.span_id
    resource = collector.taken[0].resource_spans[0].resource
    said = {each.key: each.value.string_value for each in resource.attributes}
    assert said["service.name"] == "cliniq-worker"


async def test_collector_that_is_away_costs_the_traces_and_nothing_else() -> None:
    async with serving() as server:
        url = server.url("").rstrip("/")
    said = await send(url, [*MAKE_SPANS, "print('over')"])
    assert said.splitlines()[-1] == "over"


# --- from the request to the job and the socket ---------------------------------------------------


async def watching(house: House, clinic: SomeClinic, queue_id: str) -> Connection:
    """Somebody who watches a queue."""

    async def load(_known: Known | None) -> Snapshot:
        return Snapshot(1, None)

    watcher = Connection(new_id())
    topic = topic_in(clinic.clinic_id, f"queue:{queue_id}")
    await house.entrance.hub.subscribe(watcher, topic, load)
    return watcher


async def forget_what_others_told(house: House, admin: Admin) -> None:
    await free_leases(admin)
    await relay_of(house).drain()
    await free_leases(admin)


async def test_call_its_job_and_what_the_board_shows_of_it_are_one_trace(
    house: House, client: Client, clinic: SomeClinic, spans: InMemorySpanExporter, admin: Admin
) -> None:
    someone, _, _ = await clinic.visit()
    (receipt,) = (await clinic.scan(client, someone)).json()["check_ins"]
    done = asyncio.Event()

    async def hear(_unit: Unit, _told: EntryCalled) -> None:
        done.set()

    job = Job("test.hear", Lane.REMINDERS, EntryCalled, hear)
    registry = Registry([job], [when(EntryCalled, job)])
    relay = relay_of(house, house.entrance.bus, registry.forward)
    await forget_what_others_told(house, admin)
    watcher = await watching(house, clinic, receipt["queue_id"])
    spans.clear()
    async with worker_of(house, registry=registry):
        called = await client.post(
            f"/api/v1/queues/{receipt['queue_id']}/calls", headers=clinic.acting(clinic.doctor)
        )
        assert called.status_code == 200
        await relay.drain()
        await asyncio.wait_for(done.wait(), 30)
    house.entrance.hub.leave(watcher)
    request = one(spans, "POST /api/v1/queues/{queue_id}/calls")
    caused = one(spans, "job test.hear"), one(spans, "live")
    assert {ids(each)[0] for each in caused} == {ids(request)[0]}
    assert caused[1].attributes is not None
    assert caused[1].attributes["fact"] == EntryCalled.kind
    linked = {link.context.trace_id for link in one(spans, "relay").links}
    assert linked == {ids(request)[0]}
