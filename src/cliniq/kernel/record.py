"""The one shape of data: a row of a query, an event, an answer on the wire."""

from typing import Any, get_type_hints

from msgspec import Struct
from typing_extensions import TypedDict


class Record(Struct, frozen=True):
    """Named fields, frozen, encoded by msgspec, described to OpenAPI by the hook below."""

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: object, handler: Any) -> Any:
        """Describe this record, and any record inside it, as an object with the same fields."""
        hints = {name: get_type_hints(cls)[name] for name in cls.__struct_fields__}
        fields = TypedDict(cls.__name__, hints)  # type: ignore[misc]
        if cls.__doc__:
            fields.__doc__ = cls.__doc__
        return handler.generate_schema(fields)
