"""Requests to Xeno-canto: at most one a second, tried again with patience, to its own hosts only.

The key travels in the query of an address. So no message holds a query, the key is taken out of
every text, and no exception of the libraries below, which would quote the address, is passed on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TypeVar
from urllib.parse import quote, quote_plus

import requests
import tenacity

from birdlab import __version__
from birdlab.data.xenocanto.addresses import (
    LOOPBACK,
    XENO_CANTO,
    join_address,
    origin_of,
    shown_address,
)
from birdlab.data.xenocanto.failures import (
    TIMEOUT_S,
    FetchError,
    describe,
    message_of,
    retry_after_s,
)
from birdlab.errors import DataError

API_URL = f"https://{XENO_CANTO}/api/3/recordings"
INTERVAL_S = 1.0
"""Xeno-canto asks for no more than one request a second."""
MAX_WAIT_S = 600.0
"""A server that asks for a longer pause ends the command instead."""
ATTEMPTS = 6
CHUNK_BYTES = 1 << 16

_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
_MAX_REDIRECTS = 5
_LOGGERS = ("urllib3.connectionpool", "urllib3.util.retry")

T = TypeVar("T")
OnWait = Callable[[str, float], None]


class Web:
    """The only road to Xeno-canto: one pace, one key and one set of hosts for all requests.

    `base_url` is the address of the API; its own host is allowed beside xeno-canto.org, to which
    requests are never less than INTERVAL_S apart. `on_wait` is told why a request is tried
    again and in how many seconds. Use it as a context manager.
    """

    def __init__(
        self,
        key: str,
        base_url: str = API_URL,
        *,
        interval_s: float = INTERVAL_S,
        on_wait: OnWait | None = None,
    ) -> None:
        self._key = key
        self.base_url = base_url
        self.interval_s = interval_s
        own = origin_of(base_url)
        if own is None or (own.scheme == "http" and own.host not in LOOPBACK):
            raise DataError(
                "the address of the Xeno-canto API cannot be used: the key would be sent there",
                got=shown_address(base_url),
                expected=f"an https address such as {API_URL}",
            )
        self._own = own
        self._next_s = 0.0
        self._on_wait = on_wait
        self._session = requests.Session()
        self._session.headers["User-Agent"] = f"birdlab/{__version__}"
        self._session.headers["Accept-Encoding"] = "identity"  # sizes are those of the files

    def __enter__(self) -> Web:
        for name in _LOGGERS:
            logging.getLogger(name).addFilter(self._hide_key)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._session.close()
        for name in _LOGGERS:
            logging.getLogger(name).removeFilter(self._hide_key)

    def ask(self, params: Mapping[str, str], read: Callable[[requests.Response], T]) -> T:
        """What `read` makes of the API's answer to `params`; the key is added here.

        Raises FetchError when the API cannot be asked, also after several tries.
        """
        return self._with_patience(self.base_url, {**params, "key": self._key}, read)

    def fetch(self, url: str, read: Callable[[requests.Response], T]) -> T:
        """What `read` makes of the file at `url`; a torn one is asked for again.

        Raises FetchError for an address, or a redirect to one, that is not Xeno-canto's.
        """
        return self._with_patience(url, None, read)

    def allows(self, url: str) -> bool:
        """Whether an address may be asked: https on xeno-canto.org and below, or the API's host."""
        origin = origin_of(url)
        return origin is not None and (origin == self._own or origin.is_xeno_canto)

    def foreign(self, url: str) -> str:
        """ "" for an address that may be asked, else the address as it may be shown."""
        return "" if self.allows(url) else self._scrub(shown_address(url)) or "an empty address"

    def _with_patience(
        self,
        url: str,
        params: Mapping[str, str] | None,
        read: Callable[[requests.Response], T],
    ) -> T:
        patience = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(ATTEMPTS),
            wait=self._pause_s,
            retry=tenacity.retry_if_exception(lambda e: isinstance(e, FetchError) and e.transient),
            before_sleep=self._tell,
            reraise=True,
        )
        result: T = patience(self._once, url, params, read)
        return result

    def _pause_s(self, state: tenacity.RetryCallState) -> float:
        """Seconds until the next try: doubling, and never less than the server asks for."""
        backoff = tenacity.wait_exponential(multiplier=self.interval_s, max=60)(state)
        return max(backoff, _failure_of(state).wait_s)

    def _tell(self, state: tenacity.RetryCallState) -> None:
        if self._on_wait:
            self._on_wait(_failure_of(state).what, state.upcoming_sleep)

    def _once(
        self,
        url: str,
        params: Mapping[str, str] | None,
        read: Callable[[requests.Response], T],
    ) -> T:
        try:
            with self._follow(url, params) as response:
                if response.status_code != requests.codes.ok:
                    raise self._refusal(response, url)
                return read(response)
        except requests.RequestException as error:
            words, transient = describe(error)
        # Raised outside of the handler, so that the library's exception is not even its context.
        raise self.failure(words, url, transient=transient)

    def _follow(self, url: str, params: Mapping[str, str] | None) -> requests.Response:
        """The answer after redirects, each of which obeys the rules for hosts and pace."""
        for _ in range(_MAX_REDIRECTS + 1):
            if not self.allows(url):
                raise self.failure("an address is not one of Xeno-canto's", url)
            self._keep_pace(url)
            response = self._session.get(
                url, params=params, stream=True, allow_redirects=False, timeout=TIMEOUT_S
            )
            target = self._session.get_redirect_target(response)
            if target is None:
                return response
            response.close()
            url, params = join_address(url, target), None
        raise self.failure("an address leads on and on", url)

    def _keep_pace(self, url: str) -> None:
        own_pace = origin_of(url) == self._own and not self._own.is_xeno_canto
        interval_s = self.interval_s if own_pace else max(self.interval_s, INTERVAL_S)
        pause_s = self._next_s - time.monotonic()
        if pause_s > 0:
            time.sleep(pause_s)
        self._next_s = time.monotonic() + interval_s

    def _refusal(self, response: requests.Response, url: str) -> FetchError:
        status = response.status_code
        wait_s = retry_after_s(response.headers.get("Retry-After", ""))
        transient, stops = status in _TRANSIENT, False
        what, fix = f"the server answered {status}", None
        if transient and wait_s > MAX_WAIT_S:
            transient, stops = False, True
            what += f" and asks to wait {wait_s / 60:.0f} min"
            fix = "run the same command again after that time"
        said = self._scrub(message_of(response)) or None
        error = self.failure(what, url, got=said, fix=fix, transient=transient)
        error.status, error.stops, error.wait_s = status, stops, wait_s
        return error

    def failure(
        self,
        what: str,
        url: str,
        *,
        got: str | None = None,
        fix: str | None = None,
        transient: bool = False,
    ) -> FetchError:
        """A FetchError about an address, which is shown without its query and without the key."""
        where = self._scrub(shown_address(url))
        error = FetchError(what, where=where, got=got, fix=fix)
        error.transient = transient
        return error

    def _scrub(self, text: str) -> str:
        for form in {self._key, quote(self._key, safe=""), quote_plus(self._key)}:
            text = text.replace(form, "***")
        return text

    def _hide_key(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = self._scrub(record.getMessage()), None
        return True


def _failure_of(state: tenacity.RetryCallState) -> FetchError:
    error = state.outcome.exception() if state.outcome else None
    if not isinstance(error, FetchError):
        raise TypeError(f"only a FetchError is tried again, not {error!r}")
    return error
