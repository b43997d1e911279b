"""Variants: other engines and precisions of a promoted model, each behind a gate on the score."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from birdlab.errors import PredictError, PromotionError
from birdlab.infer.card import MemberCard, ModelCard
from birdlab.infer.session import OnnxPredictor, SoundPredictor, open_predictor
from birdlab.infer.variants import (
    KNOWN,
    VARIANTS_FILE,
    Variant,
    choose_variant,
    load_variants,
    variants_text,
)
from birdlab.lab import Lab, open_lab
from birdlab.plan import Plan, plan_experiment
from birdlab.promote import blocks, quantize, variants
from birdlab.promote.compose import compose
from birdlab.promote.export import build_card, export_ensemble, save_model
from birdlab.promote.members import collect_members, real_windows
from birdlab.promote.parts import export_parts
from birdlab.promote.variant_report import RunScore, VariantReport
from birdlab.promote.variants import (
    build_variant,
    judge_variant,
    list_variants,
    training_windows,
)
from birdlab.spec import load_spec

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
    members = tuple(MemberCard(f"cell-{i}", "line", f"member_{i}", 1.0) for i in range(2))
    card = ModelCard(CLASSES, RATE, SAMPLES / RATE, members=members)
    helper.set_model_props(model, card.to_metadata())
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
    assert predictor.member_probs(WAVES, []) == []
    with pytest.raises(PredictError, match="do not fit the model"):
        predictor(WAVES[:, :-1])


def test_openvino_errors_are_words(model: Path, tmp_path: Path) -> None:
    with pytest.raises(PredictError, match="needs a thread"):
        open_predictor(model, threads=0, variant="openvino")
    with pytest.raises(PredictError, match="not there"):
        open_predictor(tmp_path / "model.onnx", variant=PASSED)
    (tmp_path / "model.onnx").write_bytes(model.read_bytes()[:900])
    with pytest.raises(PredictError, match="cannot load the model"):
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


def test_a_file_that_does_not_tell_members_apart_has_itself_as_member(tmp_path: Path) -> None:
    graph = onnx.load(save_two_members(tmp_path / "two.onnx"))
    del graph.graph.output[1:], graph.metadata_props[:]
    helper.set_model_props(graph, ModelCard(CLASSES, RATE, SAMPLES / RATE).to_metadata())
    onnx.save(graph, tmp_path / "one.onnx")
    for engine in ("onnxruntime", "openvino"):
        variant = Variant("x", "one.onnx", engine, "fp32", "passed")  # type: ignore[arg-type]
        one = open_predictor(tmp_path / "one.onnx", threads=1, variant=variant)
        assert one.n_members == 1
        assert np.array_equal(one.member_probs(WAVES, [0])[0], one(WAVES))


@dataclass
class Built:
    """A lab with a run whose fold models are one ONNX file, with its variants judged beside it."""

    lab: Lab
    plans: dict[str, Plan]
    path: Path
    windows: np.ndarray
    reports: dict[str, VariantReport]


@pytest.fixture(scope="module")
def built(trained_lab: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    lab = open_lab(trained_lab)
    spec = load_spec(trained_lab / "tiny.yaml", {"name": "tiny", "cells.folds": [0]})
    plans = {"tiny": plan_experiment(spec, lab)}
    members = collect_members(lab, plans["tiny"])
    path = tmp_path_factory.mktemp("folds") / "model.onnx"
    export_ensemble(members, path, classes=plans["tiny"].data.classes.codes)
    windows = real_windows(lab, plans["tiny"])
    reports = {}
    for name in ("int8", "openvino"):
        variant = build_variant(name, path, lab, plans.values())
        found = judge_variant(lab, plans, path, variant, windows=windows, threshold=1)
        list_variants(path.parent, [found.judged])
        reports[name] = found
    build_variant("openvino-int8", path, lab, plans.values())
    return Built(lab, plans, path, windows, reports)


@pytest.mark.parametrize("name", ["int8", "openvino", "openvino-int8"])
def test_a_variant_says_nearly_what_fp32_says(built: Built, name: str) -> None:
    fp32 = open_predictor(built.path, threads=1)
    variant = open_predictor(built.path, threads=1, variant=KNOWN[name])
    assert variant.settings["precision"] == KNOWN[name].precision
    assert variant.card.classes == fp32.card.classes
    expected, found = fp32(built.windows), variant(built.windows)
    apart = float(np.abs(found - expected).max())
    assert (1e-6 < apart < 0.03) if "int8" in name else apart < 1e-4
    alone = np.concatenate([variant(wave[None]) for wave in built.windows])
    assert np.abs(alone - found).max() < 1e-4, "a clip alone and in a batch"
    np.testing.assert_array_equal(variant.member_probs(built.windows, [0])[0].shape, found.shape)


def test_int8_leaves_head_front_end_and_first_layer_alone(built: Built) -> None:
    model = onnx.load(built.path.with_name("model.int8.onnx"))
    (branch,) = [a.g for n in model.graph.node for a in n.attribute if a.name == "then_branch"]
    made = {output: node for node in branch.node for output in node.output}
    layers = [n for n in branch.node if n.op_type in ("Conv", "MatMul", "Gemm")]
    quantised = [n for n in layers if made.get(n.input[1], n).op_type == "DequantizeLinear"]
    assert len(quantised) > 10
    assert all("model.backbone" in n.name for n in quantised)
    assert layers[0] not in quantised
    assert any("model.head" in n.name for n in layers)
    assert not any("Quantize" in n.op_type for n in model.graph.node)  # the front-end
    assert built.path.with_name("model.int8.onnx").stat().st_size < built.path.stat().st_size


def test_variants_are_judged_by_the_scores_of_the_fold_models(built: Built) -> None:
    for name, report in built.reports.items():
        (score,) = report.scores
        cell = built.plans["tiny"].final_cells[0]
        assert cell.validation is not None
        assert score.n_windows >= len(cell.validation)
        assert (score.run, score.n_folds) == ("tiny", 1)
        assert 0 < score.score_fp32 < 1
        assert report.ms_per_window > 0
        assert score.largest < (0.03 if "int8" in name else 1e-4)
        assert load_variants(built.path.parent)[name] == report.judged
        assert f"{report.difference:+.5f}" in report.judged.evidence


def test_a_score_that_moved_too_far_makes_a_variant_that_is_refused(
    built: Built, tmp_path: Path
) -> None:
    report = replace(
        built.reports["int8"],
        scores=(RunScore("a", 0.8, 0.8009, 0.1, 9, 1), RunScore("b", 0.8, 0.7985, 0.1, 9, 1)),
        threshold=0.001,
    )
    assert report.difference == pytest.approx(-0.0015)
    assert not report.passed
    assert replace(report, threshold=0.002).passed
    list_variants(tmp_path, [built.reports["openvino"].judged, report.judged])
    assert choose_variant(tmp_path, "openvino").state == "passed"
    with pytest.raises(PredictError, match=r"score of b is 0\.79850 against 0\.80000"):
        choose_variant(tmp_path, "int8")


def test_a_member_that_int8_moves_too_far_stays_in_fp32(
    built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(built.path.read_bytes())
    monkeypatch.setattr(variants, "MOST_MOVED", 0.0)
    with pytest.raises(PromotionError, match="no member keeps its probabilities"):
        build_variant("int8", path, built.lab, built.plans.values())
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.slow
def test_the_models_of_a_run_go_into_int8_together(
    built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was judged in fp32 is not deployed in INT8, nor is half of it."""
    tiny = built.plans["tiny"]
    other = replace(tiny, spec_id="other")
    (member,) = collect_members(built.lab, tiny)
    elsewhere = replace(member, name="second", fold=None)  # calibrated on other clips
    members = [member, elsewhere, replace(member, name="third", run="other")]
    path, card = tmp_path / "model.onnx", build_card(members, tiny.data.classes.codes)
    one = export_parts([member], card.classes)
    parts = replace(one, members=one.members * 3, frontend_of=(0, 0, 0))
    save_model(compose(parts, card), card, path)
    monkeypatch.setattr(variants, "N_CALIBRATION", 8)

    def build(**fp32_blocks: list[str]) -> tuple[dict[str, str], list[float]]:
        path.with_name("model.int8.onnx").unlink(missing_ok=True)
        build_variant("int8", path, built.lab, [tiny, other], fp32_blocks=fp32_blocks)
        pair = [open_predictor(path, threads=1, variant=KNOWN[v]) for v in ("fp32", "int8")]
        fp32, int8 = (p.member_probs(built.windows, range(3)) for p in pair)
        assert isinstance(pair[1], OnnxPredictor)
        apart = [float(np.abs(a - b).max()) for a, b in zip(fp32, int8, strict=True)]
        return pair[1].card.details, apart

    details, apart = build(other=[blocks.WHOLE])
    assert apart[2] < 1e-6 < min(apart[:2])
    assert json.loads(details["int8_left_in_fp32"]) == {"other": [blocks.WHOLE]}
    moved = json.loads(details["int8_moved"])
    monkeypatch.setattr(variants, "MOST_MOVED", 0.7 * min(moved[member.name], moved["second"]))
    details, _ = build()
    left = json.loads(details["int8_left_in_fp32"])
    assert left[tiny.spec_id]
    model = onnx.load(path.with_name("model.int8.onnx"))
    for i, run in enumerate((tiny.spec_id, tiny.spec_id, "other")):
        output, names = f"member_{i}", left.get(run, [])
        network = quantize.MemberNetwork(model, output).take_out((1, 32, 26))
        made = {value for node in network.graph.node for value in node.output}
        layers = [n.name for n in network.graph.node if n.op_type in ("Conv", "MatMul", "Gemm")]
        plain = [n for n in network.graph.node if n.name in layers and n.input[1] not in made]
        chosen = quantize.choose_nodes(
            quantize.MemberNetwork(onnx.load(path), output).take_out((1, 32, 26)).graph
        )
        in_fp32 = {node.name for node in plain}
        for block in blocks.group_layers(chosen):
            assert (block.name in names) == (in_fp32 >= set(block.nodes)), block.name


