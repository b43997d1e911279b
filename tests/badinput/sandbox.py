"""A command run in a forked child with limits, and what is to be said of how it ended."""

from __future__ import annotations

import faulthandler
import os
import re
import resource
import select
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from pathlib import Path

from .guard import watch

WALL_S = 10.0
MEMORY_BYTES = 2 << 30
FILE_BYTES = 1 << 30
PACKAGES_BYTES = 2 << 30
"""What packages may map in a new interpreter, where they are imported under the limits."""

OUTPUT_CHARS = 200_000
"""No command prints more than that of a small lab."""

ERROR_CHARS = 50_000
"""No message of an error that anybody reads is longer."""

_REPOSITORY = Path(__file__).parents[2]
SECRET = "nobody may read or change this\n"
NOT_MADE, PASSED_ON = 97, 98
FRESH_WORD_CHARS = 30_000
"""A new program takes no longer word than 128 KiB; a case with one runs in the fork."""

FRESH = "import sys; from tests.badinput.sandbox import be_fresh; be_fresh()"
_TYPES = re.compile(r"^(?:\w+\.)*[A-Z]\w*(?:Error|Exception|Warning): ", re.MULTILINE)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_DETAIL = re.compile(r"^  +\S", re.MULTILINE)


@dataclass(frozen=True)
class Ended:
    """How a case ended: `fault` is "" where it ended as it should."""

    argv: tuple[str, ...]
    code: int
    seconds: float
    fault: str
    said: str


@dataclass(frozen=True)
class Room:
    """The folder of a case: a lab, a home, and beside them files that nothing may touch."""

    root: Path

    @property
    def lab(self) -> Path:
        """The folder that commands run in, the only one they may write to."""
        return self.root / "lab"

    def furnish(self) -> None:
        """Make the folders and the bait."""
        for name in ("lab", "home", "tmp", "outside"):
            (self.root / name).mkdir()
        for name in ("secret.txt", "secret.json", "secret.wav", "secret.yaml"):
            (self.root / "outside" / name).write_text(SECRET)

    def look(self) -> str:
        """What is not as it was outside of the lab; "" when all is."""
        names = sorted(path.name for path in self.root.iterdir())
        if names != ["home", "lab", "outside", "said", "tmp", "told"]:
            return f"the folder beside the lab holds {names}"
        bait = sorted((self.root / "outside").iterdir())
        if len(bait) != 4 or any(path.read_text() != SECRET for path in bait):
            return "the bait was changed"
        home = sorted(path.name for path in (self.root / "home").iterdir())
        return f"the home folder holds {home}" if home else ""


def run_case(
    build: Callable[[Room], list[str]],
    folder: Path,
    finder: MetaPathFinder | None = None,
    fresh: bool = False,
) -> Ended | None:
    """How the command that `build` prepares in a room of its own ended; the room is removed.

    None where the child ended with PASSED_ON. `finder` is asked first for what the child imports;
    fresh: the command runs in a new interpreter. Call it where there is one thread: the child is a
    fork. Raises RuntimeError when `build` fails, which is a fault of the campaign and not of
    birdlab.
    """
    room = Room(Path(tempfile.mkdtemp(dir=folder)))
    try:
        room.furnish()
        began = time.monotonic()
        child = os.fork()
        if child == 0:
            _be_the_case(build, room, finder, fresh)
        code, hung = _wait(child, WALL_S)
        seconds = time.monotonic() - began
        left = _kill_group(child)
        if code == PASSED_ON:
            return None
        said = (room.root / "said").read_bytes().decode(errors="surrogateescape")
        told = (room.root / "told").read_text(errors="backslashreplace").split("\n")[:-1]
        if code == NOT_MADE or not told:
            raise RuntimeError(f"the case could not be made:\n{said}")
        argv = tuple(told[0].split("\0"))
        fault = f"hang: more than {WALL_S:g} s" if hung else judge(code, said)
        fault = fault or (f"outside: {told[1]}" if len(told) > 1 else "")
        fault = fault or (f"outside: {room.look()}" if room.look() else "")
        fault = fault or ("orphan: a process of it went on" if left and not hung else "")
        return Ended(argv, code, seconds, fault, said)
    finally:
        shutil.rmtree(room.root, ignore_errors=True)


