"""Inference: windows of soundscapes through ONNX Runtime into a valid submission, no torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
import soundfile
from onnx import TensorProto, helper, numpy_helper

from birdlab.data.audio import decode
from birdlab.errors import PredictError
from birdlab.evaluate.windows import Normalise, cut_windows
from birdlab.infer.card import ModelCard, read_card
from birdlab.infer.predict import list_soundscapes, predict_soundscapes
from birdlab.infer.session import OnnxPredictor
from birdlab.infer.submission import write_submission

ROOT = Path(__file__).parents[1]
REAL = ROOT.parent / "shared" / "data" / "realbirds"
RATE, WINDOW_S, CLASSES = 8_000, 0.5, ("zebfin", "1234", "ädler")


def save_energy_model(path: Path, card: ModelCard, n_outputs: int = 3) -> Path:
    """A small real ONNX model: a sigmoid of the window's energy times one weight a class."""
    weight = np.linspace(-3, 4, n_outputs, dtype=np.float32)[None]
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["wave", "wave"], ["square"]),
            helper.make_node("ReduceMean", ["square", "axis"], ["energy"], keepdims=1),
            helper.make_node("MatMul", ["energy", "weight"], ["logits"]),
            helper.make_node("Sigmoid", ["logits"], ["probs"]),
        ],
        "energy",
        [helper.make_tensor_value_info("wave", TensorProto.FLOAT, ["batch", 4_000])],
        [helper.make_tensor_value_info("probs", TensorProto.FLOAT, ["batch", n_outputs])],
        [
            numpy_helper.from_array(weight, "weight"),
            numpy_helper.from_array(np.array([1], np.int64), "axis"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, card.to_metadata())
    onnx.save(model, path)
    return path


def expected_probs(windows: np.ndarray) -> np.ndarray:
    energy = (windows.astype(np.float64) ** 2).mean(axis=1, keepdims=True)
    return 1 / (1 + np.exp(-energy * np.linspace(-3, 4, 3)))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "energy.onnx"
    return save_energy_model(path, ModelCard(CLASSES, RATE, WINDOW_S, {"licence": "MIT"}))


@pytest.fixture(scope="module")
def soundscapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five files of 0.2 to 3.3 s whose energy differs per window."""
    folder = tmp_path_factory.mktemp("soundscapes")
    rng = np.random.default_rng(1)
    for i, n in enumerate((26_400, 1_600, 4_000, 8_001, 12_000)):
        wave = rng.standard_normal(n) * rng.uniform(0, 0.2, n)
        wave[rng.integers(n)] = 0.9
        soundfile.write(folder / f"site{i}_0500.wav", wave, RATE)
    (folder / "notes.txt").write_text("not audio")
    return folder


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_table_equals_the_road_of_validation(model: Path, soundscapes: Path, batch: int) -> None:
    seen: list[tuple[int, int]] = []
    prediction = predict_soundscapes(
        model, soundscapes, batch=batch, threads=1, progress=lambda a, b: seen.append((a, b))
    )
    ids, probs = [], []
    for file in sorted(soundscapes.glob("*.wav")):
        windows = cut_windows(decode(file, RATE).to_float(), 4_000)
        ids += [f"{file.stem}_{(i + 1) * 0.5:g}" for i in range(len(windows))]
        probs.append(expected_probs(windows))
    table = prediction.table
    assert list(table.columns) == ["row_id", *CLASSES]
    assert [row.replace(".0", "") for row in table["row_id"]] == ids
    np.testing.assert_allclose(table[list(CLASSES)], np.concatenate(probs), atol=1e-5)
    assert seen == [(i, 5) for i in range(1, 6)]
    assert prediction.bad_files == ()
    assert prediction.settings["threads"] == "1"


@pytest.mark.parametrize("normalise", ["crop", "recording"])
def test_a_file_hears_the_context_and_the_peak_that_its_card_states(
    soundscapes: Path, tmp_path: Path, normalise: Normalise
) -> None:
    """Against a loop: pad to whole windows, cut the context, divide by the stated peak."""
    card = ModelCard(CLASSES, RATE, 0.25, {}, 0.5, normalise)
    table = predict_soundscapes(save_energy_model(tmp_path / "m.onnx", card), soundscapes).table
    windows = []
    for file in sorted(soundscapes.glob("*.wav")):
        wave = decode(file, RATE).to_float()
        n = -(-len(wave) // 2_000)
        rest = wave[(n - 1) * 2_000 :]
        padded = np.concatenate([wave[: (n - 1) * 2_000], np.zeros(2_000 - len(rest)), rest])
        around = np.pad(padded, 1_000)
        for k in range(n):
            heard = around[k * 2_000 : k * 2_000 + 4_000]
            peak = np.abs(heard if normalise == "crop" else wave).max()
            windows.append(heard / peak)
    expected = expected_probs(np.stack(windows))
    assert len(table) == len(windows) == 28
    np.testing.assert_allclose(table[list(CLASSES)], expected, atol=1e-5)


def test_threads_and_readers_change_nothing(model: Path, soundscapes: Path) -> None:
    one = predict_soundscapes(model, soundscapes, threads=1, readers=1)
    two = predict_soundscapes(model, soundscapes, threads=2, readers=4, batch=5)
    pd.testing.assert_frame_equal(one.table, two.table, atol=1e-6)


@pytest.fixture
def with_a_bad_file(soundscapes: Path, tmp_path: Path) -> Path:
    for file in soundscapes.glob("*.wav"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "site2b_0500.wav").write_bytes(b"RIFF not really")
    return tmp_path


def test_a_bad_file_fails_by_name(model: Path, with_a_bad_file: Path) -> None:
    with pytest.raises(PredictError, match=r"site2b_0500\.wav"):
        predict_soundscapes(model, with_a_bad_file)


@pytest.mark.parametrize("policy", ["zeros", "prior"])
def test_a_bad_file_is_filled_and_listed(
    model: Path, soundscapes: Path, with_a_bad_file: Path, policy: str
) -> None:
    clean = predict_soundscapes(model, soundscapes, threads=1).table
    result = predict_soundscapes(model, with_a_bad_file, on_bad_file=policy, threads=1)  # type: ignore[arg-type]
    (bad,) = result.bad_files
    assert (bad.path.name, bad.n_windows) == ("site2b_0500.wav", 3)  # 3 is the commonest count
    made_up = result.table["row_id"].str.startswith("site2b")
    assert made_up.sum() == 3
    pd.testing.assert_frame_equal(result.table[~made_up].reset_index(drop=True), clean)
    mean = clean[list(CLASSES)].mean() if policy == "prior" else np.zeros(3)
    for _, row in result.table[made_up].iterrows():
        np.testing.assert_allclose(row[list(CLASSES)].astype(float), mean, atol=1e-6)
    assert list(result.table.index[made_up]) == [9, 10, 11]  # in its place


def test_no_file_can_be_decoded(model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"")
    with pytest.raises(PredictError, match="no soundscape can be decoded"):
        predict_soundscapes(model, tmp_path, on_bad_file="zeros")


def test_folders_that_cannot_be_predicted(model: Path, soundscapes: Path, tmp_path: Path) -> None:
    with pytest.raises(PredictError, match="not there"):
        list_soundscapes(tmp_path / "absent")
    with pytest.raises(PredictError, match="no soundscapes"):
        list_soundscapes(tmp_path)
    first = next(soundscapes.glob("*.wav"))
    with pytest.raises(PredictError, match="share a name"):
        list_soundscapes([first, tmp_path / f"{first.stem}.ogg"])
    with pytest.raises(PredictError, match="unknown policy"):
        predict_soundscapes(model, soundscapes, on_bad_file="skip")  # type: ignore[arg-type]


def test_predictor_refuses_what_is_no_promoted_model(model: Path, tmp_path: Path) -> None:
    with pytest.raises(PredictError, match="not there"):
        OnnxPredictor(tmp_path / "absent.onnx")
    (tmp_path / "cut.onnx").write_bytes(model.read_bytes()[:100])
    with pytest.raises(PredictError, match="cannot load"):
        OnnxPredictor(tmp_path / "cut.onnx")
    bare = onnx.load(model)
    del bare.metadata_props[:]
    onnx.save(bare, tmp_path / "bare.onnx")
    with pytest.raises(PredictError, match="promote the run again"):
        OnnxPredictor(tmp_path / "bare.onnx")
    other = save_energy_model(tmp_path / "wide.onnx", ModelCard(CLASSES, RATE, WINDOW_S), 5)
    with pytest.raises(PredictError, match="does not fit its own card"):
        OnnxPredictor(other)
    with pytest.raises(PredictError, match="do not fit the model"):
        OnnxPredictor(model)(np.zeros((1, 3_999), np.float32))


def test_card_survives_its_metadata() -> None:
    card = ModelCard(CLASSES, 32_000, 2.5, {"reduction": "rms"})
    assert read_card(card.to_metadata(), "x") == card
    assert card.to_metadata()["birdlab_format"] == "1"
    listening = ModelCard(CLASSES, 32_000, 2.5, {}, 10.0, "recording")
    assert read_card(listening.to_metadata(), "x") == listening
    assert listening.to_metadata()["birdlab_format"] == "2"


def test_a_card_from_before_loads_as_it_was_meant() -> None:
    """The metadata of a file of 1.0: no context, every window by itself."""
    metadata = {
        "birdlab_format": "1",
        "classes": '["b", "a"]',
        "sample_rate_hz": "32000",
        "window_s": "5.0",
        "reduction": "mean",
    }
    card = read_card(metadata, "x")
    assert card == ModelCard(("b", "a"), 32_000, 5.0, {"reduction": "mean"}, None, "crop")
    assert (card.input_samples, card.windowing.centres) == (160_000, ((0.0, 1.0),))


@pytest.mark.parametrize(
    "change",
    [
        {"classes": "[]"},
        {"classes": '["a", "a"]'},
        {"classes": "[1]"},
        {"classes": "nonsense"},
        {"window_s": "NaN"},
        {"window_s": "0"},
        {"sample_rate_hz": "fast"},
        {"sample_rate_hz": "9" * 400},
        {"sample_rate_hz": "999999999999"},
        {"window_s": "1e305"},
        {"context_s": "1e308"},
        {"windows_per_pass": "9" * 400},
        {"hop_s": "1e308"},
        {"classes": "[" * 100_000},
        {"birdlab_format": "0"},
        {"context_s": "0.25"},
        {"context_s": "NaN"},
        {"normalise": "loudness"},
        {"windows_per_pass": "2"},
        {"windows_per_pass": "0"},
        {"windows_per_pass": "some"},
        {"windows_per_pass": "3", "context_s": "1.25"},
    ],
)
def test_cards_that_say_nonsense_are_refused(change: dict[str, str]) -> None:
    with pytest.raises(PredictError, match="columns and windows"):
        read_card({**ModelCard(CLASSES, RATE, 0.5).to_metadata(), **change}, "x.onnx")


# ---------------------------------------------------------------- submission

TABLE = pd.DataFrame({"row_id": ["b_5", "a_5"], "x": [0.25, 0.5], "y": [0.0, 0.999999]})


def test_submission_is_written_in_class_order(tmp_path: Path) -> None:
    path = write_submission(TABLE, ["y", "x"], tmp_path / "out" / "submission.csv")
    assert path.read_text() == (
        "row_id,y,x\nb_5,0.00000000e+00,2.50000000e-01\na_5,9.99998987e-01,5.00000000e-01\n"
    )
    assert [p.name for p in path.parent.iterdir()] == ["submission.csv"]


def test_submission_follows_the_sample(tmp_path: Path) -> None:
    (tmp_path / "sample.csv").write_text("row_id,x,y\na_5,0,0\nb_5,0,0\n")
    path = write_submission(TABLE, ["y", "x"], tmp_path / "s.csv", tmp_path / "sample.csv")
    table = pd.read_csv(path, dtype={"x": np.float32, "y": np.float32})
    assert list(table.columns) == ["row_id", "x", "y"]
    assert table["row_id"].tolist() == ["a_5", "b_5"]
    np.testing.assert_array_equal(table[["x", "y"]], np.float32([[0.5, 0.999999], [0.25, 0]]))


def test_float32_scores_stay_below_one(tmp_path: Path) -> None:
    highest = np.nextafter(np.float32(1), np.float32(0))
    table = pd.DataFrame({"row_id": ["a_5"], "x": np.array([highest])})
    back = pd.read_csv(write_submission(table, ["x"], tmp_path / "s.csv"))
    assert back["x"].iloc[0] < 1


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ("row_id,x,z\na_5,0,0\nb_5,0,0\n", "1 missing .z.; 1 too many .y."),
        ("row_id,x,y\na_5,0,0\n", "1 too many .b_5."),
        ("row_id,x,y\na_5,0,0\nb_5,0,0\nc_5,0,0\n", "1 missing .c_5."),
        ("id,x,y\na_5,0,0\n", "no row_id"),
        ("", "cannot be read"),
    ],
)
def test_samples_that_do_not_fit_are_refused(tmp_path: Path, sample: str, message: str) -> None:
    (tmp_path / "sample.csv").write_text(sample)
    with pytest.raises(PredictError, match=message):
        write_submission(TABLE, ["x", "y"], tmp_path / "s.csv", tmp_path / "sample.csv")
    assert not (tmp_path / "s.csv").exists()


@pytest.mark.parametrize("value", [1.0, -0.1, float("nan"), float("inf")])
def test_values_that_are_no_probabilities_are_refused(tmp_path: Path, value: float) -> None:
    with pytest.raises(PredictError, match="row b_5, column y"):
        write_submission(TABLE.assign(y=[value, 0.1]), ["x", "y"], tmp_path / "s.csv")
    assert not list(tmp_path.iterdir())


def test_row_ids_that_come_twice_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PredictError, match="twice"):
        write_submission(TABLE.assign(row_id="a_5"), ["x", "y"], tmp_path / "s.csv")


@pytest.mark.realbirds
def test_real_soundscapes_give_two_rows_each(tmp_path: Path) -> None:
    files = sorted((REAL / "soundscapes").glob("*.ogg"))[:3]
    if not files:
        pytest.skip("the real recordings are not beside the checkout")
    model = save_energy_model(tmp_path / "m.onnx", ModelCard(CLASSES, 800, 5.0))
    table = predict_soundscapes(model, files).table
    n_windows = [-(-decode(file, 800).n_samples // 4_000) for file in files]
    assert len(table) == sum(n_windows)
    assert table["row_id"].iloc[0] == f"{files[0].stem}_5"
