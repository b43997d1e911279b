"""Processes by name: which one this is, and whether another is known to be gone."""

from __future__ import annotations

import os
import socket
from functools import cache

import psutil

_CLOCK_S = 2.0
"""How far the start time of one process may differ between two looks at it."""


def own_process() -> str:
    """This process as `host:pid:start`; the start time, since pids are used again."""
    return _name(os.getpid())


@cache
def _name(pid: int) -> str:
    return name_process(socket.gethostname(), pid, psutil.Process(pid).create_time())


def name_process(host: str, pid: int, created: float) -> str:
    """A process as `host:pid:start`, where it was created in seconds since 1970."""
    return f"{host}:{pid}:{created:.2f}"


def is_here(name: str) -> bool:
    """Whether a process is, or was, one of this machine."""
    return name.rsplit(":", 2)[0] == socket.gethostname()


def is_gone(name: str) -> bool:
    """Whether a process of this machine is gone.

    False for one of another machine, of which nothing is known, and for what names no process.
    """
    host, *process_id = name.rsplit(":", 2)
    if host != socket.gethostname() or not process_id:
        return False
    pid, *started = process_id
    try:
        process = psutil.Process(int(pid))
        if process.status() == psutil.STATUS_ZOMBIE:
            return True
        return bool(started) and abs(process.create_time() - float(started[0])) > _CLOCK_S
    except psutil.NoSuchProcess:
        return True
    except (psutil.AccessDenied, ValueError):  # there, and not ours; or no name of a process
        return False
