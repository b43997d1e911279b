"""Variants: other engines and precisions of a promoted model, each behind a gate on the score."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from birdlab.errors import PredictError
from birdlab.infer.card import ModelCard
from birdlab.infer.session import OnnxPredictor, SoundPredictor, open_predictor
from birdlab.infer.variants import (
    KNOWN,
    VARIANTS_FILE,
    Variant,
    choose_variant,
    load_variants,
    variants_text,
)

RATE, SAMPLES, CLASSES = 8_000, 4_000, ("wren", "rook", "kite")
WAVES = np.random.default_rng(3).standard_normal((5, SAMPLES)).astype(np.float32) / 4


def _member(i: int) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """A member behind its If: the sigmoid of a linear map of the wave, or zeros."""
    weight = np.random.default_rng(i).standard_normal((SAMPLES, 3)).astype(np.float32) / 10
    value = helper.make_tensor_value_info
    then = helper.make_graph(
        [
            helper.make_node("MatMul", ["wave", f"w{i}"], [f"logits{i}"]),
            helper.make_node("Sigmoid", [f"logits{i}"], [f"sure{i}"]),
        ],
        f"then{i}",
        [],
        [value(f"sure{i}", TensorProto.FLOAT, None)],
    )
    otherwise = helper.make_graph(
        [helper.make_node("Expand", ["zero", "shape"], [f"none{i}"])],
        f"else{i}",
        [],
        [value(f"none{i}", TensorProto.FLOAT, None)],
    )
    nodes = [
        helper.make_node("Gather", ["wanted", f"place{i}"], [f"flag{i}"], axis=0),
        helper.make_node(
            "If", [f"flag{i}"], [f"member_{i}"], then_branch=then, else_branch=otherwise
        ),
    ]
    return nodes, [numpy_helper.from_array(weight, f"w{i}"), _scalar(f"place{i}", i)]


def _scalar(name: str, value: object) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(value), name)


def save_two_members(path: Path) -> Path:
    """A small real graph of the promoted shape: two members, each of which can be left out."""
    parts = [_member(i) for i in range(2)]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("Shape", ["wave"], ["batch"], start=0, end=1),
            helper.make_node("Concat", ["batch", "three"], ["shape"], axis=0),
            *(node for nodes, _ in parts for node in nodes),
            helper.make_node("Max", ["member_0", "member_1"], ["probs"]),
        ],
        "two",
        [
            value("wave", TensorProto.FLOAT, ["batch", SAMPLES]),
            value("wanted", TensorProto.BOOL, [2]),
        ],
        [
            value(name, TensorProto.FLOAT, ["batch", 3])
            for name in ("probs", "member_0", "member_1")
        ],
        [
            _scalar("wanted", [True, True]),
            _scalar("three", [3]),
            _scalar("zero", np.float32(0)),
            *(tensor for _, tensors in parts for tensor in tensors),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, ModelCard(CLASSES, RATE, SAMPLES / RATE).to_metadata())
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = save_two_members(tmp_path_factory.mktemp("model") / "model.onnx")
    (path.parent / VARIANTS_FILE).write_text(variants_text({"openvino": PASSED}))
    return path


PASSED = Variant("openvino", "model.onnx", "openvino", "fp32", "passed", "difference 0.00000")


@pytest.fixture(scope="module", params=["fp32", "openvino"])
def predictor(model: Path, request: pytest.FixtureRequest) -> SoundPredictor:
    return open_predictor(model, threads=1, variant=request.param)


def by_hand(i: int) -> np.ndarray:
    weight = np.random.default_rng(i).standard_normal((SAMPLES, 3)).astype(np.float32) / 10
    return 1 / (1 + np.exp(-WAVES.astype(np.float64) @ weight))


def test_every_engine_gives_the_blend_and_each_member(predictor: SoundPredictor) -> None:
    assert predictor.n_members == 2
    assert predictor.settings["precision"] == "fp32"
    assert predictor.settings["threads"] == "1"
    np.testing.assert_allclose(predictor(WAVES), np.maximum(by_hand(0), by_hand(1)), atol=1e-5)
    for wanted in ([0], [1], [0, 1], [0]):
        answers = predictor.member_probs(WAVES, wanted)
        assert len(answers) == len(wanted)
        for i, probs in zip(wanted, answers, strict=True):
            np.testing.assert_allclose(probs, by_hand(i), atol=1e-5)
    np.testing.assert_allclose(predictor.member_probs(WAVES[:1], [1])[0], by_hand(1)[:1], atol=1e-5)


def test_what_does_not_fit_is_refused_in_words(predictor: SoundPredictor) -> None:
    with pytest.raises(PredictError, match="no such members"):
        predictor.member_probs(WAVES, [2])
    with pytest.raises(PredictError, match="no such members"):
        predictor.member_probs(WAVES, [])
    with pytest.raises(PredictError, match="do not fit the model"):
        predictor(WAVES[:, :-1])


def test_openvino_errors_are_words(model: Path, tmp_path: Path) -> None:
    with pytest.raises(PredictError, match="needs a thread"):
        open_predictor(model, threads=0, variant="openvino")
    with pytest.raises(PredictError, match="not there"):
        open_predictor(tmp_path / "model.onnx", variant=PASSED)
    (tmp_path / "model.onnx").write_bytes(model.read_bytes()[:900])
    with pytest.raises(PredictError, match="OpenVINO cannot load"):
        open_predictor(tmp_path / "model.onnx", variant=PASSED)
    whole = Variant("x", "model.onnx", "openvino", "int8", "passed")
    with pytest.raises(PredictError, match="nothing of the model runs in int8"):
        open_predictor(model, variant=whole)


def test_without_openvino_the_fix_is_named(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(PredictError, match="pip install openvino"):
        open_predictor(model, variant="openvino")


def test_variants_survive_their_file(tmp_path: Path) -> None:
    assert list(load_variants(tmp_path)) == ["fp32"]
    (tmp_path / VARIANTS_FILE).write_text(variants_text(KNOWN))
    assert load_variants(tmp_path) == KNOWN


def test_a_variant_that_did_not_pass_is_refused_without_force(tmp_path: Path) -> None:
    failed = Variant("int8", "model.int8.onnx", "onnxruntime", "int8", "failed", "lost 0.0123")
    (tmp_path / VARIANTS_FILE).write_text(variants_text({"int8": failed, "bf": KNOWN["openvino"]}))
    with pytest.raises(PredictError, match=r"did not pass(.|\n)*lost 0\.0123(.|\n)*--force"):
        choose_variant(tmp_path, "int8")
    with pytest.raises(PredictError, match="was not judged"):
        choose_variant(tmp_path, "openvino")
    assert choose_variant(tmp_path, "int8", force=True) == failed
    with pytest.raises(PredictError, match=r"no variant(.|\n)*fp32, int8, openvino"):
        choose_variant(tmp_path, "int4")


@pytest.mark.parametrize(
    "change",
    [
        {"file": "../other.onnx"},
        {"file": "/etc/passwd"},
        {"engine": "pickle"},
        {"precision": "int2"},
        {"state": "fine"},
        {"name": 3},
        {"more": "fields"},
    ],
)
def test_a_list_of_variants_that_cannot_be_trusted(tmp_path: Path, change: dict) -> None:  # type: ignore[type-arg]
    said = json.loads(variants_text({"int8": KNOWN["int8"]}))
    said["variants"][0] |= change
    (tmp_path / VARIANTS_FILE).write_text(json.dumps(said))
    with pytest.raises(PredictError, match="cannot be read"):
        load_variants(tmp_path)


def test_a_file_of_one_member_has_itself_as_member(tmp_path: Path) -> None:
    graph = onnx.load(save_two_members(tmp_path / "two.onnx"))
    del graph.graph.output[1:]
    onnx.save(graph, tmp_path / "one.onnx")
    one = OnnxPredictor(tmp_path / "one.onnx", threads=1)
    assert one.n_members == 1
    assert np.array_equal(one.member_probs(WAVES, [0])[0], one(WAVES))
