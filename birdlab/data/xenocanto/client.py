"""Questions to the API of Xeno-canto, version 3: every page, and the count checked."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import requests
import tenacity

from birdlab.data.xenocanto.failures import FetchError
from birdlab.data.xenocanto.recording import Recording, read_recording
from birdlab.data.xenocanto.web import CHUNK_BYTES, Web
from birdlab.errors import DataError

KEY_VARIABLE = "XENO_CANTO_KEY"
PER_PAGE = 500
"""The most that the API gives at once."""

_MAX_PAGE_BYTES = 64 << 20

Row = dict[str, Any]
OnPage = Callable[[int, int], None]


class TotalChangedError(DataError):
    """Recordings came or went while the pages were read."""


def load_key() -> str:
    """The key to the API from the environment; DataError that says where to get one."""
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not key:
        raise DataError(
            "Xeno-canto needs a key",
            expected=f"the environment variable {KEY_VARIABLE}",
            fix=f"copy yours from https://xeno-canto.org/account and export {KEY_VARIABLE}=...",
        )
    return key


@dataclass(frozen=True)
class Answer:
    """What the API found: recordings in its order, and rows without a usable number, as shown."""

    recordings: tuple[Recording, ...]
    unusable: tuple[str, ...]


def search(web: Web, queries: Sequence[str], *, on_page: OnPage | None = None) -> Answer:
    """Every recording that some queries find, query by query.

    `on_page` is told how many of the queries are answered, or how many pages of the only one.
    Raises DataError as `ask_recordings` does.
    """
    recordings: list[Recording] = []
    unusable: list[str] = []
    alone = len(queries) == 1
    for done, query in enumerate(queries, start=1):
        for row in ask_recordings(web, query, on_page=on_page if alone else None):
            recording = read_recording(row)
            if recording is None:
                unusable.append(repr(row.get("id") if isinstance(row, dict) else row)[:60])
            else:
                recordings.append(recording)
        if on_page and not alone:
            on_page(done, len(queries))
    return Answer(tuple(recordings), tuple(unusable))


def ask_recordings(
    web: Web, query: str, *, per_page: int = PER_PAGE, on_page: OnPage | None = None
) -> list[Row]:
    """Every recording that a query finds, as the API gives it, from all pages.

    When the number of recordings changes between two pages, all pages are asked for once more.
    `on_page` is told how many pages are there and how many there will be. Raises DataError when
    the rows are not as many as the API says, and when it does not accept the key or the query.
    """
    once_more = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(2),
        retry=tenacity.retry_if_exception_type(TotalChangedError),
        reraise=True,
    )
    rows: list[Row] = once_more(_ask_pages, web, query, per_page, on_page)
    return rows


def _ask_pages(web: Web, query: str, per_page: int, on_page: OnPage | None) -> list[Row]:
    rows: list[Row] = []
    total, n_pages, page = 0, 1, 0
    while page < n_pages:
        page += 1
        answer = _ask_page(web, query, page, per_page)
        if page > 1 and answer["numRecordings"] != total:
            raise TotalChangedError(
                "the number of recordings changed while the pages were read",
                where=f"query {query}, page {page}",
                got=f"{answer['numRecordings']} recordings, {total} on page 1",
                fix="run the same command again",
            )
        total, n_pages = answer["numRecordings"], answer["numPages"]
        rows += answer["recordings"]
        if on_page:
            on_page(page, max(1, n_pages))
        if not answer["recordings"]:
            break
    _check_count(rows, total, query)
    return rows


def _check_count(rows: list[Row], total: int, query: str) -> None:
    if len(rows) != total:
        raise DataError(
            f"Xeno-canto says that there are {total} recordings, and its pages hold {len(rows)}",
            where=f"query {query}",
            fix="run the same command again; if it stays so, split the query",
        )
    named = [row for row in rows if isinstance(row, dict) and row.get("id")]
    distinct = len({str(row["id"]) for row in named}) + len(rows) - len(named)
    if distinct != total:
        raise DataError(
            f"the pages hold {total} rows but only {distinct} recordings: some came twice",
            where=f"query {query}",
            fix="run the same command again",
        )


def _ask_page(web: Web, query: str, page: int, per_page: int) -> Row:
    params = {"query": query, "page": str(page), "per_page": str(per_page)}
    try:
        return web.ask(params, lambda response: _read_page(web, response))
    except FetchError as error:
        if error.status in (401, 403):
            error.what = "Xeno-canto does not accept the key"
            error.fix = f"compare {KEY_VARIABLE} with https://xeno-canto.org/account"
        elif error.status == 400:
            error.what = f"Xeno-canto does not accept the query {query}"
            error.fix = 'a query is made of tags: gen:larus sp:"larus fuscus" cnt:brazil q:A'
        elif error.status == 404:
            error.what = "the API is not at its address"
        raise


def _read_page(web: Web, response: requests.Response) -> Row:
    """A page with whole numbers in its counts; a transient FetchError for anything else."""
    answer = _read_json(response.iter_content(CHUNK_BYTES))
    if isinstance(answer, dict) and isinstance(answer.get("recordings"), list):
        try:
            counts = {name: int(answer[name]) for name in ("numRecordings", "numPages")}
        except (KeyError, TypeError, ValueError, OverflowError):
            counts = {}
        if counts:
            return {**answer, **counts}
    raise web.failure(
        "the answer of the API is no page of recordings", web.base_url, transient=True
    )


def _read_json(chunks: Iterable[bytes]) -> object:
    """The value in a JSON text, or None when there is none or it is far too long."""
    text = bytearray()
    for chunk in chunks:
        text += chunk
        if len(text) > _MAX_PAGE_BYTES:
            return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
