"""The one road: cells are trained once, kept through kills, and scored from stored outputs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import MakeLab

from birdlab.cellfiles import is_finished, outputs_folder
from birdlab.data.quarantine import load_quarantine
from birdlab.errors import AudioError, BirdlabError, CellError, DataError, SpecError
from birdlab.evaluate.outputs import load_outputs
from birdlab.lab import Lab, open_lab
from birdlab.plan import plan_experiment
from birdlab.run import run_experiment
from birdlab.runresult import RunResult
from birdlab.spec import ExperimentSpec, load_spec
from birdlab.sweep.local import LocalExecutor
from birdlab.sweep.slots import Inventory
from birdlab.tasks import Event

REPOSITORY = Path(__file__).parents[1]


def spec_of(lab: Lab, changes: dict[str, Any] | None = None) -> ExperimentSpec:
    return load_spec(lab.root / "tiny.yaml", changes or {})


def run(lab: Lab, changes: dict[str, Any] | None = None, **given: Any) -> RunResult:
    return run_experiment(spec_of(lab, changes), lab=lab, **given)


def stages(data: str, transfer: str, **more: str) -> list[Any]:
    pretrain = {"data": data, "augment": ["spec_mask"], "train": {"length": {"steps": 2}}, **more}
    return [{"pretrain": pretrain}, {"tune": {"start": "pretrain", "transfer": transfer}}]


def assert_equal_outputs(one: Lab, two: Lab, changes: dict[str, Any] | None = None) -> None:
    cells = plan_experiment(spec_of(one, changes), one).final_cells
    assert cells
    for cell in cells:
        a, b = (load_outputs(outputs_folder(lab, cell)) for lab in (one, two))
        assert a.windows.recordings == b.windows.recordings
        assert np.array_equal(a.windows.clip_probs, b.windows.clip_probs)
        assert np.array_equal(a.windows.time_max, b.windows.time_max)
        weights = [(lab.cells / cell.cell_id / "weights.safetensors") for lab in (one, two)]
        assert weights[0].read_bytes() == weights[1].read_bytes()


def python(lab: Lab, *args: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "BIRDLAB_HOME": str(lab.root), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *args], cwd=REPOSITORY, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


# ---------------------------------------------------------------- one run


def test_a_run_is_trained_scored_and_recorded(make_lab: MakeLab) -> None:
    lab = make_lab()
    events: list[Event] = []
    result = run(lab, {"name": "first"}, emit=events.append)
    assert (result.trained, result.cached) == (2, 0)
    assert result.cells[["fold", "seed"]].to_numpy().tolist() == [[0, 0], [1, 0]]
    assert result.cv == pytest.approx(result.cells["padded_cmap"].mean())
    assert 0 < result.scores["cv/floor"] < 1
    assert result.classes["support"].sum() >= 24
    assert set(result.curves["stage"]) == {"train"}
    per_cell = ["queued", "start", "epoch", "evaluate", "done"]
    for cell_id in result.cells["cell_id"]:
        kinds = [e.kind for e in events if e.cell_id == cell_id]
        assert list(dict.fromkeys(kinds)) == per_cell
    record = json.loads(result.record.read_text())
    assert (record["spec_id"], record["name"]) == (result.spec_id, "first")
    assert record["scores"] == result.scores
    assert record["evaluation"]["n_rows"] == 24
    assert ExperimentSpec.model_validate_json(json.dumps(record["spec"])) == result.spec


def test_the_same_spec_again_trains_nothing_and_needs_no_torch(make_lab: MakeLab) -> None:
    lab = make_lab(trained=True)
    before = run(lab)
    assert (before.trained, before.cached) == (0, 2)
    script = (
        "import sys, birdlab\n"
        f"r = birdlab.run_experiment(birdlab.load_spec({str(lab.root / 'tiny.yaml')!r}))\n"
        "assert (r.trained, r.cached) == (0, 2), r\n"
        f"assert r.cv == {before.cv!r}\n"
        "print([m for m in ('torch', 'timm', 'mlflow', 'optuna', 'plotly') if m in sys.modules])\n"
    )
    done = python(lab, "-W", "error", "-c", script)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_more_folds_and_seeds_train_only_what_is_new(make_lab: MakeLab) -> None:
    lab = make_lab(trained=True)
    for cell in plan_experiment(spec_of(lab, {"cells.folds": [1]}), lab).cells:
        shutil.rmtree(lab.cells / cell.cell_id)
    one = run(lab, {"cells.folds": [0]})
    assert (one.trained, one.cached) == (0, 1)
    assert "cv/padded_cmap_sd" not in one.scores
    two = run(lab)
    assert (two.trained, two.cached) == (1, 1)
    assert two.spec_id == one.spec_id
    with_seed = run(lab, {"cells": {"folds": [0], "seeds": [0, 1]}})
    assert (with_seed.trained, with_seed.cached) == (1, 1)
    a, b = with_seed.cells["padded_cmap"]
    assert a != b
    run(lab, {"cells.folds": [0]})
    kept = json.loads(with_seed.record.read_text())["cells"]
    assert [cell["seed"] for cell in kept] == [0, 1], "less evidence does not replace more"


def test_two_labs_and_two_processes_give_equal_bits(make_lab: MakeLab) -> None:
    trained, here, apart = make_lab(trained=True), make_lab(), make_lab()
    run(here)
    assert_equal_outputs(trained, here)
    with LocalExecutor(Inventory(1)) as executor:
        result = run(apart, executor=executor)
    assert result.trained == 2
    assert_equal_outputs(trained, apart)


def test_training_on_all_data_has_no_score(make_lab: MakeLab) -> None:
    lab = make_lab()
    result = run(lab, {"cells.folds": "none"})
    assert (result.trained, result.scores) == (1, {})
    assert np.isnan(result.cv)
    assert run(lab, {"cells.folds": "none"}).trained == 0
    assert json.loads(result.record.read_text())["cells"][0]["fold"] is None


# ---------------------------------------------------------------- scores without training


def test_labels_and_blend_change_the_score_and_train_nothing(make_lab: MakeLab) -> None:
    lab = make_lab(trained=True)
    base = run(lab)
    ignoring = run(lab, {"evaluate.secondary": "ignore"})
    clip_only = run(lab, {"output": {"clip": 1, "time_max": 0}})
    assert [r.trained for r in (base, ignoring, clip_only)] == [0, 0, 0]
    assert len({r.spec_id for r in (base, ignoring, clip_only)}) == 3
    assert ignoring.classes["support"].sum() == 24 < base.classes["support"].sum()
    assert ignoring.cv != base.cv
    assert clip_only.scores["cv/macro_auc"] != base.scores["cv/macro_auc"]


def test_another_window_is_predicted_again_without_training(make_lab: MakeLab) -> None:
    lab = make_lab(trained=True)
    competition = {"name": "demo", "window_s": 2.5}
    result = run(lab, {"competition": competition})
    weights = [p.stat().st_mtime_ns for p in lab.cells.glob("*/weights.safetensors")]
    assert len(weights) == 2, "the same cells, with a second set of outputs"
    assert all(len(list(p.glob("outputs-*"))) == 2 for p in lab.cells.iterdir() if p.is_dir())
    assert result.cv != run(lab).cv


# ---------------------------------------------------------------- stages


def test_pretraining_hands_over_the_backbone(make_lab: MakeLab) -> None:
    lab = make_lab()
    changes = {"stages": stages("abroad", "backbone"), "cells.folds": [0]}
    result = run(lab, changes)
    assert result.trained == 2
    assert list(result.curves["stage"].unique()) == ["pretrain", "tune"]
    first, second = plan_experiment(spec_of(lab, changes), lab).cells
    assert (len(first.classes), len(second.classes)) == (3, 4)
    assert json.loads((lab.cells / second.cell_id / "cell.json").read_text())["start"] == (
        first.cell_id
    )
    tuned_longer = run(lab, {**changes, "stages.tune.train.length.steps": 1})
    assert (tuned_longer.trained, tuned_longer.cached) == (1, 1)


def test_all_weights_are_handed_over_where_the_classes_fit(make_lab: MakeLab) -> None:
    lab = make_lab()
    changes = {
        "stages": stages("tiny-again", "all"),
        "data.accept_leaks": ["content", "author_species", "recording_id"],
        "stages.tune.train.optimizer.lr": 1e-12,
        "stages.tune.augment": [],
        "cells.folds": [0],
    }
    assert run(lab, changes).trained == 2
    first, second = plan_experiment(spec_of(lab, changes), lab).cells
    from safetensors.torch import load_file

    before, after = (
        load_file(lab.cells / c.cell_id / "weights.safetensors") for c in (first, second)
    )
    weights = [name for name in before if name.endswith("weight") and "head" in name]
    assert weights
    for name in weights:
        assert np.allclose(before[name].numpy(), after[name].numpy(), atol=1e-6)
    with pytest.raises(SpecError, match="lacks 4 scored classes") as caught:
        run(lab, {"stages": stages("abroad", "all")})
    assert "transfer: backbone" in str(caught.value)


def test_a_shared_stage_is_trained_once_for_two_seeds(make_lab: MakeLab) -> None:
    lab = make_lab()
    cells = {"folds": [0], "seeds": [0, 1]}
    changes = {"stages": stages("abroad", "backbone", seeds="shared"), "cells": cells}
    assert run(lab, changes).trained == 3
    per_seed = {"stages": stages("abroad", "backbone"), "cells": cells}
    again = run(lab, per_seed)
    assert (again.trained, again.cached) == (2, 2), "only seed 1 has a start of its own"


def test_a_renamed_stage_starts_from_the_same_weights(make_lab: MakeLab) -> None:
    one, two = make_lab(trained=True), make_lab()
    run(two, {"stages": ["another-name"]})
    assert_equal_outputs(one, two)


# ---------------------------------------------------------------- what goes wrong


def copy_data(lab: Lab, tiny_demo: Path) -> Path:
    """Give the lab a competition of its own, which may be damaged."""
    shutil.copytree(tiny_demo, lab.root / "birds")
    (lab.root / "birdlab.local.toml").write_text('[data]\ntiny = "birds"\n')
    return lab.root / "birds"


def test_a_corrupt_file_fails_the_run_by_name_or_is_skipped(
    make_lab: MakeLab, tiny_demo: Path
) -> None:
    lab = make_lab(decoded=False)
    birds = copy_data(lab, tiny_demo)
    lab = open_lab(lab.root)
    bad = sorted((birds / "train_audio").rglob("*.ogg"))[3]
    bad.write_bytes(b"this is no sound")
    with pytest.raises(AudioError) as caught:
        run(lab)
    assert bad.name in str(caught.value)
    assert "on_bad_file: skip" in str(caught.value)
    assert not list(lab.cells.glob("*")), "nothing was trained"
    result = run(lab, {"data.on_bad_file": "skip", "cells.folds": [0]})
    plan = plan_experiment(spec_of(lab, {"data.on_bad_file": "skip"}), lab)
    assert len(plan.rows.keys) == 23
    assert result.trained == 1
    assert any(bad.name in reason for reason in load_quarantine(lab).values())
    with pytest.raises(AudioError):
        run(lab)


def test_a_missing_file_is_named_before_anything_is_trained(
    make_lab: MakeLab, tiny_demo: Path
) -> None:
    lab = make_lab(decoded=False)
    birds = copy_data(lab, tiny_demo)
    lab = open_lab(lab.root)
    gone = sorted((birds / "train_audio").rglob("*.ogg"))[0]
    gone.unlink()
    with pytest.raises(DataError) as caught:
        run(lab)
    assert gone.name in str(caught.value)
    for noise in (birds / "background").iterdir():
        noise.unlink()
    with pytest.raises(DataError, match="a background recording of tiny"):
        run(lab)


def test_weights_that_nobody_can_fetch_are_refused_before_anything_is_decoded(
    make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = make_lab(decoded=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    told: list[object] = []
    with pytest.raises(SpecError, match=r"pretrained weights .* cannot be fetched"):
        run(lab, {"model.pretrained": True}, progress=lambda *step: told.append(step))
    with pytest.raises(SpecError, match=r"pretrained weights .* cannot be fetched"):
        run(lab, {"stages": [{"train": {"start": "imagenet"}}]})
    assert not told and not list(lab.cells.glob("*"))


def test_data_that_changes_between_two_runs_of_a_process_is_seen(
    make_lab: MakeLab, tiny_demo: Path
) -> None:
    lab = make_lab()
    birds = copy_data(lab, tiny_demo)
    lab = open_lab(lab.root)
    one = run(lab, {"cells.folds": [0]})
    table = birds / "train_metadata.csv"
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join(lines[:-1]))
    two = run(lab, {"cells.folds": [0]})
    assert (two.trained, two.cached) == (1, 0)
    assert one.spec_id != two.spec_id


def test_a_lost_loss_fails_the_run_and_keeps_what_is_done(make_lab: MakeLab) -> None:
    lab = make_lab(trained=True)
    changes = {"train.optimizer.lr": 1e30, "train.loss.kind": "bce", "cells.folds": [0]}
    with pytest.raises(CellError) as caught:
        run(lab, changes)
    message = str(caught.value)
    assert "1 of 1 cells failed" in message
    assert "the loss became" in message
    assert "epoch" in message
    assert ".ogg" in message, "the recordings of the batch are named"
    assert not list(lab.runs.glob(f"{plan_experiment(spec_of(lab, changes), lab).spec_id}*"))
    assert run(lab).trained == 0


def test_an_error_of_anybodys_is_kept_with_its_traceback(make_lab: MakeLab) -> None:
    lab = make_lab()
    (lab.root / "broken.py").write_text(
        "from typing import Literal\n"
        "from birdlab.spec.kinds import implements, register\n"
        "from birdlab.spec.parts import AugmentationSpec\n"
        "@register('augmentation')\n"
        "class Broken(AugmentationSpec):\n"
        "    kind: Literal['broken_on_purpose'] = 'broken_on_purpose'\n"
        "@implements(Broken)\n"
        "def breaks(spec, batch, draws):\n"
        "    raise ZeroDivisionError('of mine')\n"
    )
    (lab.root / "birdlab.local.toml").write_text('extensions = ["broken.py"]\n')
    lab = open_lab(lab.root)
    with pytest.raises(CellError, match="ZeroDivisionError: of mine"):
        run(lab, {"augment": ["broken_on_purpose"], "cells.folds": [0]})
    (text,) = (lab.stores / "failed").iterdir()
    assert "breaks" in text.read_text()


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"data.base": "nowhere"}, "knows no data set"),
        ({"augment": [{"background": {"noise": ["nowhere"]}}]}, "knows no data set"),
        ({"augment": [{"background": {"noise": ["abroad"]}}]}, "no background recordings"),
        ({"model.weights": "nowhere"}, "knows no weights"),
        ({"model.backbone": "mobilnetv3_small_050", "cells.folds": [0]}, "mobilenetv3_small_050"),
        ({"data.folds.n": 30, "cells.folds": [0]}, "30 folds cannot be made"),
    ],
)
def test_what_the_lab_lacks_is_told_with_the_fix(
    make_lab: MakeLab, changes: dict[str, Any], part: str
) -> None:
    lab = make_lab()
    with pytest.raises(BirdlabError) as caught:
        run(lab, changes)
    assert part in str(caught.value)
    assert not list(lab.cells.glob("[!.]*"))


# ---------------------------------------------------------------- kill -9


@pytest.mark.crash  # as test_crash does to a sweep in every run of the tests
def test_a_killed_run_keeps_its_finished_cells(make_lab: MakeLab) -> None:
    lab = make_lab()
    spec = lab.root / "tiny.yaml"
    command = [sys.executable, "-m", "birdlab.cli.app", "run", str(spec), "--no-mlflow"]
    command += ["--jobs", "1", "--set", "train.length.steps=30"]
    environment = {**os.environ, "BIRDLAB_HOME": str(lab.root), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, stdout=subprocess.DEVNULL
    ) as process:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and process.poll() is None:
            if list(lab.cells.glob("[!.]*")) and list(lab.cells.glob(".*.part")):
                break
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "it was killed in the middle"
    changes = {"train.length": {"steps": 30}}
    cells = plan_experiment(spec_of(lab, changes), lab).cells
    assert [is_finished(lab, cell) for cell in cells] == [True, False]
    assert list(lab.cells.glob(".*.part")), "what it left behind is not taken for a cell"
    result = run(lab, changes)
    assert (result.trained, result.cached) == (1, 1)
    assert not list(lab.stores.rglob("*.part"))
    undisturbed = make_lab()
    run(undisturbed, changes)
    assert_equal_outputs(lab, undisturbed, changes)


def test_a_cell_whose_outputs_are_lost_is_predicted_again(make_lab: MakeLab) -> None:
    lab, other = make_lab(trained=True), make_lab(trained=True)
    (cell, _) = plan_experiment(spec_of(lab), lab).cells
    shutil.rmtree(outputs_folder(lab, cell))
    events: list[Event] = []
    run(lab, emit=events.append)
    assert "epoch" not in [e.kind for e in events], "nothing is trained for it"
    assert_equal_outputs(lab, other)
