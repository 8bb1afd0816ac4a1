"""What a code at the door is worth: photographed, slow, forged, retired, or not enough."""

from datetime import timedelta
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cliniq.app import House
from cliniq.domains.appointments import api as appointments
from cliniq.domains.checkin.api import Code, CodeKind, hash_secret
from cliniq.domains.checkin.codes import PASS, trust_code, trust_pass
from cliniq.domains.checkin.errors import QrInvalid
from cliniq.domains.checkin.rules import ROTATION_SECONDS, key_context, rotation_of, write_code
from cliniq.domains.clinics import api as clinics
from cliniq.domains.patients import api as patients
from cliniq.kernel.ids import PersonId, new_id
from cliniq.kernel.permissions import Role
from cliniq.kernel.scope import GuestScope
from cliniq.platform.db import open_read_unit
from cliniq.platform.signing import MAC_BYTES, Keyring, from_text, to_text
from tests.domains.watch import Watch
from tests.support import NOON, SECRET, Client, Hands, SomeClinic, Someone, found_clinic

SCANS = "/api/v1/appointments/check-in/scans"
SCAN_QR = "/api/v1/appointments/check-in/scan-qr"
PAGE_SECRET = "what the page keeps to itself, once"  # noqa: S105
ROTATION = timedelta(seconds=ROTATION_SECONDS)


async def exchange(client: Client, code: str, secret: str = PAGE_SECRET) -> str:
    """The first touch, which must succeed: a scan pass."""
    answer = await client.post(SCANS, json={"code": code, "secret_hash": hash_secret(secret)})
    assert answer.status_code == 200, answer.text
    scan_pass: str = answer.json()["scan_pass"]
    return scan_pass


async def show(client: Client, someone: Someone, **body: object) -> tuple[int, str]:
    """A scan by whatever proof; status and code of the answer."""
    answer = await client.post(SCAN_QR, json=body, headers=someone.headers)
    return answer.status_code, answer.json().get("code", "")


def rotating(clinic: SomeClinic, hands: Hands, point: clinics.CheckInPoint | None = None) -> str:
    """The code that the screen shows now."""
    return clinic.code(CodeKind.ROTATING, point=point, step=rotation_of(hands.wall))


# Rotation


@pytest.mark.parametrize("later", [-2 * ROTATION, 2 * ROTATION, timedelta(days=1)])
async def test_photo_of_a_rotated_out_code_is_refused(
    client: Client, clinic: SomeClinic, hands: Hands, later: timedelta
) -> None:
    someone, _, _ = await clinic.visit()
    photo = clinic.code(CodeKind.ROTATING, step=rotation_of(hands.wall + later))
    assert await show(client, someone, code=photo) == (409, "QR_EXPIRED")
    touch = await client.post(SCANS, json={"code": photo, "secret_hash": hash_secret("x" * 16)})
    assert (touch.status_code, touch.json()["code"]) == (409, "QR_EXPIRED")


@pytest.mark.parametrize("step", [-1, 0, 1])
async def test_code_works_in_its_own_rotation_and_in_the_neighbouring_ones(
    client: Client, clinic: SomeClinic, hands: Hands, step: int
) -> None:
    someone, _, _ = await clinic.visit()
    code = clinic.code(CodeKind.ROTATING, step=rotation_of(hands.wall) + step)
    assert await show(client, someone, code=code) == (200, "")


async def test_code_works_until_the_rotation_after_its_own_ends(
    client: Client, clinic: SomeClinic, hands: Hands
) -> None:
    someone, _, _ = await clinic.visit()
    code = rotating(clinic, hands)
    hands.wall += 2 * ROTATION
    assert await show(client, someone, code=code) == (409, "QR_EXPIRED")
    hands.wall -= timedelta(microseconds=1)
    assert await show(client, someone, code=code) == (200, "")


async def test_printed_code_does_not_rotate(
    client: Client, clinic: SomeClinic, hands: Hands
) -> None:
    someone, _, _ = await clinic.visit()
    code = clinic.code()
    hands.wall += timedelta(minutes=14)
    assert await show(client, someone, code=code) == (200, "")


# The scan pass


