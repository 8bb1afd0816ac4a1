"""Facts this room tells."""

from typing import ClassVar
from uuid import UUID

from typing_extensions import override

from cliniq.platform.events import Event


class SiteOpened(Event, frozen=True):
    """A clinic has a new site."""

    kind: ClassVar[str] = "clinics.site_opened.v1"
    subject_type: ClassVar[str] = "site"

    site_id: UUID
    zone: str

    @property
    @override
    def subject_id(self) -> UUID:
        return self.site_id


class PointOpened(Event, frozen=True):
    """A site has a new check-in point."""

    kind: ClassVar[str] = "clinics.point_opened.v1"
    subject_type: ClassVar[str] = "check_in_point"

    check_in_point_id: UUID
    site_id: UUID

    @property
    @override
    def subject_id(self) -> UUID:
        return self.check_in_point_id


class PointRekeyed(Event, frozen=True):
    """A check-in point's codes are signed with another key; those of the oldest are retired."""

    kind: ClassVar[str] = "clinics.point_rekeyed.v1"
    subject_type: ClassVar[str] = "check_in_point"

    check_in_point_id: UUID
    key_id: int
    oldest_key: int

    @property
    @override
    def subject_id(self) -> UUID:
        return self.check_in_point_id
