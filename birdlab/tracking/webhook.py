"""A word to a webhook when a command is done: Slack, Discord, Mattermost, ntfy or your own."""

from __future__ import annotations

import os

import requests
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_exponential

from birdlab.lab import Lab

TIMEOUT_S = 5.0
VARIABLE = "BIRDLAB_NOTIFY_URL"


def notify(lab: Lab, text: str) -> str:
    """Post `text` to the lab's webhook; in words what went wrong, "" where nothing did.

    The address is that of the environment variable BIRDLAB_NOTIFY_URL, else `notify_url` of the
    lab file; without one nothing happens. It may hold a secret, so it is never repeated in what
    comes back. The body is JSON with the text as `text` and as `content`.
    """
    url = os.environ.get(VARIABLE) or lab.file.notify_url
    if not url:
        return ""
    try:
        answer = _post(url, text)
    except (requests.RequestException, ValueError) as error:
        return f"the webhook was not reached ({type(error).__name__})"
    return "" if answer.ok else f"the webhook answered {answer.status_code}"


@retry(
    retry=retry_if_exception_type((requests.ConnectionError, requests.Timeout)),
    stop=stop_after_attempt(3),
    wait=wait_exponential(multiplier=0.5),
    reraise=True,
)
def _post(url: str, text: str) -> requests.Response:
    return requests.post(url, json={"text": text, "content": text}, timeout=TIMEOUT_S)
