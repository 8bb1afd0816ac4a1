"""Every refusal this room can utter; why single rows are refused, `models.Reason` says."""

from uuid import UUID

from cliniq.kernel.problem import Conflict, NotFound, RuleBroken


class ImportNotFound(NotFound):
    """The clinic has no such import."""

    code = "IMPORT_NOT_FOUND"
    title = "No such import here"


class ImportRunning(Conflict):
    """Somebody else is importing the same source at this moment."""

    code = "IMPORT_RUNNING"
    title = "This file is being imported already"


class ImportDone(Conflict):
    """The same file was imported before, as `import_id`: who has no number would come twice."""

    code = "IMPORT_DONE"
    title = "This file was imported before"

    def __init__(self, import_id: UUID) -> None:
        super().__init__(import_id=str(import_id))


class ReadingInvalid(RuleBroken):
    """The words that say how a file is to be read are not understood; `word` says which."""

    code = "READING_INVALID"
    title = "It is not understood how this file is to be read"

    def __init__(self, word: str) -> None:
        super().__init__(word=word)


class FileKindUnknown(RuleBroken):
    """The name of a file does not say how it is written; `known` lists the endings that do."""

    code = "FILE_KIND_UNKNOWN"
    title = "The name of this file does not say what it is"

    def __init__(self, known: list[str]) -> None:
        super().__init__(known=known)
