"""What a case may touch: an audit hook that writes down each act outside of its own folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
PATHS_OF = {
    "os.rename": (0, 1),
    "os.link": (1,),
    "os.symlink": (1,),
    "os.mkdir": (0,),
    "os.remove": (0,),
    "os.rmdir": (0,),
    "os.truncate": (0,),
    "os.chmod": (0,),
    "os.chown": (0,),
    "os.utime": (0,),
    "sqlite3.connect": (0,),
}
"""Events that change files, and which of their arguments are the paths that change."""

FORBIDDEN = {"os.system", "os.exec", "os.posix_spawn", "os.fork", "pickle.find_class"}
PROGRAMS = {"git", "ffmpeg", "uname", "ldconfig", "gcc", "cc", "objdump", "ld"}
"""Programs that a command may start: the state of the code, fingerprints of sound, and what Python
asks for the name of the processor and for libraries."""


def watch(allowed: tuple[str, ...], tell: Callable[[str], None]) -> None:
    """Call `tell` with a sentence for each act outside of the `allowed` folders, from now on."""

    def is_inside(path: Any) -> bool:
        if isinstance(path, int):
            return True
        text = os.fsdecode(path)
        if text in ("/dev/null", "/dev/tty", ":memory:"):
            return True
        folder, name = os.path.split(text)
        real = f"{os.path.realpath(folder)}/{name}"
        return any(real == root or real.startswith(root + "/") for root in allowed)

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = args
            if flags & WRITING and not is_inside(path):
                tell(f"opened {path!r} for writing")
        elif event in PATHS_OF:
            for position in PATHS_OF[event]:
                if not is_inside(args[position]):
                    tell(f"{event} {args[position]!r}")
        elif event in FORBIDDEN:
            tell(f"{event} {str(args)[:200]}")
        elif event == "subprocess.Popen":
            program = Path(os.fsdecode(args[0])).name.partition("-")[0]
            if program not in PROGRAMS:
                tell(f"started {args[0]!r}")
        elif event == "socket.connect":
            tell(f"connected to {args[1]!r}")

    sys.addaudithook(hook)