async def test_patient_whose_login_takes_longer_than_two_rotations_checks_in_by_scan_pass(
    client: Client, clinic: SomeClinic, hands: Hands
) -> None:
    someone, _, _ = await clinic.visit()
    code = rotating(clinic, hands)
    scan_pass = await exchange(client, code)
    hands.wall += timedelta(minutes=5)
    assert await show(client, someone, code=code) == (409, "QR_EXPIRED")
    proof = {"scan_pass": scan_pass, "scan_secret": PAGE_SECRET}
    assert await show(client, someone, **proof) == (200, "")


async def test_scan_pass_without_its_secret_is_worth_nothing(
    client: Client, clinic: SomeClinic
) -> None:
    someone, _, _ = await clinic.visit()
    scan_pass = await exchange(client, clinic.code())
    assert await show(client, someone, scan_pass=scan_pass) == (422, "REQUEST_INVALID")
    for wrong in (PAGE_SECRET[:-1], PAGE_SECRET + " ", hash_secret(PAGE_SECRET), "x" * 16):
        proof = {"scan_pass": scan_pass, "scan_secret": wrong}
        assert await show(client, someone, **proof) == (404, "QR_INVALID")
    proof = {"scan_pass": scan_pass, "scan_secret": PAGE_SECRET}
    assert await show(client, someone, **proof) == (200, "")


async def test_scan_pass_ends_after_ten_minutes(
    client: Client, clinic: SomeClinic, hands: Hands
) -> None:
    someone, _, _ = await clinic.visit()
    proof = {"scan_pass": await exchange(client, clinic.code()), "scan_secret": PAGE_SECRET}
    hands.wall += timedelta(minutes=10)
    assert await show(client, someone, **proof) == (409, "QR_EXPIRED")
    hands.wall -= timedelta(seconds=1)
    assert await show(client, someone, **proof) == (200, "")


async def test_scan_pass_does_not_outlive_the_key_of_its_code(
    client: Client, clinic: SomeClinic
) -> None:
    someone, _, _ = await clinic.visit()
    proof = {"scan_pass": await exchange(client, clinic.code()), "scan_secret": PAGE_SECRET}
    await retire(clinic, newest=2, oldest=2)
    assert await show(client, someone, **proof) == (409, "QR_EXPIRED")


@pytest.mark.parametrize("wrong", ["A" * 42, "A" * 42 + "B", "A" * 43 + "=", "A" * 42 + "+"])
async def test_hash_that_is_no_sha_256_gets_no_pass(
    client: Client, clinic: SomeClinic, wrong: str
) -> None:
    answer = await client.post(SCANS, json={"code": clinic.code(), "secret_hash": wrong})
    assert (answer.status_code, answer.json()["code"]) == (422, "REQUEST_INVALID")


async def test_first_touch_tells_nothing_of_patients(
    client: Client, clinic: SomeClinic, watch: Watch
) -> None:
    body = {"code": clinic.code(), "secret_hash": hash_secret(PAGE_SECRET)}
    before = (await client.post(SCANS, json=body)).json()
    someone, patient, _ = await clinic.visit()
    after = (await client.post(SCANS, json=body, headers=someone.headers)).json()
    assert before == after
    assert after == {
        "scan_pass": after["scan_pass"],
        "expires_in": 600,
        "clinic_id": str(clinic.clinic_id),
        "clinic_name": "Clinic",
        "site_name": "Main",
        "point_name": "Door",
    }
    assert str(patient.patient_id) not in str(after)
    await clinic.add_point(clinic.site)  # so that the points are read anew
    await watch.said()
    await watch.client.post(SCANS, json=body)
    begin, question, _ = (await watch.said()).statements
    assert "cliniq_person" in begin
    assert "check_in_point" in question


async def test_guest_at_the_door_sees_signs_and_nobodys_rows(clinic: SomeClinic) -> None:
    await clinic.visit()
    database = clinic.house.entrance.database
    async with open_read_unit(database, GuestScope(clinic.clinic_id)) as unit:
        assert await patients.list_own(unit, PersonId(new_id())) == []
        assert await appointments.list_own(unit, NOON, NOON) == []
        seen = await clinics.find_point(unit, clinic.point.check_in_point_id)
        assert seen is not None
        assert seen.point_name == "Door"
        for table in ("patient", "booking", "claim", "appointment_history", "queue_entry"):
            assert await unit.connection.fetchval(f"select count(*) from {table}") == 0  # noqa: S608


