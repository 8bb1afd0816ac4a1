"""Files and folders as the sources of an import: opened one after the other, packed or not."""

import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cliniq.domains.intake import api as intake

PACKED = (".tar.gz", ".tgz", ".tar")
BROKEN = (*intake.BROKEN, tarfile.TarError)

Noted = Callable[[int], None]  # how many more bytes of the source were read


def nobody(_more: int) -> None:
    """Count nothing."""


def list_paths(source: Path) -> list[Path]:
    """List the files of a source that say what they are, in an order that is always the same.

    Raises: FILE_KIND_UNKNOWN 409 where there is none; OSError.
    """
    if source.is_dir():
        found = sorted(each for each in source.rglob("*") if each.is_file() and _is_known(each))
    else:
        source.stat()
        found = [source] if _is_known(source) else []
    if not found:
        raise intake.FileKindUnknown([*intake.ENDINGS, *PACKED])
    return found


def _is_known(path: Path) -> bool:
    return path.name.lower().endswith(PACKED) or intake.kind_of(path.name) is not None


def contents(source: Path, paths: list[Path]) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Hand on what the files of a source hold, as it is written."""
    for path in paths:
        with path.open("rb") as file:
            yield _name(source, path), intake.pieces_of(file)


def open_files(source: Path, paths: list[Path], note: Noted = nobody) -> Iterator[intake.File]:
    """Open the files of a source, one after the other; packed ones are unpacked as they come."""
    for path in paths:
        name = _name(source, path)
        with path.open("rb") as file:
            counted = intake.Counted(file, note)
            if path.name.lower().endswith(PACKED):
                yield from _members(name, counted)
                continue
            kind = intake.kind_of(path.name)
            assert kind is not None  # noqa: S101 - or it would not be listed
            packed = path.name.lower().endswith(".gz")
            yield intake.File(
                name, kind, intake.unpacked(counted) if packed else intake.pieces_of(counted)
            )


def _name(source: Path, path: Path) -> str:
    return path.name if path == source else path.relative_to(source).as_posix()


def _members(name: str, file: Any) -> Iterator[intake.File]:
    """Hand on the files of an archive; one that breaks off is found as such, in its last file."""
    try:
        with tarfile.open(fileobj=file, mode="r|*") as archive:
            for member in archive:
                kind = intake.kind_of(member.name)
                if member.isfile() and kind is not None:
                    yield intake.File(f"{name}/{member.name}", kind, _member(archive, member))
    except BROKEN as error:
        yield intake.File(name, intake.FileKind.NDJSON, _broken(error))


def _member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[bytes]:
    file = archive.extractfile(member)
    assert file is not None  # noqa: S101 - it is a file
    pieces = (
        intake.unpacked(file) if member.name.lower().endswith(".gz") else intake.pieces_of(file)
    )
    try:
        yield from pieces
    except BROKEN as error:
        raise intake.Unreadable(f"an archive, and broken: {error}") from error


def _broken(error: Exception) -> Iterator[bytes]:
    yield b""
    raise intake.Unreadable(f"an archive, and broken: {error}")
