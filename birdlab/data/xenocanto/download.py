"""Files of recordings: each is whole, under a name that no server chose, or not there at all."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import requests
from filelock import FileLock, Timeout

from birdlab.data.xenocanto.failures import FetchError
from birdlab.data.xenocanto.ledger import (
    AUDIO,
    Finished,
    append_ledger,
    ledger_row,
    load_finished,
    save_ledger,
    save_recordings,
    save_skipped,
)
from birdlab.data.xenocanto.selection import Selection, Skip, Wanted
from birdlab.data.xenocanto.web import CHUNK_BYTES, Web
from birdlab.errors import DataError

MAX_FILE_BYTES = 500_000_000
FAILURES_IN_A_ROW = 3
"""So many files in a row that fail after every try: it is the server or the line, not the file."""

_SAVE_EVERY_S = 30.0
_SUFFIX_OF_TYPE = {
    "audio/mpeg": ".mp3",
    "audio/mp3": ".mp3",
    "audio/wav": ".wav",
    "audio/wave": ".wav",
    "audio/x-wav": ".wav",
    "audio/vnd.wave": ".wav",
    "audio/flac": ".flac",
    "audio/x-flac": ".flac",
    "audio/ogg": ".ogg",
    "application/ogg": ".ogg",
    "audio/opus": ".opus",
}
_NO_AUDIO = ("text/", "application/json", "application/xml", "application/xhtml", "image/")

OnFile = Callable[[int, int], None]


@dataclass
class Outcome:
    """What a download did: files fetched now, their bytes, those that failed, why it stopped.

    `stopped` is "" when every file was tried; `left` counts those that were not.
    """

    n_fetched: int = 0
    n_bytes: int = 0
    failed: list[Skip] = field(default_factory=list)
    stopped: str = ""
    left: int = 0
    finished: Finished = field(default_factory=dict)


def files_to_fetch(selection: Selection, finished: Finished, limit: int | None) -> list[Wanted]:
    """The selected recordings that are not there yet, at most `limit`.

    Raises DataError when a finished file lies under another label than is asked for now.
    """
    moved = [
        f"XC{w.recording.xc_id} was {finished[w.recording.xc_id]['file'].partition('/')[0]}, "
        f"now {w.label}"
        for w in selection.wanted
        if w.recording.xc_id in finished
        and not finished[w.recording.xc_id]["file"].startswith(f"{w.label}/")
    ]
    if moved:
        raise DataError(
            f"{len(moved)} recordings were fetched before under another label",
            got="; ".join(moved[:3]),
            fix="give another folder with --out",
        )
    return [w for w in selection.wanted if w.recording.xc_id not in finished][:limit]


def download(
    web: Web,
    selection: Selection,
    out: Path,
    *,
    limit: int | None = None,
    on_file: OnFile | None = None,
) -> Outcome:
    """Fetch the selected files that are not in `out` yet, and list all that are.

    The tables are completed also when the download fails or is interrupted. `on_file` is told
    how many files are dealt with, and of how many. A file that cannot be had
    is listed; the rest is fetched all the same. Raises DataError when another command writes to
    the folder, when a label changed, and when a file cannot be written.
    """
    try:
        (out / AUDIO).mkdir(parents=True, exist_ok=True)
        with FileLock(out / ".lock", timeout=0):
            return _download(web, selection, out, limit, on_file)
    except Timeout:
        raise DataError(
            "another command is downloading to the folder",
            where=str(out),
            fix="wait until it ends, or name another --out",
        ) from None
    except OSError as error:
        raise DataError(
            "a file cannot be written",
            where=str(error.filename or out),
            got=error.strerror or type(error).__name__,
            fix="make room or choose another folder; the same command continues",
        ) from None


def _download(
    web: Web, selection: Selection, out: Path, limit: int | None, on_file: OnFile | None
) -> Outcome:
    outcome = Outcome(finished=load_finished(out))
    todo = files_to_fetch(selection, outcome.finished, limit)
    _sweep(out)
    save_ledger(out, outcome.finished)  # also cuts a torn line off, before more are added
    with _tables(out, selection, outcome) as save:
        in_a_row = 0
        for done, wanted in enumerate(todo, start=1):
            in_a_row = 0 if _fetch_one(web, wanted, out, outcome) else in_a_row + 1
            if on_file:
                on_file(done, len(todo))
            if in_a_row == FAILURES_IN_A_ROW and not outcome.stopped:
                outcome.stopped = f"{in_a_row} files in a row could not be had after many tries"
            if outcome.stopped:
                outcome.left = len(todo) - done
                break
            save()
    return outcome


def _fetch_one(web: Web, wanted: Wanted, out: Path, outcome: Outcome) -> bool:
    """Fetch a file and enter it in the ledger, or note why not; False when the line is to blame."""
    try:
        file, size, sha256 = save_file(web, wanted, out / AUDIO)
    except FetchError as error:
        recording = wanted.recording
        reason = ": ".join(filter(None, (error.what, str(error.got or ""))))
        outcome.failed.append(
            Skip(
                recording.xc_id, wanted.label, reason, recording.scientific_name, error.where or ""
            )
        )
        if error.stops:
            outcome.stopped = f"{error.what}; {error.fix}"
        return not error.transient
    row = ledger_row(wanted, file, size, sha256)
    append_ledger(out, row)
    outcome.finished[row["xc_id"]] = row
    outcome.n_fetched += 1
    outcome.n_bytes += size
    return True


def save_file(web: Web, wanted: Wanted, audio: Path) -> tuple[str, int, str]:
    """Fetch the file of a recording; its name below `audio`, its size in bytes and its sha256.

    The name is made of the label and the number; only its suffix is taken from Xeno-canto's, or
    from the type of the answer, and only when it is one of audio. Raises FetchError when what
    comes is torn, empty, no audio, or larger than MAX_FILE_BYTES.
    """
    folder = audio / wanted.label
    folder.mkdir(exist_ok=True)
    part = folder / f"XC{wanted.recording.xc_id}.part"

    def read(response: requests.Response) -> tuple[str, int, str]:
        suffix = _suffix_of(web, wanted, response)
        size, sha256 = _write(web, response, part, wanted.recording.file_url)
        final = part.with_suffix(suffix)
        part.replace(final)
        return f"{wanted.label}/{final.name}", size, sha256

    try:
        return web.fetch(wanted.recording.file_url, read)
    finally:
        part.unlink(missing_ok=True)


def _suffix_of(web: Web, wanted: Wanted, response: requests.Response) -> str:
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    suffix = wanted.recording.suffix or _SUFFIX_OF_TYPE.get(kind, "")
    if not suffix or kind.startswith(_NO_AUDIO):
        shown = "".join(c for c in kind if c.isprintable())[:60] or "no type"
        what = "the answer is no audio file that birdlab reads"
        raise web.failure(what, wanted.recording.file_url, got=shown)
    return suffix


def _write(web: Web, response: requests.Response, part: Path, url: str) -> tuple[int, str]:
    """Write an answer to `part`; its size and sha256 once it is whole and on the disk."""
    length = response.headers.get("Content-Length", "")
    expected = int(length) if length.isascii() and length.isdigit() else None
    if "Content-Encoding" in response.headers:
        expected = None  # the length is that of the packed file
    size, digest = 0, hashlib.sha256()
    with part.open("wb") as file:
        for chunk in response.iter_content(CHUNK_BYTES):
            size += len(chunk)
            if max(size, expected or 0) > MAX_FILE_BYTES:
                raise web.failure(f"the file is larger than {MAX_FILE_BYTES / 1e6:.0f} MB", url)
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    if size == 0 or (expected is not None and size != expected):
        got = f"{size} of {expected if expected is not None else 'an unknown number of'} bytes"
        raise web.failure("the file is torn", url, got=got, transient=True)
    return size, digest.hexdigest()


def _sweep(out: Path) -> None:
    """Remove what a killed command left half written."""
    for part in (out / AUDIO).glob("*/XC*.part"):
        part.unlink()


@contextmanager
def _tables(out: Path, selection: Selection, outcome: Outcome) -> Iterator[Callable[[], None]]:
    """Keep the tables of the folder up to date: now and then, and however the download ends."""
    saved_s = time.monotonic()

    def save(*, at_once: bool = False) -> None:
        nonlocal saved_s
        if at_once or time.monotonic() - saved_s > _SAVE_EVERY_S:
            save_recordings(out, outcome.finished, selection.wanted)
            save_skipped(out, [*selection.skipped, *outcome.failed])
            saved_s = time.monotonic()

    save(at_once=True)
    try:
        yield save
    finally:
        save(at_once=True)