@pytest.fixture(scope="module")
def in_int8(built: Built) -> tuple[onnx.ModelProto, onnx.ModelProto, list[blocks.Block]]:
    """The network of the member in fp32, wholly in INT8, and the blocks of its layers."""
    networks = []
    for name in ("model.onnx", "model.int8.onnx"):
        network = quantize.MemberNetwork(onnx.load(built.path.with_name(name)), "member_0")
        networks.append(network.take_out((1, 32, 26)))
    return networks[0], networks[1], blocks.group_layers(quantize.choose_nodes(networks[0].graph))


def test_layers_are_grouped_by_the_module_of_their_last_number() -> None:
    names = ["stem.conv", "stem.norm", "stages_0.0.conv1", "stages_0.0.conv2", "stages_0.1.a.b"]
    traced = [f"member_0/model.backbone.{name}/node_{i}" for i, name in enumerate(names)]
    grouped = blocks.group_layers([*traced, "model.backbone.final/node_9"])
    assert [block.name for block in grouped] == ["stem.conv", "stages_0.0", "stages_0.1", "final"]
    assert grouped[1].nodes == tuple(traced[2:4])


def test_layers_taken_back_are_those_of_fp32(
    in_int8: tuple[onnx.ModelProto, onnx.ModelProto, list[blocks.Block]],
) -> None:
    plain, quantised, grouped = in_int8
    everything = [name for block in grouped for name in block.nodes]
    none_left = blocks.take_back(quantised, plain, everything)
    assert not any("Quantize" in node.op_type for node in none_left.graph.node)
    image = np.random.default_rng(0).random((2, 1, 32, 26)).astype(np.float32)
    (expected,), (found,) = (list(quantize._run(m, [image])) for m in (plain, none_left))
    np.testing.assert_array_equal(found, expected)
    one = blocks.take_back(quantised, plain, grouped[0].nodes)
    made = {output: node for node in one.graph.node for output in node.output}
    for node in one.graph.node:
        if node.name in everything:
            in_int8_now = node.input[1] in made
            assert in_int8_now == (node.name not in grouped[0].nodes)
    onnx.checker.check_model(one)


