"""Slots: what may run at once is never more than there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from birdlab.errors import LabError
from birdlab.lab import count_cores, open_lab
from birdlab.labfile import LabFile, SlurmSettings
from birdlab.sweep.slots import (
    FreeSlots,
    Inventory,
    Slot,
    build_inventory,
    find_gpus,
)


def test_slots_are_cores_or_shares_of_gpus() -> None:
    assert [s.gpu for s in Inventory(3).slots()] == [None, None, None]
    gpus = Inventory(8, ("0", "1"), cells_per_gpu=2)
    assert [s.gpu for s in gpus.slots()] == ["0", "1", "0", "1"]
    assert [s.gpu for s in gpus.slots(2)] == ["0", "1"], "two jobs get a GPU each"
    assert len(gpus.slots(100)) == 4, "more jobs than there is room for are no more slots"
    assert Slot(0, "1").environment(2)["CUDA_VISIBLE_DEVICES"] == "1"
    assert Slot(0).environment(2)["CUDA_VISIBLE_DEVICES"] == ""
    assert Slot(0).environment(2)["OMP_NUM_THREADS"] == "2"


@given(
    cores=st.integers(1, 8),
    n_gpus=st.integers(0, 3),
    per_gpu=st.integers(1, 3),
    jobs=st.none() | st.integers(1, 10),
    steps=st.lists(st.integers(1, 6) | st.just(0), max_size=60),
)
def test_cores_and_gpus_are_never_shared_by_more_than_there_are(
    cores: int, n_gpus: int, per_gpu: int, jobs: int | None, steps: list[int]
) -> None:
    """A step asks for a slot with so many threads; 0 gives the oldest one back."""
    gpus = tuple(map(str, range(n_gpus)))
    free, running = FreeSlots(Inventory(cores, gpus, per_gpu), jobs), list[tuple[Slot, int]]()
    room = n_gpus * per_gpu or cores
    for threads in steps:
        if threads == 0:
            if running:
                free.give_back(running.pop(0)[0])
            continue
        slot = free.take(threads)
        used = sum(t for _, t in running)
        if slot is None:
            full = len(running) == min(room, jobs or room)
            assert full or used + min(threads, cores) > cores, "room is used where there is some"
            continue
        running.append((slot, threads))
        assert used + threads <= cores or len(running) == 1
        assert len({s for s, _ in running}) == len(running) <= (jobs or room)
        for gpu in gpus:
            assert sum(s.gpu == gpu for s, _ in running) <= per_gpu
        if gpus:
            counts = [sum(s.gpu == gpu for s, _ in running) for gpu in gpus]
            assert all(s.gpu in gpus for s, _ in running) and max(counts) >= 1


def test_a_warm_slot_is_taken_first_but_an_idle_gpu_before_it() -> None:
    free = FreeSlots(Inventory(2))
    second = free.take(1, [Slot(1)])
    assert second == Slot(1)
    free = FreeSlots(Inventory(4, ("0", "1"), 2))
    assert free.take(1) == Slot(0, "0")
    assert free.take(1, [Slot(2, "0")]) == Slot(1, "1")


def test_the_lab_file_declares_what_cells_may_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "birdlab.toml").write_text("cores = 6\ngpus = [0, 1]\ncells_per_gpu = 2\n")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert build_inventory(open_lab(tmp_path)) == Inventory(6, ("0", "1"), 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,GPU-5f")
    with pytest.raises(LabError, match="hides") as caught:
        build_inventory(open_lab(tmp_path))
    assert "got:      0" in str(caught.value)
    (tmp_path / "birdlab.toml").write_text("gpus = 1\n")
    found = build_inventory(open_lab(tmp_path))
    assert (found.cores, found.gpus) == (count_cores(), ("1",))
    (tmp_path / "birdlab.toml").write_text("gpus = 3\n")
    with pytest.raises(LabError, match="3 GPUs"):
        build_inventory(open_lab(tmp_path))
    (tmp_path / "birdlab.toml").write_text("gpus = 0\n")
    assert build_inventory(open_lab(tmp_path)).gpus == ()
    assert LabFile().gpus is None


def test_the_files_of_the_cluster_page_load(tmp_path: Path) -> None:
    text = (Path(__file__).parents[1] / "docs" / "cluster.md").read_text()
    (toml,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "birdlab.toml").write_text(toml)
    lab = open_lab(tmp_path)
    assert (lab.file.cells_per_gpu, lab.file.slurm.gpus, lab.file.slurm.time_min) == (2, 1, 240)
    named = set(SlurmSettings.model_fields)
    assert {name for name in named if f"`{name}" not in text} == set()
    dask, kubernetes = (
        YAML(typ="safe").load(t) for t in re.findall(r"```yaml\n(.*?)```", text, re.S)
    )
    assert dask["distributed"]["comm"]["require-encryption"] is True
    (worker,) = kubernetes["spec"]["template"]["spec"]["containers"]
    assert worker["command"][:2] == ["dask", "worker"]


@pytest.mark.parametrize(
    ("visible", "found"), [("", ()), ("-1", ()), ("3", ("3",)), ("0, 2,-1,1", ("0", "2"))]
)
def test_gpus_are_those_that_are_visible(
    monkeypatch: pytest.MonkeyPatch, visible: str, found: tuple[str, ...]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert find_gpus() == found


def test_nvidia_smi_is_asked_for_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nprintf 'GPU-aa\\nGPU-bb\\n'\n")
    program.chmod(0o755)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert find_gpus() == ("GPU-aa", "GPU-bb")
    program.write_text("#!/bin/sh\necho 'no driver' >&2\nexit 9\n")
    assert find_gpus() == ()