# Forgery


def nobody(house: House) -> dict[str, str]:
    """Headers of a signed-in person of whom the database knows nothing: no limit is used up."""
    claims = {"sub": str(new_id()), "sid": str(new_id()), "staff": False}
    return {"Authorization": f"Bearer {house.desk.tokens.issue(claims)}"}


async def forged(watch: Watch, house: House, text: str) -> set[tuple[int, str]]:
    """What either door answers to a text."""
    bodies = [
        (SCANS, {"code": text, "secret_hash": hash_secret(PAGE_SECRET)}),
        (SCAN_QR, {"code": text}),
        (SCAN_QR, {"scan_pass": text, "scan_secret": PAGE_SECRET}),
    ]
    answers = [
        await watch.client.post(path, json=body, headers=nobody(house)) for path, body in bodies
    ]
    return {(each.status_code, each.json()["code"]) for each in answers}


async def test_the_count_of_messages_counts(watch: Watch, clinic: SomeClinic) -> None:
    someone, _, _ = await clinic.visit()
    answer = await clinic.scan(watch.client, someone)
    assert answer.status_code == 200
    said = await watch.said()
    assert said.acquired == 1
    assert said.statements[0].startswith("begin; set local role cliniq_person; call take_own_seat")
    assert said.statements[-1] == "commit"
    assert len(said.statements) > 8
    await watch.client.post(SCANS, json={"code": clinic.code(), "secret_hash": hash_secret("x")})
    assert len(await watch.said()) == 3


