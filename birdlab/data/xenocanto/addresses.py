"""Which addresses may be asked, and how an address may be shown."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import urljoin

from requests.utils import requote_uri

XENO_CANTO = "xeno-canto.org"
LOOPBACK = frozenset({"localhost", "127.0.0.1"})

_ADDRESS = re.compile(r"(https?)://([A-Za-z0-9.-]+)(?::([0-9]{1,5}))?(?:[/?][!-\[\]-~]*)?")


class Origin(NamedTuple):
    """Where an address leads."""

    scheme: str
    host: str
    port: int

    @property
    def is_xeno_canto(self) -> bool:
        """Whether it is https on xeno-canto.org or a host below it."""
        of_theirs = self.host == XENO_CANTO or self.host.endswith(f".{XENO_CANTO}")
        return of_theirs and (self.scheme, self.port) == ("https", 443)


def origin_of(url: str) -> Origin | None:
    """Where a plain address leads, or None for one with a user name or an unusual character.

    What two parsers could read in two ways is no plain address, so that the host that is checked
    is the host that is asked.
    """
    found = _ADDRESS.fullmatch(url)
    if found is None:
        return None
    scheme, host, port = found.groups()
    return Origin(scheme, host.lower(), int(port or (443 if scheme == "https" else 80)))


def join_address(url: str, target: str) -> str:
    """The whole address of a redirect from `url`; "" when there is none."""
    try:
        return str(requote_uri(urljoin(url, target)))
    except ValueError:  # requests' InvalidURL is one too
        return ""


def shown_address(url: str) -> str:
    """An address as it may be shown: no query, no user name, no control characters, short."""
    plain = re.split(r"[?#]", url)[0]
    plain = re.sub(r"//[^/]*@", "//", plain)
    return "".join(c for c in plain if c.isprintable())[:200]