def test_the_worst_blocks_go_back_to_fp32_first(
    in_int8: tuple[onnx.ModelProto, onnx.ModelProto, list[blocks.Block]],
) -> None:
    plain, quantised, grouped = in_int8
    costs = {block.name: float(i) for i, block in enumerate(grouped)}

    def measure(model: onnx.ModelProto) -> float:
        """The sum of the costs of the blocks that are in INT8."""
        made = {output for node in model.graph.node for output in node.output}
        rounded = {node.name for node in model.graph.node if {*node.input[1:2]} & made}
        return sum(costs[block.name] for block in grouped if rounded & {*block.nodes})

    whole = sum(costs.values())
    assert blocks.leave_blocks(plain, quantised, grouped, measure=measure, most=whole).left == ()
    mixed = blocks.leave_blocks(plain, quantised, grouped, measure=measure, most=whole - 1)
    assert mixed.left == (grouped[-1].name,)
    assert mixed.moved == whole - costs[grouped[-1].name] == measure(mixed.network)
    two = blocks.leave_blocks(
        plain, quantised, grouped, measure=measure, most=whole - costs[grouped[-1].name] - 1
    )
    assert two.left == tuple(block.name for block in grouped[-2:])
    first = grouped[0].name
    kept = blocks.leave_blocks(
        plain, quantised, grouped, measure=measure, most=whole - 1, kept=[first]
    )
    assert kept.left == (first, grouped[-1].name)
    with pytest.raises(PromotionError, match="no such blocks"):
        blocks.leave_blocks(plain, quantised, grouped, measure=measure, most=1.0, kept=["x"])
    nothing = blocks.leave_blocks(plain, quantised, grouped, measure=measure, most=-1.0)
    assert nothing.network is plain
    assert nothing.left == (blocks.WHOLE,)
    assert nothing.moved == whole


