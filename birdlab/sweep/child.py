"""A child process: finishes the cells that its input names, one after the other.

    python -m birdlab.sweep.child LEASE_S

Lines of JSON come in on standard input ({"task"}, {"ping"}, {"stop"}) and go out on what was
standard output ({"event"}, {"result"}, {"stopped"}); whatever a library prints goes to
standard error. torch is imported with the first cell and stays. The child ends when its input
ends, when its parent dies, and when it hears nothing for LEASE_S.
"""

from __future__ import annotations

import ctypes
import json
import os
import queue
import signal
import sys
import threading
import time
from typing import Any, BinaryIO

from birdlab.errors import BirdlabError
from birdlab.sed.interrupts import stoppable
from birdlab.sweep.messages import decode_task, encode_error, encode_event, encode_line
from birdlab.tasks import CellTask, Event, finish_task

_PR_SET_PDEATHSIG = 1
_TICKS = 20
_SEND_S = 5.0


class Link:
    """The child's side of the pipes; no thread but the sender's ever writes.

    So a signal that breaks off the main thread leaves no half a line behind.
    """

    def __init__(self, inlet: BinaryIO, outlet: BinaryIO, lease_s: float) -> None:
        self.inlet, self.outlet, self.lease_s = inlet, outlet, lease_s
        self.ending = False
        self._tasks: queue.SimpleQueue[CellTask | None] = queue.SimpleQueue()
        self._out: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._silent_ticks = 0
        self._sender = threading.Thread(target=self._send, daemon=True)

    def start(self) -> None:
        """Begin to listen, to send and to count the silence."""
        self._sender.start()
        for loop in (self._listen, self._watch_lease):
            threading.Thread(target=loop, daemon=True).start()

    def say(self, **message: Any) -> None:
        """Send a message soon."""
        self._out.put(encode_line(message))

    def close(self) -> None:
        """Wait until all is sent; not for ever, since the parent may have stopped reading."""
        self._out.put(None)
        self._sender.join(_SEND_S)

    def next_task(self) -> CellTask | None:
        """The next task; None when the child is to end."""
        task = self._tasks.get()
        return None if self.ending else task

    def stop(self) -> None:
        """Save the cell at work and end: what the parent asks, and what SIGTERM means."""
        self.note_end()
        os.kill(os.getpid(), signal.SIGTERM)

    def note_end(self, *_: object) -> None:
        """Take no further task; also the handler of SIGTERM between cells."""
        self.ending = True
        self._tasks.put(None)

    def _listen(self) -> None:
        for line in self.inlet:
            self._silent_ticks = 0
            message = json.loads(line)
            if "task" in message:
                self._tasks.put(decode_task(message["task"]))
            elif "stop" in message:
                self.stop()
        os._exit(1)  # nobody is there to hear how it would have ended

    def _send(self) -> None:
        while (line := self._out.get()) is not None:
            self.outlet.write(line)
            self.outlet.flush()

    def _watch_lease(self) -> None:
        """End when nothing was heard; in own ticks, since a machine may have been asleep."""
        while True:
            time.sleep(self.lease_s / _TICKS)
            self._silent_ticks += 1
            if self._silent_ticks >= 2 * _TICKS:
                os._exit(1)
            if self._silent_ticks >= _TICKS and not self.ending:
                self.stop()


def serve(link: Link) -> None:
    """Finish one task after the other until the child is to end."""
    while (task := link.next_task()) is not None:
        try:
            with stoppable():
                error = _finish(task, link)
        except KeyboardInterrupt:
            link.note_end()
            link.say(stopped=task.cell_id)
        else:
            link.say(result={"cell_id": task.cell_id, "error": encode_error(error)})


def _finish(task: CellTask, link: Link) -> BirdlabError | None:
    if link.ending:
        raise KeyboardInterrupt

    def emit(event: Event) -> None:
        link.say(event=encode_event(event))

    emit(Event("placed", task.cell_id, {"pid": os.getpid(), **_place()}))
    try:
        return finish_task(task, emit)
    except BirdlabError as error:  # the lab itself cannot be opened
        return error


def _place() -> dict[str, str]:
    """Which GPU this process sees, and with how many threads it computes."""
    return {
        "gpu": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
        "threads": os.environ.get("OMP_NUM_THREADS", ""),
    }


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """The protocol's input and output, out of reach of whatever reads or prints."""
    pipes = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return pipes


def main() -> None:
    """Serve until the parent has no more to do."""
    link = Link(*_take_pipes(), lease_s=float(sys.argv[1]))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, link.note_end)
    link.start()
    serve(link)
    link.close()


if __name__ == "__main__":
    main()
