"""The parity report: what it tries, and that it notices each way in which a file may differ."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from test_registry import CARD, save_pair, sigmoid

from birdlab.errors import PredictError, PromotionError
from birdlab.infer.card import ModelCard
from birdlab.infer.models import PromotedModel
from birdlab.promote.catalogue import table_parity
from birdlab.promote.parity import check_parity, odd_windows, save_parity

Floats = np.ndarray
WEIGHTS = np.array([[2, -1], [1, 2]], np.float64)


def member(number: int, off: float = 0.0) -> Callable[[Floats], Floats]:
    """What a member of the pair has to say, `off` by so much where the input is an impulse."""

    def predict(waves: Floats) -> Floats:
        energy = (waves.astype(np.float64) ** 2).mean(axis=1, keepdims=True)
        is_impulse = (waves != 0).sum(axis=1, keepdims=True) == 1
        return np.asarray(sigmoid(energy * WEIGHTS[number]) + off * is_impulse, np.float32)

    return predict


def pair(off: float = 0.0) -> Callable[[Floats], Floats]:
    return lambda waves: (member(0, off)(waves) + member(1)(waves)) / 2


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_pair(tmp_path_factory.mktemp("pair") / "model.onnx", 2.0)


def test_every_input_and_every_way_of_asking_is_tried(path: Path, tmp_path: Path) -> None:
    real = np.random.default_rng(0).uniform(-1, 1, (5, CARD.input_samples)).astype(np.float32)
    report = check_parity(path, pair(), real, members=[member(0), member(1)])
    assert report.passed and report.n_windows == len(odd_windows(500, 1_000)) + 5
    inputs = {
        *("silence", "square", "clipped", "constant", "impulse", "noise", "real"),
        *("tail", "short tail", "long tail", "tail of one sample"),
    }
    ways = {"first call", "later call", "4 threads", "batch of 1", "batch of 3", "batch of 16"}
    assert set(report.by_case) == inputs | ways
    assert {name: set(cases) for name, cases in report.by_member.items()} == {
        "member_0": inputs, "member_1": inputs
    }  # fmt: skip
    written = json.loads(save_parity(report, tmp_path).read_text())
    assert written["passed"] and written["tolerance"] == 1e-4
    table = table_parity(PromotedModel("m", (), "", tmp_path)).set_index("case")
    assert list(table.columns) == ["blend", "member_0", "member_1"]
    assert table.loc["real", "member_1"] == report.by_member["member_1"]["real"]
    assert math.isnan(table.loc["first call", "member_1"])
    assert table.loc["alone and in a batch", "blend"] == report.batch_invariance


@pytest.mark.parametrize(
    "text", ["{}", '{"blend": 1, "batch_invariance": 0}', '{"blend": {"a": "b"}}']
)
def test_a_report_of_another_form_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / "parity.json").write_text(text)
    with pytest.raises(PredictError, match="not as birdlab writes it"):
        table_parity(PromotedModel("m", (), "", tmp_path))


def test_tails_are_padded_on_the_left() -> None:
    windows = odd_windows(500, 1_000)
    filled = {name: int((wave[0] != 0).sum()) for name, wave in windows.items()}
    assert (filled["tail"], filled["short tail"], filled["long tail"]) == (166, 10, 499)
    assert windows["tail of one sample"][0].tolist() == [0.0] * 499 + [1.0]


def test_a_difference_is_named_and_refused(path: Path) -> None:
    with pytest.raises(PromotionError, match="does not say") as caught:
        check_parity(path, pair(off=1e-3))
    assert "impulse 5.0e-04" in str(caught.value)
    report = check_parity(path, pair(off=1e-3), strict=False)
    assert not report.passed and report.largest == pytest.approx(5e-4, rel=1e-2)
    wrong = {name for name, value in report.by_case.items() if value > 1e-4}
    assert {"impulse", "tail of one sample", "batch of 1"} <= wrong and "noise" not in wrong
    assert check_parity(path, pair(off=1e-3), tolerance=1e-3).passed


def test_a_member_that_differs_is_told_from_the_others(path: Path) -> None:
    both = [member(0), member(1, off=1e-3)]
    report = check_parity(path, pair(), members=both, strict=False)
    assert not report.passed and max(report.by_case.values()) < 1e-5
    assert report.by_member["member_1"]["impulse"] == pytest.approx(1e-3, rel=1e-2)
    assert max(report.by_member["member_0"].values()) < 1e-5


def test_what_is_no_number_is_no_equality(path: Path) -> None:
    def predict(waves: Floats) -> Floats:
        return np.where(np.abs(waves).max(axis=1, keepdims=True) > 0, pair()(waves), np.nan)

    report = check_parity(path, predict, strict=False)
    assert report.by_case["silence"] == report.largest == math.inf and not report.passed
    assert report.by_case["noise"] < 1e-5


def test_a_model_whose_answer_depends_on_the_batch_is_noticed(tmp_path: Path) -> None:
    """As one does that normalises over the batch instead of the clip."""
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMax", ["wave", "axes"], ["peak"], keepdims=1),
            helper.make_node("Max", ["peak", "least"], ["loudest"]),
            helper.make_node("Div", ["wave", "loudest"], ["scaled"]),
            helper.make_node("Abs", ["scaled"], ["size"]),
            helper.make_node("ReduceMean", ["size", "axis"], ["mean"], keepdims=1),
            helper.make_node("MatMul", ["mean", "weight"], ["logits"]),
            helper.make_node("Sigmoid", ["logits"], ["probs"]),
        ],
        "batch",
        [helper.make_tensor_value_info("wave", TensorProto.FLOAT, ["batch", CARD.input_samples])],
        [helper.make_tensor_value_info("probs", TensorProto.FLOAT, ["batch", 2])],
        [
            numpy_helper.from_array(np.array([[1, -1]], np.float32), "weight"),
            numpy_helper.from_array(np.array([1], np.int64), "axis"),
            numpy_helper.from_array(np.array([0, 1], np.int64), "axes"),
            numpy_helper.from_array(np.array([1e-3], np.float32), "least"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    card = ModelCard(CARD.classes, CARD.sample_rate_hz, CARD.window_s)
    helper.set_model_props(model, card.to_metadata())
    onnx.save(model, tmp_path / "m.onnx")

    def alone(waves: Floats) -> Floats:
        loudest = np.maximum(waves.max(axis=1, keepdims=True), 1e-3)
        mean = np.abs(waves / loudest).mean(axis=1, keepdims=True)
        return np.asarray(sigmoid(mean @ [[1.0, -1.0]]), np.float32)

    loud = np.random.default_rng(0).uniform(-1, 1, (20, 500)).astype(np.float32)
    loud *= np.linspace(0.1, 1, 20, dtype=np.float32)[:, None]
    report = check_parity(tmp_path / "m.onnx", alone, loud, strict=False)
    assert report.by_case["real"] < 1e-5 < 1e-2 < report.batch_invariance
    assert report.by_case["batch of 16"] > 1e-2 and not report.passed
