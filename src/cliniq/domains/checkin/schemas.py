"""What crosses the wire towards the check-in room."""

from datetime import timedelta
from typing import Annotated, Self
from uuid import UUID

from pydantic import ConfigDict, Field, StringConstraints, model_validator
from pydantic.config import JsonDict

from cliniq.platform.http.fields import STORABLE, Incoming, Line

Sealed = Annotated[
    str, StringConstraints(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9_-]+$")
]


class FirstTouchIn(Incoming):
    """A code as the phone read it, and the SHA-256 (base64url) of a secret that the page keeps."""

    code: Sealed
    # 32 bytes in their one canonical spelling: the last letter carries four bits, the rest is zero.
    secret_hash: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$")]


_NONE: JsonDict = {"type": "null"}
_TEXT: JsonDict = {"type": "string"}
# What the validator below asks, in the words of JSON Schema.
_ONE_PROOF_ONE_CHOICE: JsonDict = {
    "oneOf": [
        {
            "required": ["code"],
            "properties": {"code": _TEXT, "scan_pass": _NONE, "scan_secret": _NONE},
        },
        {
            "required": ["scan_pass", "scan_secret"],
            "properties": {"code": _NONE, "scan_pass": _TEXT, "scan_secret": _TEXT},
        },
    ],
    "not": {
        "required": ["all", "appointment_ids"],
        "properties": {"all": {"const": True}, "appointment_ids": {"type": "array"}},
    },
}


class ScanIn(Incoming):
    """A code, or the scan pass that it was exchanged for with the page's secret; and for whom.

    Without a choice, the one eligible visit is checked in. `all` takes every eligible one, of the
    caller and their dependants; `appointment_ids` takes those.
    """

    model_config = ConfigDict(json_schema_extra=_ONE_PROOF_ONE_CHOICE)

    code: Sealed | None = None
    scan_pass: Sealed | None = None
    scan_secret: (
        Annotated[str, StringConstraints(min_length=16, max_length=200, pattern=STORABLE)] | None
    ) = None
    appointment_ids: Annotated[list[UUID], Field(min_length=1, max_length=20)] | None = None
    all: Annotated[bool, Field(strict=True)] = False

    @model_validator(mode="after")
    def _one_proof_one_choice(self) -> Self:
        if (self.code is None) == (self.scan_pass is None):
            raise ValueError("either code or scan_pass")
        if (self.scan_pass is None) != (self.scan_secret is None):
            raise ValueError("scan_pass goes with scan_secret")
        if self.all and self.appointment_ids is not None:
            raise ValueError("either all or appointment_ids")
        return self


class DeskIn(Incoming):
    """Whose visit the desk checks in, and why not by a code."""

    appointment_id: UUID
    reason: Line | None = None


class WalkInIn(Incoming):
    """Who has come without a visit, and what for. Units: `minutes` that it may take.

    Where one line is for all of a site, `practitioner_id` says whom they see.
    """

    patient_id: UUID
    practitioner_id: UUID | None = None
    visit_type: Line = "walk-in"
    minutes: Annotated[int, Field(ge=5, le=480, strict=True)] = 15

    @property
    def length(self) -> timedelta:
        """Say how long it may take."""
        return timedelta(minutes=self.minutes)