def test_a_file_names_the_blocks_that_it_leaves_in_fp32(
    built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(built.path.read_bytes())
    whole = open_predictor(built.path, threads=1, variant=KNOWN["int8"]).card
    (moved,) = json.loads(whole.details["int8_moved"]).values()
    monkeypatch.setattr(variants, "MOST_MOVED", 0.7 * moved)
    build_variant("int8", path, built.lab, built.plans.values())
    card = open_predictor(path, threads=1, variant=KNOWN["int8"]).card
    (less,) = json.loads(card.details["int8_moved"]).values()
    (left,) = json.loads(card.details["int8_left_in_fp32"]).values()
    assert 0 < less <= 0.7 * moved
    assert left
    assert left != [blocks.WHOLE]
    assert variants._left_in_fp32(card) == (f"{card.members[0].backbone} ({', '.join(left)})",)
    assert variants._left_in_fp32(whole) == ()


def test_what_cannot_be_built_is_refused_in_words(built: Built) -> None:
    with pytest.raises(PromotionError, match=r"unknown variant(.|\n)*openvino-int8"):
        build_variant("int4", built.path, built.lab, built.plans.values())
    made = built.path.with_name("model.int8.onnx").read_bytes()
    built.path.with_name("model.int8.onnx").write_bytes(built.path.read_bytes())
    with pytest.raises(PromotionError, match="trained on"):
        build_variant("int8", built.path, built.lab, [])
    built.path.with_name("model.int8.onnx").write_bytes(made)
    with pytest.raises(PromotionError, match="no branch"):
        quantize.MemberNetwork(onnx.load(built.path), "member_7")


def test_fold_models_are_calibrated_on_what_they_were_trained_on(built: Built) -> None:
    plan = built.plans["tiny"]
    card = open_predictor(built.path, threads=1).card
    member = card.members[0]
    trained = training_windows(built.lab, plan, member, card.windowing, 1000)
    everything = training_windows(
        built.lab, plan, replace(member, fold=None), replace(card.windowing, context_s=9.0), 1000
    )
    assert everything.shape[1] == 9 * card.sample_rate_hz
    held_out = plan.final_cells[0].validation
    assert held_out is not None
    assert len(trained) == len(everything) - len(held_out) > 0
