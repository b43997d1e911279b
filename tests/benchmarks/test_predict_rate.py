"""How much of the bare network's rate is left of `predict`, from Ogg files to the CSV.

Both keep all cores busy over as many windows, so their rates are as the seconds of processor time
they take, which other work on the machine changes little; rounds take turns. The same cores decode:
a window of Ogg costs 3 ms of one, so a network of 40 ms or more keeps 90 %.
"""

from __future__ import annotations

from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from rows import Row, Theme, note
from safetensors.torch import save_file

from birdlab.data.demo.oggfile import write_ogg
from birdlab.infer.passes import Engine, ModelChoice
from birdlab.infer.predict import PredictRequest, predict_to_file
from birdlab.infer.tuning import count_cores
from birdlab.promote.detector import Member
from birdlab.promote.export import export_ensemble
from birdlab.sed.model import SEDModel
from birdlab.spec.model import ModelSpec

RATE, N_FILES, FILE_S, BATCH, ROUNDS = 32_000, 4, 300, 8, 2
CLASSES = tuple(f"species{i:03}" for i in range(264))


@pytest.fixture(scope="module")
def soundscapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty minutes of noise with calls, as Ogg Vorbis at 32 kHz."""
    folder, rng = tmp_path_factory.mktemp("oggs"), np.random.default_rng(0)
    for i in range(N_FILES):
        wave = rng.normal(0, 0.05, RATE * FILE_S).astype(np.float32)
        t = np.arange(RATE * FILE_S, dtype=np.float32) / RATE
        wave += 0.3 * np.sin(2 * np.pi * (2000 + 500 * i) * t) * (np.sin(t) > 0.9)
        write_ogg(folder / f"site{i}_0500.ogg", wave, RATE)
    return folder


def save_model(folder: Path, backbone: str) -> Path:
    """The file of one member with random weights."""
    spec = ModelSpec(backbone=backbone, pretrained=False)
    torch.manual_seed(0)
    model = SEDModel(spec, len(CLASSES))
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "w.safetensors")
    member = Member(spec, CLASSES, folder / "w.safetensors", 5.0, 0.75, 0.25, backbone)
    return export_ensemble([member], folder / "model.onnx", classes=CLASSES).path


@pytest.mark.parametrize("backbone", ["tf_efficientnet_lite0", "eca_nfnet_l0"])
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_predict_against_the_bare_network(
    benchmark: Any, soundscapes: Path, tmp_path: Path, backbone: str
) -> None:
    model = save_model(tmp_path, backbone)
    cores = count_cores()
    n_windows = N_FILES * FILE_S // 5
    asked = PredictRequest(model, soundscapes, tmp_path / "s.csv", sessions=cores, threads=1)
    engine = Engine(ModelChoice(model), cores, 1)
    waves = np.random.default_rng(0).normal(0, 0.1, (BATCH, 5 * RATE)).astype(np.float32)
    bare_s: list[float] = []

    def bare() -> None:
        start = process_time()
        running = [engine.submit(waves, [0]) for _ in range(n_windows // BATCH)]
        for future in running:
            future.result()
        bare_s.append(process_time() - start)

    ours_s: list[float] = []

    def ours() -> None:
        start = process_time()
        predict_to_file(asked)
        ours_s.append(process_time() - start)

    opening = process_time()
    Engine(ModelChoice(model), cores, 1).close()
    open_s = process_time() - opening  # once per run, however many windows there are
    bare()
    benchmark.pedantic(ours, setup=bare, rounds=ROUNDS)
    engine.close()
    share = min(bare_s) / (min(ours_s) - open_s)
    benchmark.extra_info["share_of_bare_rate"] = round(share, 4)
    ms = 1000 * min(bare_s) / n_windows
    print(f"\n{backbone}: {share:.3f} of the bare rate, {ms:.1f} ms of one core a window")
    what = f"windows a second of `predict`, Ogg to CSV, {backbone} ({ms:.0f} ms a window)"
    rates = [
        f"{n_windows / s:.0f} windows a core-second" for s in (min(ours_s) - open_s, min(bare_s))
    ]
    why = "The same cores decode: 3 ms of one core a window of Ogg."
    asked, held = ("at least .9", share > 0.9) if ms > 40 else ("", None)
    peer = f"{rates[1]}, the network and mel alone"
    theme: Theme = "Promotion and prediction"
    note(benchmark, Row(theme, what, rates[0], peer, share, asked, held, why))
    info = soundfile.info(next(soundscapes.glob("*.ogg")))
    assert info.frames == RATE * FILE_S
    assert share > (0.9 if ms > 40 else 0.65)
