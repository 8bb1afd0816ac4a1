"""What a request must be like before anything is sent: one line a header, one plain address."""

import re

import httpx2

from cliniq.platform.outbound.addresses import ensure_plain
from cliniq.platform.outbound.provider import Provider, Request
from cliniq.platform.outbound.refusals import OutboundAddressRefused, OutboundRequestRefused

_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e\t]*[\x21-\x7e])?|")
_URL = re.compile(r"[\x21-\x7e]{1,4000}")
_OURS = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-length",
        "host",
        "te",
        "trailer",
        "traceparent",
        "transfer-encoding",
        "upgrade",
    }
)


def ensure_sound(request: Request) -> None:
    """Refuse a method, header or value that could say more than one thing.

    Raises: OUTBOUND_REQUEST_REFUSED 422.
    """
    if request.method not in _METHODS:
        raise OutboundRequestRefused("method")
    for name, value in request.headers.items():
        if not _TOKEN.fullmatch(name) or name.lower() in _OURS or not _VALUE.fullmatch(value):
            raise OutboundRequestRefused("header")


def read_url(url: str, provider: Provider) -> httpx2.URL:
    """Read the address of a request, or of the place that it is sent on to.

    Raises: OUTBOUND_ADDRESS_REFUSED 409.
    """
    if not _URL.fullmatch(url) or "\\" in url:
        raise OutboundAddressRefused("spelling")
    try:
        read = httpx2.URL(url)
        port = read.port or {"http": 80, "https": 443}.get(read.scheme)
    except (httpx2.InvalidURL, ValueError):
        raise OutboundAddressRefused("spelling") from None
    if read.scheme != "https" and not (provider.is_plain and read.scheme == "http"):
        raise OutboundAddressRefused("scheme")
    if read.userinfo or read.fragment:
        raise OutboundAddressRefused("spelling")
    host = read.raw_host.decode()
    ensure_plain(host)
    _ensure_written_as_read(url, f"[{host}]" if ":" in host else host, port)
    if port not in provider.ports:
        raise OutboundAddressRefused("port")
    return read


def _ensure_written_as_read(url: str, host: str, port: int | None) -> None:
    """Refuse an authority that the parser has mended: it is what was written, or nothing is."""
    written = re.split(r"[/?#]", url.partition("://")[2], maxsplit=1)[0]
    if written.lower() not in {host, f"{host}:{port}"}:
        raise OutboundAddressRefused("spelling")
