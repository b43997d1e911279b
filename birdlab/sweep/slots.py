"""Slots: how many cells this machine trains at once, and on what each of them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Collection
from dataclasses import dataclass

from birdlab.errors import LabError
from birdlab.lab import LAB_FILE, Lab, count_cores

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_VISIBLE = "CUDA_VISIBLE_DEVICES"
_ASK_S = 20


@dataclass(frozen=True)
class Slot:
    """A place for one cell at a time; `gpu` as CUDA_VISIBLE_DEVICES names it, None for the CPU."""

    number: int
    gpu: str | None = None

    def environment(self, threads: int) -> dict[str, str]:
        """What a child process in this slot sees: its one GPU or none, its number of threads."""
        return {_VISIBLE: self.gpu or "", **dict.fromkeys(_THREADS, str(threads))}


@dataclass(frozen=True)
class Inventory:
    """What cells may use of a machine: CPU cores, GPUs, and how many cells share one GPU.

    With GPUs, cells run on nothing else: a CPU would give other numbers.
    """

    cores: int
    gpus: tuple[str, ...] = ()
    cells_per_gpu: int = 1

    def slots(self, jobs: int | None = None) -> tuple[Slot, ...]:
        """The slots, at most `jobs`: different GPUs first; a slot per core where there is none."""
        places: list[str | None] = [*self.gpus] * self.cells_per_gpu or [None] * self.cores
        return tuple(Slot(number, gpu) for number, gpu in enumerate(places[:jobs]))


class FreeSlots:
    """Which slots of an inventory are free; hands out no more than there is.

    The threads of the cells at work are never more than the cores, nor the cells on a GPU more
    than share one. A cell that computes with more threads than there are cores, as its recipe
    says, runs alone.
    """

    def __init__(self, inventory: Inventory, jobs: int | None = None) -> None:
        self.cores = self.cores_left = inventory.cores
        self.has_gpus = bool(inventory.gpus)
        self._free = list(inventory.slots(jobs))
        self._taken: dict[Slot, int] = {}

    def take(self, threads: int, warm: Collection[Slot] = ()) -> Slot | None:
        """A slot for a cell that computes with so many threads; None while there is no room.

        One on the least busy GPU, and of these one that is `warm`.
        """
        needs = min(threads, self.cores)
        if not self._free or needs > self.cores_left:
            return None
        busy = [slot.gpu for slot in self._taken]
        slot = min(self._free, key=lambda s: (busy.count(s.gpu), s not in warm, s.number))
        self._free.remove(slot)
        self._taken[slot] = needs
        self.cores_left -= needs
        return slot

    def give_back(self, slot: Slot) -> None:
        """The cell in `slot` has ended."""
        self.cores_left += self._taken.pop(slot)
        self._free.append(slot)


def build_inventory(lab: Lab) -> Inventory:
    """What the lab file says that cells may use, else what this process may use.

    Raises LabError for more GPUs than are visible, or for others.
    """
    seen, asked = find_gpus(), lab.file.gpus
    gpus: tuple[str, ...] = seen
    if isinstance(asked, int):
        if asked > len(seen):
            raise LabError(
                f"the lab file gives cells {asked} GPUs",
                where=f"{lab.root / LAB_FILE}: gpus",
                got=f"{len(seen)} are visible",
                fix="lower it, or name them: gpus = [0, 1]",
            )
        gpus = seen[:asked]
    elif asked is not None:
        gpus = tuple(str(gpu) for gpu in asked)
        if _VISIBLE in os.environ and (hidden := set(gpus) - set(seen)):
            raise LabError(
                f"the lab file names GPUs that {_VISIBLE} hides",
                where=f"{lab.root / LAB_FILE}: gpus",
                got=", ".join(sorted(hidden)),
                expected=", ".join(seen) or "none",
            )
    return Inventory(lab.file.cores or count_cores(), gpus, lab.file.cells_per_gpu)


def find_gpus() -> tuple[str, ...]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; torch is not asked.

    What CUDA_VISIBLE_DEVICES says stands; else all that nvidia-smi lists, by their UUIDs, whose
    order nobody has to know.
    """
    visible = os.environ.get(_VISIBLE)
    if visible is not None:
        named = [name.strip() for name in visible.split(",")]
        usable = named[: named.index("-1")] if "-1" in named else named
        return tuple(name for name in usable if name)
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    command = [program, "--query-gpu=uuid", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_ASK_S, check=True)
    except (OSError, subprocess.SubprocessError):  # a driver that does not answer
        return ()
    return tuple(line.strip() for line in done.stdout.splitlines() if line.startswith("GPU-"))
