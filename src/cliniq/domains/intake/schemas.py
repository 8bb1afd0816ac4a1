"""What crosses the wire towards the intake room: only words about a file; it is a body itself."""

from typing import Annotated

from pydantic import AfterValidator, StringConstraints

from cliniq.platform.http.fields import STORABLE, line_without

FileName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=100, pattern=line_without(r"/\\")),
    AfterValidator(str.strip),
]
ReadingText = Annotated[str, StringConstraints(max_length=8_000, pattern=STORABLE)]
