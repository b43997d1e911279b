"""JSON that others wrote: files beside a model, and texts inside of one."""

from __future__ import annotations

import json
from typing import Any


def parse_json(text: str | bytes) -> Any:
    """The value that a JSON text holds; ValueError for no JSON, and for one nested too deep."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("lists within lists, too deep to be read") from None