async def test_code_with_any_bit_flipped_is_invalid_and_costs_no_message(
    watch: Watch, clinic: SomeClinic, house: House, hands: Hands
) -> None:
    code = from_text(rotating(clinic, hands))
    assert code is not None
    for bit in range(len(code) * 8):
        flipped = bytearray(code)
        flipped[bit // 8] ^= 1 << bit % 8
        text = to_text(bytes(flipped))
        touch = {"code": text, "secret_hash": hash_secret(PAGE_SECRET)}
        path, body = ((SCANS, touch), (SCAN_QR, {"code": text}))[bit % 2]
        answer = await watch.client.post(path, json=body, headers=nobody(house))
        assert (answer.status_code, answer.json()["code"]) == (404, "QR_INVALID"), bit
        with pytest.raises(QrInvalid):
            trust_code(house.entrance.keyring, text)
    assert len(await watch.said()) == 0


async def test_pass_with_any_bit_flipped_is_invalid_and_costs_no_message(
    watch: Watch, clinic: SomeClinic, house: House
) -> None:
    scan_pass = from_text(await exchange(watch.client, clinic.code()))
    assert scan_pass is not None
    await watch.said()
    for bit in range(len(scan_pass) * 8):
        flipped = bytearray(scan_pass)
        flipped[bit // 8] ^= 1 << bit % 8
        body = {"scan_pass": to_text(bytes(flipped)), "scan_secret": PAGE_SECRET}
        answer = await watch.client.post(SCAN_QR, json=body, headers=nobody(house))
        assert (answer.status_code, answer.json()["code"]) == (404, "QR_INVALID"), bit
    assert len(await watch.said()) == 0


def forgeries(clinic: SomeClinic, other: SomeClinic, scan_pass: str) -> dict[str, str]:
    """Texts that look like codes and are none, by the sin."""
    keyring = clinic.house.entrance.keyring
    genuine = from_text(clinic.code())
    assert genuine is not None
    mac = genuine[-MAC_BYTES:]
    here = Code(CodeKind.PRINTED, clinic.clinic_id, clinic.point.check_in_point_id, 1, 0)
    swapped = {
        "another clinic": replace_in(here, clinic_id=other.clinic_id),
        "another point": replace_in(here, check_in_point_id=other.point.check_in_point_id),
        "another clinic's point": replace_in(
            here, clinic_id=other.clinic_id, check_in_point_id=other.point.check_in_point_id
        ),
        "another key": replace_in(here, key_id=2),
        "another kind": replace_in(here, kind=CodeKind.ROTATING),
        "another step": replace_in(here, step=1),
    }
    text = clinic.code()
    return {
        **{sin: to_text(write_code(code) + mac) for sin, code in swapped.items()},
        "cut short": text[:-1],
        "cut to the MAC": to_text(mac),
        "too long": to_text(genuine + b"\0"),
        "a text of nothing": "A",
        "not canonical": text[:-1] + chr(ord(text[-1]) + 1),
        "no MAC": to_text(genuine[:-MAC_BYTES]),
        "half a MAC": to_text(genuine[: -MAC_BYTES // 2]),
        "an empty MAC": to_text(genuine[:-MAC_BYTES] + bytes(MAC_BYTES)),
        "a refresh token": clinic.admin.refresh_token,
        "a cursor": keyring.seal("cursor", write_code(here)),
        "sealed without its point": keyring.seal("check-in-code", write_code(here)),
        "another house's": Keyring(SECRET + "!").seal(
            "check-in-code", write_code(here), key_context(here)
        ),
        "a scan pass, cut": scan_pass[:80],
    }


def replace_in(code: Code, **changes: object) -> Code:
    facts = {name: getattr(code, name) for name in code.__struct_fields__}
    return Code(**(facts | changes))


async def test_forged_text_is_invalid_at_every_door_and_costs_no_message(
    watch: Watch, clinic: SomeClinic, house: House
) -> None:
    other = await found_clinic(house)
    scan_pass = await exchange(watch.client, clinic.code())
    await watch.said()
    for sin, text in forgeries(clinic, other, scan_pass).items():
        assert await forged(watch, house, text) == {(404, "QR_INVALID")}, sin
    assert len(await watch.said()) == 0


async def test_code_and_pass_are_not_taken_for_each_other(
    watch: Watch, clinic: SomeClinic, house: House
) -> None:
    scan_pass = await exchange(watch.client, clinic.code())
    await watch.said()
    swapped: list[dict[str, str]] = [
        {"code": scan_pass},
        {"scan_pass": clinic.code(), "scan_secret": PAGE_SECRET},
        {"scan_pass": house.entrance.keyring.seal(PASS, b""), "scan_secret": PAGE_SECRET},
    ]
    for body in swapped:
        answer = await watch.client.post(SCAN_QR, json=body, headers=nobody(house))
        assert (answer.status_code, answer.json()["code"]) == (404, "QR_INVALID")
    assert len(await watch.said()) == 0


@settings(deadline=None, derandomize=True, max_examples=300)
@given(
    st.one_of(
        st.text(alphabet=st.characters(codec="ascii"), max_size=200),
        st.binary(max_size=150).map(to_text),
    )
)
def test_no_text_is_a_code_by_chance(text: str) -> None:
    keyring = Keyring(SECRET)
    with pytest.raises(QrInvalid):
        trust_code(keyring, text)
    with pytest.raises(QrInvalid):
        trust_pass(keyring, text, PAGE_SECRET, None)  # type: ignore[arg-type] # never asked


async def test_code_of_a_point_that_does_not_exist_is_invalid(
    client: Client, clinic: SomeClinic
) -> None:
    someone, _, _ = await clinic.visit()
    gone = clinics.CheckInPoint(
        new_id(),
        clinic.site.site_id,
        "Gone",
        None,
        clinics.QrMode.STATIC,
        clinics.Verification.NONE,
        1,
        1,
    )
    assert await show(client, someone, code=clinic.code(point=gone)) == (404, "QR_INVALID")
    touch = await client.post(
        SCANS, json={"code": clinic.code(point=gone), "secret_hash": hash_secret("x")}
    )
    assert (touch.status_code, touch.json()["code"]) == (404, "QR_INVALID")


async def test_clinic_in_the_code_decides_and_not_the_one_in_the_header(
    client: Client, clinic: SomeClinic, house: House
) -> None:
    other = await found_clinic(house)
    someone, _, _ = await clinic.visit()
    headers = someone.headers | {"X-Clinic-Id": str(other.clinic_id)}
    answer = await client.post(SCAN_QR, json={"code": clinic.code()}, headers=headers)
    assert UUID(answer.json()["check_ins"][0]["clinic_id"]) == clinic.clinic_id


async def test_person_who_tries_wrong_codes_is_asked_to_wait(
    watch: Watch, clinic: SomeClinic
) -> None:
    someone, _, _ = await clinic.visit()
    neighbour, _, _ = await clinic.visit(NOON + timedelta(minutes=15))
    right = clinic.code()
    wrong = right[:-2] + ("AA" if right[-2:] != "AA" else "QQ")
    for _ in range(20):
        assert await show(watch.client, someone, code=wrong) == (404, "QR_INVALID")
    await show(watch.client, someone, code=wrong)  # a window that slides may forget one
    answer = await watch.client.post(SCAN_QR, json={"code": wrong}, headers=someone.headers)
    assert (answer.status_code, answer.json()["code"]) == (429, "RATE_LIMIT_EXCEEDED")
    assert int(answer.headers["retry-after"]) == answer.json()["retry_after_seconds"] >= 1
    assert len(await watch.said()) == 0
    assert await show(watch.client, neighbour, code=wrong) == (404, "QR_INVALID")
    assert await show(watch.client, someone, code=clinic.code()) == (200, "")


# Keys and verification


async def retire(clinic: SomeClinic, *, newest: int, oldest: int) -> None:
    """Move a point's live keys, as the rotation of keys will."""
    async with clinic.unit() as unit:
        await clinics.rekey_point(
            unit, clinic.point.check_in_point_id, key_id=newest, oldest_key=oldest
        )


async def test_code_of_a_retired_key_is_refused_and_both_live_keys_are_good(
    client: Client, clinic: SomeClinic
) -> None:
    someone, _, _ = await clinic.visit()
    await retire(clinic, newest=3, oldest=2)
    assert await show(client, someone, code=clinic.code(key_id=1)) == (409, "QR_EXPIRED")
    assert await show(client, someone, code=clinic.code(key_id=4)) == (409, "QR_EXPIRED")
    touch = await client.post(
        SCANS, json={"code": clinic.code(key_id=1), "secret_hash": hash_secret("x")}
    )
    assert touch.json()["code"] == "QR_EXPIRED"
    assert await show(client, someone, code=clinic.code(key_id=2)) == (200, "")
    assert await show(client, someone, code=clinic.code(key_id=3)) == (200, "")


@pytest.mark.parametrize("step", [clinics.Verification.DISPLAY, clinics.Verification.DESK])
async def test_printed_code_is_not_enough_where_the_point_asks_for_more(
    client: Client, clinic: SomeClinic, hands: Hands, step: clinics.Verification
) -> None:
    someone, _, _ = await clinic.visit()
    point = await clinic.add_point(clinic.site, verification=step)
    printed = clinic.code(point=point)
    answer = await client.post(SCAN_QR, json={"code": printed}, headers=someone.headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "VERIFICATION_REQUIRED")
    assert answer.json()["step"] == step
    body = {"code": printed, "secret_hash": hash_secret(PAGE_SECRET)}
    touch = await client.post(SCANS, json=body)
    assert (touch.json()["code"], touch.json()["step"]) == ("VERIFICATION_REQUIRED", step)
    assert await show(client, someone, code=rotating(clinic, hands, point)) == (200, "")


async def test_photo_of_an_old_poster_is_not_enough_where_the_code_rotates(
    client: Client, clinic: SomeClinic, hands: Hands
) -> None:
    someone, _, _ = await clinic.visit()
    point = await clinic.add_point(clinic.site, qr_mode=clinics.QrMode.ROTATING)
    answer = await client.post(
        SCAN_QR, json={"code": clinic.code(point=point)}, headers=someone.headers
    )
    assert (answer.json()["code"], answer.json()["step"]) == ("VERIFICATION_REQUIRED", "display")
    assert await show(client, someone, code=rotating(clinic, hands, point)) == (200, "")


# How a code is drawn


@pytest.mark.parametrize(("picture", "begins"), [("svg", b"<?xml"), ("png", b"\x89PNG")])
async def test_staff_draw_a_point_s_code(
    client: Client, clinic: SomeClinic, picture: str, begins: bytes
) -> None:
    path = f"/api/v1/appointments/locations/{clinic.point.check_in_point_id}/qr-code"
    answer = await client.get(
        path, params={"format": picture}, headers=clinic.acting(clinic.receptionist)
    )
    assert answer.status_code == 200
    assert answer.content.startswith(begins)
    nurse = await clinic.member(Role.NURSE)
    refused = await client.get(path, headers=clinic.acting(nurse))
    assert refused.json()["code"] == "FORBIDDEN"
