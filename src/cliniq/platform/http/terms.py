"""The terms of a route beside who may: what its traffic counts as, and whether it takes a key."""

from collections.abc import Mapping
from typing import Any

from cliniq.platform.http.traffic import Traffic
from cliniq.platform.idempotency import HEADER, LONGEST_KEY

TRAFFIC, KEY, LARGEST = "x-traffic", "x-idempotency", "x-largest-body"
CLINIC = "X-Clinic-Id"
SIGNED_IN: list[dict[str, list[str]]] = [{"bearer": []}]
SCHEMES: Mapping[str, Any] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "The `access_token` of a sign-in; it lasts for minutes.",
    }
}
REQUIRED, OPTIONAL = "required", "optional"
# Blanks at either end are no part of a header's value, whoever has sent them.
PRINTABLE = "^[!-~]([ -~]*[!-~])?$"


def terms(
    *,
    key_required: bool = False,
    no_key: str = "",
    traffic: Traffic | None = None,
    largest_file: int | None = None,
) -> dict[str, Any]:
    """Set terms that differ from what the method says, to be spread into a route's options.

    Every POST takes an `Idempotency-Key`. `key_required` where a repetition would hurt and nothing
    else prevents it; `no_key` is the reason why an answer of this route cannot be given again.
    Units: `largest_file`, bytes of a body that is a file, of any kind, and nothing that is parsed.
    """
    said: dict[str, Any] = {}
    if key_required or no_key:
        said[KEY] = f"none: {no_key}" if no_key else REQUIRED
    if traffic:
        said[TRAFFIC] = traffic.value
    if largest_file:
        bounds = {"minLength": 1, "maxLength": largest_file}
        file = {"schema": {"type": "string", "format": "binary", **bounds}}
        said["requestBody"] = {"required": True, "content": {"application/octet-stream": file}}
        said[LARGEST] = largest_file
    return {"openapi_extra": said}


def traffic_of(method: str, said: dict[str, Any], *, is_public: bool) -> Traffic:
    """Say what a route's traffic counts as."""
    if TRAFFIC in said:
        return Traffic(said[TRAFFIC])
    if is_public:
        return Traffic.PUBLIC
    return Traffic.READ if method == "GET" else Traffic.WRITE


def key_parameter(*, required: bool) -> dict[str, Any]:
    """Describe the header to OpenAPI."""
    return {
        "name": HEADER,
        "in": "header",
        "required": required,
        "description": "Of your own choice, new for every new request; the same when you ask again."
        " The first answer is given again for 24 hours, with `Idempotency-Replayed: true`.",
        "schema": {"type": "string", "pattern": PRINTABLE, "maxLength": LONGEST_KEY},
    }


def clinic_parameter() -> dict[str, Any]:
    """Describe the header that names the acting clinic to OpenAPI."""
    return {
        "name": CLINIC,
        "in": "header",
        "required": False,
        "description": "The clinic in which you act; by default the one that your sign-in began in."
        " A clinic that you are not in does not exist for you.",
        "schema": {"type": "string", "format": "uuid"},
    }
