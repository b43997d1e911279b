"""More recordings from Xeno-canto: questions to its API, files, and a ledger of their licences."""

from __future__ import annotations
