"""What crosses the wire towards the intake room: only words about a file; it is a body itself."""

from typing import Annotated

from pydantic import StringConstraints

from cliniq.platform.http.fields import Line

FileName = Annotated[Line, StringConstraints(max_length=100, pattern=r"^[^\x00-\x1f/\\]+$")]
ReadingText = Annotated[str, StringConstraints(max_length=8_000, pattern=r"^[^\x00]*$")]
