"""The exception tree of birdlab.

    BirdlabError
    ├── SpecError        an experiment, sweep or lab file does not say something valid
    ├── LabError         a store, a data set name or a path of the lab cannot be used
    ├── DataError        a table does not hold what it must
    │   └── AudioError   a recording cannot be decoded
    ├── CellError        a cell failed while it was trained or evaluated
    │   ├── LostWorkerError  the process that ran it died: tried again
    │   ├── CellIOError      a file could not be read or written just then: tried again
    │   └── StoppedError     someone stopped it: no failure, the same command goes on
    ├── OutputsError     stored outputs are missing or do not fit what is asked of them
    ├── ResolveError     a RUN names nothing, or several things
    ├── LedgerError      a leaderboard row cannot be added
    ├── TrackingError    the MLflow store cannot be used
    ├── PromotionError   an export, a parity check or a gate failed
    └── PredictError     inference cannot start or cannot end with a valid submission

Every error says what is wrong, where, what was found, what was expected, and what to do.
"""

from __future__ import annotations

_UNSEEN = {
    code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\t\n"
}
"""Control characters as text: what a file holds may move no cursor and set no colour."""


_LINE_CHARS = 2_000
"""A longer line of a message, such as a field of a megabyte, is cut."""


class BirdlabError(Exception):
    """What went wrong, in words for the person who typed the command.

    `what` is a sentence; the rest is optional and printed on lines of its own:
    `where` (file:line, field, run), `got`, `expected`, `fix` (what to type or change).
    """

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        got: object = None,
        expected: str | None = None,
        fix: str | None = None,
    ) -> None:
        self.what, self.where, self.got, self.expected, self.fix = what, where, got, expected, fix
        super().__init__(what)

    def __str__(self) -> str:
        lines = [self.what]
        for label, value in (
            ("where", self.where),
            ("got", self.got),
            ("expected", self.expected),
            ("fix", self.fix),
        ):
            if value is not None:
                lines.append(f"  {label + ':':<10}{value}")
        text = "\n".join(lines).translate(_UNSEEN)
        return "\n".join(map(_shortened, text.split("\n")))

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), dict(self.__dict__)))


def first_line(error: BaseException) -> str:
    """The first line of what an error says; its kind where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def _shortened(line: str) -> str:
    left_out = len(line) - _LINE_CHARS
    return line if left_out <= 0 else f"{line[:_LINE_CHARS]}... ({left_out:,} characters more)"


def _rebuild(cls: type[BirdlabError], state: dict[str, object]) -> BirdlabError:
    error = cls.__new__(cls)
    Exception.__init__(error, state.get("what", ""))
    error.__dict__.update(state)
    return error


class SpecError(BirdlabError):
    """An experiment, sweep or lab file does not say something valid."""


class LabError(BirdlabError):
    """A store, a data set name or a path of the lab cannot be used."""


class DataError(BirdlabError):
    """A table does not hold what it must."""


class AudioError(DataError):
    """A recording cannot be decoded."""


class CellError(BirdlabError):
    """A cell failed while it was trained or evaluated."""


class LostWorkerError(CellError):
    """The process that ran a cell died, so another one may well finish it."""


class CellIOError(CellError):
    """A file could not be read or written just then, so the next try may well succeed."""


class StoppedError(CellError):
    """A cell was stopped because nobody wants it any more; what it reached is kept."""


class OutputsError(BirdlabError):
    """Stored outputs are missing or do not fit what is asked of them."""


class ResolveError(BirdlabError):
    """A RUN names nothing, or several things."""


class LedgerError(BirdlabError):
    """A leaderboard row cannot be added."""


class TrackingError(BirdlabError):
    """The MLflow store cannot be used."""


class PromotionError(BirdlabError):
    """An export, a parity check or a gate failed."""


class PredictError(BirdlabError):
    """Inference cannot start or cannot end with a valid submission."""
