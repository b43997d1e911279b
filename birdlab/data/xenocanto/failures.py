"""Requests to Xeno-canto that fail: the error, and what an answer says about it."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import requests

from birdlab.errors import DataError

TIMEOUT_S = 60.0
_MESSAGE_BYTES = 4096


class FetchError(DataError):
    """A request that did not succeed.

    `transient`: the same request may succeed later. `stops`: no other request will fare better
    now. `status` is that of the answer, 0 without one; `wait_s` the pause the server asks for.
    """

    transient = False
    stops = False
    status = 0
    wait_s = 0.0


def describe(error: requests.RequestException) -> tuple[str, bool]:
    """An exception in words without its text, which may hold the key; whether it may pass."""
    if isinstance(error, requests.exceptions.SSLError):
        return "the certificate of the server is not accepted", False
    if isinstance(error, requests.Timeout):
        return f"the server did not answer within {TIMEOUT_S:.0f} s", True
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the answer broke off", True
    if isinstance(error, requests.ConnectionError):
        return "there is no connection to the server", True
    return f"the request cannot be made ({type(error).__name__})", False


def retry_after_s(text: str) -> float:
    """Seconds that a Retry-After header asks for, given as seconds or as a date; 0 without."""
    text = text.strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        return float(text)
    try:
        date = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return 0.0
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())


def message_of(response: requests.Response) -> str:
    """What the API says about a request that it refuses, on one line; "" when nothing."""
    try:
        answer = json.loads(next(response.iter_content(_MESSAGE_BYTES), b""))
    except (ValueError, RecursionError, requests.RequestException):
        return ""
    message = answer.get("message") if isinstance(answer, dict) else None
    if not isinstance(message, str):
        return ""
    return "".join(c if c.isprintable() else " " for c in message)[:200]