def judge(code: int, said: str) -> str:
    """What is wrong with an exit code and what was printed; "" when nothing is."""
    if code < 0:
        return f"death: {signal.Signals(-code).name}"
    if "Traceback (most recent call last)" in said:
        found = _TYPES.findall(said)
        return f"traceback: {found[-1].rstrip(': ') if found else 'unknown'}"
    if code not in (0, 1, 2):
        return f"exit code {code}"
    if len(said) > (ERROR_CHARS if code == 1 else OUTPUT_CHARS):
        return f"output of {len(said):,} characters"
    control = _CONTROL.search(said)
    if control:
        return f"control character {control.group()!r} in the output"
    if _TYPES.search(said):
        return f"type name: {_TYPES.findall(said)[0].rstrip(': ')}"
    if code == 1 and "error: " in said and not _DETAIL.search(said.partition("error: ")[2]):
        return "an error that says neither where, nor what to do"
    return ""


def _be_the_case(
    build: Callable[[Room], list[str]], room: Room, finder: MetaPathFinder | None, fresh: bool
) -> None:
    """The child: build the case, run the command within the limits, never return."""
    code = NOT_MADE
    try:
        os.setsid()
        if finder is not None:
            sys.meta_path.insert(0, finder)
        said = os.open(room.root / "said", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        told = _open_told(room)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(said, 1)
        os.dup2(said, 2)
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
        argv = [word.replace("\r", " ") for word in build(room)]
        os.write(told, "\0".join(argv).replace("\n", " ").encode(errors="replace") + b"\n")
        code = 1  # of what main lets through
        if fresh and all(len(word) < FRESH_WORD_CHARS for word in argv):
            words = [str(room.root), *argv]
            environment = {
                **os.environ,
                "PYTHONPATH": str(_REPOSITORY),
                "PYTHONDONTWRITEBYTECODE": "1",
            }
            os.execve(sys.executable, [sys.executable, "-c", FRESH, *words], environment)
        _limit(room, told)
        sys.argv = ["birdlab", *argv]
        faulthandler.dump_traceback_later(WALL_S - 1, file=said)
        code = _call_main()
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def be_fresh() -> None:
    """The case in an interpreter of its own: argv holds the folder of the room and the words."""
    from birdlab.cli.app import start

    room = Room(Path(sys.argv[1]))
    _limit(room, _open_told(room), PACKAGES_BYTES)
    sys.argv = ["birdlab", *sys.argv[2:]]
    start()


def _open_told(room: Room) -> int:
    return os.open(room.root / "told", os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def _call_main() -> int:
    """The exit code of the command, once its threads have ended as they do at an exit."""
    from birdlab.cli.app import main

    try:
        main()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(bool(ended.code))
    threading._shutdown()  # type: ignore[attr-defined]
    return code


def _limit(room: Room, told: int, to_come_bytes: int = 0) -> None:
    home, temporary = str(room.root / "home"), str(room.root / "tmp")
    os.environ.update(HOME=home, TMPDIR=temporary, COLUMNS="80", PATH="/usr/bin:/bin")
    for name in ("BIRDLAB_HOME", "TORCHINDUCTOR_CACHE_DIR"):  # torch sets the second for children
        os.environ.pop(name, None)
    tempfile.tempdir = None
    os.chdir(room.lab)
    sys.dont_write_bytecode = True
    memory = MEMORY_BYTES + _data_bytes() + to_come_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (int(WALL_S), int(WALL_S) + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    allowed = (os.path.realpath(room.lab), os.path.realpath(temporary))
    watch(allowed, lambda act: os.write(told, act.replace("\n", " ").encode() + b"\n"))


def _data_bytes() -> int:
    """The private memory of this process: the interpreter with its packages."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if "VmData" in line) << 10


def _wait(child: int, limit_s: float) -> tuple[int, bool]:
    """The exit code of the child, negative for a signal, and whether it had to be killed."""
    handle = os.pidfd_open(child)
    try:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        hung = not poll.poll(limit_s * 1000)
        if hung:
            os.kill(child, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), hung
    finally:
        os.close(handle)


def _kill_group(child: int) -> bool:
    """Kill what is left of the child's process group; whether there was anything."""
    try:
        os.killpg(child, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True
