"""Export: one ONNX file that says what the trained members say, or no file at all."""

from __future__ import annotations

import itertools
import json
import re
import resource
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from birdlab.data.audio import Waveform, decode
from birdlab.errors import PredictError, PromotionError
from birdlab.evaluate.blends import MEAN, Blend, blend_members
from birdlab.evaluate.windows import Windowing, cut_windows, iter_windows
from birdlab.infer.card import WHOLE, MemberCard, ModelCard, read_card
from birdlab.infer.models import hash_model
from birdlab.infer.session import OnnxPredictor, open_predictor
from birdlab.infer.variants import Variant
from birdlab.promote import tracing
from birdlab.promote.compose import compose
from birdlab.promote.detector import cut_context
from birdlab.promote.export import (
    ExportInfo,
    Member,
    average_members,
    build_card,
    build_reference,
    export_ensemble,
    load_member,
    renew_norms,
    save_model,
    write_card,
)
from birdlab.promote.parity import check_parity
from birdlab.promote.parts import Parts, export_parts, walk_graph
from birdlab.promote.registry import register_model
from birdlab.sed.model import SEDModel
from birdlab.spec.model import LogMelSpec, ModelSpec, SedAttention

REAL = Path(__file__).parents[2] / "shared" / "data" / "realbirds"
CLASSES = ("wren", "rook", "kite")
RATE = 32_000
SPEC = ModelSpec(
    backbone="test_resnet", frontend=LogMelSpec(n_mels=32, hop=640), head=SedAttention(hidden=16)
)
WEIGHTS = (1.0, 2.0, 0.5)
BLENDS = [MEAN, Blend("power", 2.0), Blend("power", 0.5), Blend("geometric"), Blend("rank")]


def make_member(folder: Path, n: int, classes: Sequence[str], **changes: Any) -> Member:
    """A member with random weights and running statistics that are not the initial ones."""
    spec = changes.pop("spec", SPEC)
    torch.manual_seed(n)
    model = SEDModel(spec, len(classes)).train()
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(4, RATE))
        model.head.value.weight.mul_(8)  # spread the probabilities over 0..1
    path = folder / f"{n}.safetensors"
    save_file(model.state_dict(), path)
    clip = 0.75 if n % 2 else 0.6
    return Member(spec, tuple(classes), path, 1.0, clip, 1 - clip, name=f"cell-{n}", **changes)


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> list[Member]:
    """Three backbones, three lists of classes; the last listens longer, by another front-end."""
    folder = tmp_path_factory.mktemp("members")
    lite = SPEC.model_copy(update={"backbone": "test_efficientnet"})
    last = SPEC.model_copy(
        update={"backbone": "test_byobnet", "frontend": LogMelSpec(n_mels=32, hop=800)}
    )
    return [
        make_member(folder, 1, CLASSES, run="abc", fold=0, seed=7),
        make_member(folder, 2, ("kite", "ibis", *CLASSES[:2]), spec=lite),
        make_member(folder, 3, ("rook", "wren"), spec=last, context_s=2.0, learned="full"),
    ]


@pytest.fixture(scope="module")
def parts(members: list[Member]) -> Parts:
    return export_parts(members, CLASSES)


@pytest.fixture(scope="module")
def exported(
    members: list[Member], parts: Parts, tmp_path_factory: pytest.TempPathFactory
) -> ExportInfo:
    """What `export_ensemble` does, but for tracing the parts once more."""
    path = tmp_path_factory.mktemp("exported") / "ensemble.onnx"
    card = build_card(members, CLASSES, metadata={"licence": "see credits"}, weights=WEIGHTS)
    return save_model(compose(parts, card), card, path)


def noise(n_clips: int, seed: int = 0) -> np.ndarray:
    waves = np.random.default_rng(seed).standard_normal((n_clips, 2 * RATE)).astype(np.float32)
    return waves / np.abs(waves).max(axis=1, keepdims=True)


def run_graph(session: onnxruntime.InferenceSession, waves: np.ndarray, **more: Any) -> Any:
    """`probs` and the list of what each member says."""
    probs, *each = session.run(None, {"wave": waves, **more})
    return probs, each


def open_session(model: onnx.ModelProto, **options: Any) -> onnxruntime.InferenceSession:
    chosen = onnxruntime.SessionOptions()
    chosen.intra_op_num_threads = 1
    for name, value in options.items():
        setattr(chosen, name, value)
    return onnxruntime.InferenceSession(
        model.SerializeToString(), chosen, providers=["CPUExecutionProvider"]
    )


class Scaled(nn.Module):
    """A layer whose graph depends on a number that is no parameter."""

    def __init__(self, factor: float, seed: int, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.linear, self.factor, self.function = nn.Linear(4, 3), factor, function
        nn.init.normal_(self.linear.weight, generator=torch.Generator().manual_seed(seed))

    def forward(self, wave: Tensor) -> Tensor:
        return self.function(self.factor * self.linear(wave))


@pytest.mark.parametrize("function", [torch.tanh, lambda x: x.clamp(0, 1)])
def test_networks_that_differ_in_weights_share_a_trace_and_no_others(
    function: Callable[[Tensor], Tensor],
) -> None:
    wave = torch.rand(2, 4)
    for factor, seed in [(2.0, 0), (2.0, 1), (3.0, 1), (2.0, 0)]:
        module = Scaled(factor, seed, function).eval()
        session = open_session(tracing.trace(module, wave, "wave", "out"))
        (got,) = session.run(None, {"wave": wave.numpy()})
        np.testing.assert_allclose(got, module(wave).detach().numpy(), atol=1e-6)


def test_a_graph_is_the_same_whether_its_architecture_was_traced_before(
    tmp_path: Path,
) -> None:
    """Two fold models: the second takes the graph of the first, with its own weights."""
    folds = [make_member(tmp_path, n, CLASSES) for n in (1, 3)]
    together = export_parts(folds, CLASSES).members
    tracing._traced.clear()
    for one, member in zip(together, folds, strict=True):
        (alone,) = export_parts([member], CLASSES).members
        assert alone.model.SerializeToString(deterministic=True) == one.model.SerializeToString(
            deterministic=True
        )
        tracing._traced.clear()
    assert together[0].model != together[1].model


# ---------------------------------------------------------------- what the graph says


def test_each_member_says_what_it_says_alone_of_a_recording(
    members: list[Member], exported: ExportInfo
) -> None:
    """From a recording by way of its own windows and its own torch model, whatever its context."""
    samples = np.random.default_rng(3).integers(-9_000, 9_000, round(2.5 * RATE)).astype(np.int16)
    samples[RATE : 2 * RATE] = 9_000 * np.sin(np.arange(RATE) * 0.09)
    wave = Waveform(samples, 0.7, RATE)
    windows = np.stack(list(iter_windows(wave, exported.card.windowing)))
    assert windows.shape == (3, 2 * RATE)
    got = OnnxPredictor(exported.path, threads=1).member_probs(windows, [0, 1, 2])
    for member, probs in zip(members, got, strict=True):
        heard = np.stack(list(iter_windows(wave, member.windowing)))
        model = SEDModel(member.spec, len(member.classes)).eval()
        model.load_state_dict(load_file(member.weights))
        with torch.no_grad():
            p, m = model.hear(torch.from_numpy(heard), member.windowing.centres)
        deployed = member.clip * p + member.time_max * m
        for column, code in enumerate(CLASSES):
            known = code in member.classes
            expected = deployed[:, member.classes.index(code)].numpy() if known else 0.0
            assert np.abs(probs[:, column] - expected).max() < 1e-4
        assert np.ptp(probs) > 0.05


@pytest.mark.parametrize("normalise", ["crop", "recording"])
def test_a_shorter_context_is_cut_out_of_the_longest(normalise: Any) -> None:
    samples = np.random.default_rng(0).integers(-3_000, 3_000, 5_000).astype(np.int16)
    samples[1_000:2_000] //= 100
    samples[3_000:4_000] = 0
    wave = Waveform(samples, 0.5, 800)
    longest, own = Windowing(1.0, 800, 2.5, normalise), Windowing(1.0, 800, 1.5, normalise)
    cut = cut_context(np.stack(list(iter_windows(wave, longest))), longest, own)
    np.testing.assert_allclose(cut, np.stack(list(iter_windows(wave, own))), rtol=3e-7)


@pytest.mark.parametrize("blend", BLENDS, ids=str)
def test_probs_are_the_wanted_members_blended(
    members: list[Member], parts: Parts, blend: Blend
) -> None:
    """For every choice of members; what is not wanted is 0, what is wanted stays as it was."""
    card = build_card(members, CLASSES, blend=blend, weights=WEIGHTS)
    session = open_session(compose(parts, card))
    waves = noise(4)
    whole, each = run_graph(session, waves)
    way = MEAN if blend.kind == "rank" else blend
    for n in (1, 2, 3):
        for wanted in itertools.combinations(range(3), n):
            flags = np.isin(np.arange(3), wanted)
            probs, said = run_graph(session, waves, wanted=flags)
            expected = blend_members(each, way, list(card.shares(wanted)))
            np.testing.assert_allclose(probs, expected, atol=1e-6)
            for i in range(3):
                assert np.array_equal(said[i], each[i] if i in wanted else 0 * each[i])
    assert np.array_equal(whole, probs), "all are wanted where nothing is said"
    assert np.ptp(whole) > 0.05
    lacking, _ = run_graph(session, waves, wanted=np.array([False, False, True]))
    assert not lacking[:, 2].any(), "a class that no wanted member knows"


def test_a_clip_alone_is_what_it_is_in_a_batch(exported: ExportInfo) -> None:
    predictor, waves = OnnxPredictor(exported.path, threads=1), noise(5, seed=1)
    waves[2] *= 1e-3
    alone = np.concatenate([predictor(wave[None]) for wave in waves])
    assert np.abs(predictor(waves) - alone).max() < 1e-5


def test_openvino_reads_the_same_file(exported: ExportInfo) -> None:
    pytest.importorskip("openvino")
    other = open_predictor(
        exported.path,
        threads=1,
        variant=Variant("openvino", exported.path.name, "openvino", "fp32"),
    )
    one, waves = OnnxPredictor(exported.path, threads=1), noise(2)
    assert np.abs(one(waves) - other(waves)).max() < 1e-4
    for a, b in zip(
        one.member_probs(waves, [2, 1]), other.member_probs(waves, [2, 1]), strict=True
    ):
        assert np.abs(a - b).max() < 1e-4


# ---------------------------------------------------------------- what the graph is made of


def test_equal_front_ends_are_computed_once(parts: Parts, exported: ExportInfo) -> None:
    assert parts.frontend_of == (0, 0, 1)
    everything = walk_graph(onnx.load(exported.path).graph)
    kinds = [node.op_type for node in everything if isinstance(node, onnx.NodeProto)]
    assert kinds.count("Log") == 2
    assert kinds.count("If") == 5, "either front-end may be left out too"
    assert not {"DFT", "STFT"} & set(kinds)


def test_of_members_that_are_not_wanted_nothing_is_computed(
    members: list[Member], parts: Parts, tmp_path: Path
) -> None:
    model = compose(parts, build_card(members, CLASSES))

    def executed(**more: Any) -> set[str]:
        session = open_session(
            model, enable_profiling=True, profile_file_prefix=str(tmp_path / "profile")
        )
        run_graph(session, noise(1), **more)
        events = json.loads(Path(session.end_profiling()).read_text())
        names = {event["name"].split("/")[0] for event in events if "/" in event["name"]}
        return names & {"mel_0", "mel_1", "member_0", "member_1", "member_2"}

    assert executed() == {"mel_0", "mel_1", "member_0", "member_1", "member_2"}
    assert executed(wanted=np.array([False, True, False])) == {"mel_0", "member_1"}
    assert executed(wanted=np.zeros(3, bool)) == {"mel_0", "mel_1"}


def test_the_file_tells_nothing_of_the_machine_it_was_made_on(exported: ExportInfo) -> None:
    content = exported.path.read_bytes()
    assert b"site-packages" not in content
    assert str(Path(__file__).parents[1]).encode() not in content


def test_card_and_info(members: list[Member], exported: ExportInfo) -> None:
    card = OnnxPredictor(exported.path).card
    assert card == exported.card
    assert (card.classes, card.sample_rate_hz, card.window_s) == (CLASSES, RATE, 1.0)
    assert (card.context_s, card.blend) == (2.0, MEAN)
    first, second, third = card.members
    assert first == MemberCard(
        "cell-1", "test_resnet", "member_0", 1 / 3.5, None, "abc", 0, 7, "fold", None, 0.75, 0.25
    )
    assert (second.classes, third.classes, third.weights) == (None, CLASSES[:2], "full")
    np.testing.assert_allclose(card.shares()[:, 2], [1 / 3, 2 / 3, 0])
    assert card.details["licence"] == "see credits"
    assert card.details["precision"] == "fp32"
    assert json.loads(card.details["outputs"]) == ["probs", "member_0", "member_1", "member_2"]
    assert exported.size_bytes == exported.path.stat().st_size
    assert exported.data_path is None
    assert (exported.n_members, exported.n_frontends) == (3, 2)


# ---------------------------------------------------------------- files


def test_weights_above_the_limit_lie_beside_the_file(
    parts: Parts, exported: ExportInfo, tmp_path: Path
) -> None:
    path = tmp_path / "one" / "model.onnx"
    big = save_model(compose(parts, exported.card), exported.card, path, file_limit=10_000)
    assert big.data_path == path.with_name("model.onnx.data")
    assert big.size_bytes == path.stat().st_size + big.data_path.stat().st_size
    assert path.stat().st_size < exported.size_bytes / 3
    assert {p.name for p in path.parent.iterdir()} == {"model.onnx", "model.onnx.data"}
    moved = path.parent.rename(tmp_path / "two")
    waves = noise(2)
    expected = OnnxPredictor(exported.path, threads=1)(waves)
    assert np.array_equal(OnnxPredictor(moved / "model.onnx", threads=1)(waves), expected)
    again = save_model(compose(parts, exported.card), exported.card, moved / "model.onnx")
    assert again.data_path is None
    assert [p.name for p in moved.iterdir()] == ["model.onnx"]


def test_a_full_disk_leaves_the_file_that_was_there(exported: ExportInfo, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"the old one")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(PromotionError, match=r"File too large(.|\n)*make room"):
            save_model(onnx.load(exported.path), exported.card, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"the old one"]


def test_weights_are_read_from_the_folder_of_the_file_alone(
    parts: Parts, exported: ExportInfo, tmp_path: Path
) -> None:
    path = tmp_path / "in" / "model.onnx"
    save_model(compose(parts, exported.card), exported.card, path, file_limit=10_000)
    shutil.move(path.with_name("model.onnx.data"), tmp_path / "model.onnx.data")
    content = path.read_bytes()
    assert b"model.onnx.data" in content
    with pytest.raises(PredictError, match="cannot load"):
        OnnxPredictor(path)
    model = onnx.load(path, load_external_data=False)
    tensors = [part for part in walk_graph(model.graph) if isinstance(part, onnx.TensorProto)]
    places = [e for tensor in tensors for e in tensor.external_data if e.key == "location"]
    for place in places:
        place.value = "../model.onnx.data"
    assert len(places) > 10
    onnx.save(model, path)
    with pytest.raises(PredictError, match="outside of its folder"):
        OnnxPredictor(path)


def test_another_card_leaves_the_graph_as_it_is(exported: ExportInfo, tmp_path: Path) -> None:
    shutil.copy(exported.path, tmp_path / "model.onnx")
    timed = replace(exported.card.members[1], ms_per_window=12.5)
    card = replace(exported.card, members=(exported.card.members[0], timed, WHOLE))
    info = write_card(replace(exported, path=tmp_path / "model.onnx"), card)
    before, after = onnx.load(exported.path), onnx.load(info.path)
    assert before.graph == after.graph
    assert read_card({p.key: p.value for p in after.metadata_props}, "x") == card == info.card
    assert info.sha256 != exported.sha256
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(PromotionError, match="cannot be written"):
            write_card(info, card)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert hash_model(info.path) == info.sha256
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]


def test_weights_of_members_are_averaged(members: list[Member], tmp_path: Path) -> None:
    first = load_file(members[0].weights)
    other = tmp_path / "other.safetensors"
    save_file({k: v + 2 if v.is_floating_point() else v for k, v in first.items()}, other)
    mean = load_file(average_members([members[0].weights, other], tmp_path / "new" / "mean"))
    for name, tensor in first.items():
        expected = tensor + 1 if tensor.is_floating_point() else tensor
        torch.testing.assert_close(mean[name], expected)
    for files in ([], [members[0].weights, members[1].weights], [tmp_path / "absent"]):
        with pytest.raises(PromotionError, match="cannot be averaged"):
            average_members(files, tmp_path / "no")
    assert not (tmp_path / "no").exists()


def test_batch_norms_of_a_mean_are_those_of_what_it_hears(
    members: list[Member], tmp_path: Path
) -> None:
    path = average_members([members[0].weights] * 2, tmp_path / "mean.safetensors")
    before, waves = load_file(path), noise(9)[:, :RATE]
    renew_norms(replace(members[0], weights=path), waves, batch=4)
    after = load_file(path)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all("running" in name or "batches" in name for name in changed)
    model = load_member(members[0])
    heard: list[torch.Tensor] = []
    first = next(m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d))
    first.register_forward_pre_hook(lambda _, given: heard.append(given[0]))
    with torch.no_grad():
        model(torch.from_numpy(waves[:8]))
    name = next(name for name, module in model.named_modules() if module is first)
    torch.testing.assert_close(after[f"{name}.running_mean"], heard[0].mean(dim=(0, 2, 3)))


# ---------------------------------------------------------------- cards


def test_a_card_with_members_survives_its_metadata() -> None:
    member = MemberCard("é", "resnet", "member_0", 0.25, ("b",), "id", 3, 1, "full", 4.5)
    other = MemberCard("o", "convnext", "member_1", 0.75)
    card = ModelCard(("a", "b"), RATE, 5.0, {"x": "y"}, 10.0, "recording", (member, other),
                     Blend("power", 3.0))  # fmt: skip
    metadata = card.to_metadata()
    assert metadata["birdlab_format"] == "3"
    assert read_card(metadata, "x") == card
    more = json.loads(metadata["members"])
    more[0]["colour"] = "red"
    assert read_card({**metadata, "members": json.dumps(more)}, "x") == card
    np.testing.assert_allclose(card.shares(), [[0, 0.25], [1, 0.75]])
    np.testing.assert_allclose(card.shares([0]), [[0, 1], [0, 0]])


@pytest.mark.parametrize(
    "change",
    [
        {"members": "[]"},
        {"members": "nonsense"},
        {"members": '[{"name": "a"}]'},
        {"members": "[1]"},
        {"blend": '{"kind": "median"}'},
        {"blend": '{"kind": "power", "power": -1}'},
        {"blend": "[]"},
        {"name": 7},
        {"weight": -1},
        {"weight": "much"},
        {"weights": "stolen"},
        {"classes": ["z"]},
        {"output": "member_1"},
        {"ms_per_window": "fast"},
        {"ms_per_window": -1},
        {"weight": 10**400},
        {"ms_per_window": 10**400},
    ],
)
def test_cards_whose_members_make_no_sense_are_refused(change: dict[str, Any]) -> None:
    two = tuple(MemberCard(f"m{i}", "resnet", f"member_{i}", 1.0) for i in range(2))
    metadata = ModelCard(("a", "b"), RATE, 5.0, members=two).to_metadata()
    if not change.keys() & {"members", "blend"}:
        described = json.loads(metadata["members"])
        described[0] |= change
        change = {"members": json.dumps(described)}
    with pytest.raises(PredictError, match="columns and windows"):
        read_card({**metadata, **change}, "x.onnx")


# ---------------------------------------------------------------- parity


def test_parity_holds_on_odd_inputs(members: list[Member], exported: ExportInfo) -> None:
    report = check_parity(exported.path, build_reference(members, CLASSES, weights=WEIGHTS))
    assert report.largest < 1e-4
    assert {"silence", "square", "noise"} <= set(report.by_case)


@pytest.mark.realbirds
def test_parity_holds_on_real_clips(members: list[Member], exported: ExportInfo) -> None:
    files = sorted(REAL.glob("soundscapes/*.ogg"))[:3]
    if not files:
        pytest.skip("the real recordings are not beside the checkout")
    waves = np.concatenate([cut_windows(decode(f).to_float(), 2 * RATE)[:4] for f in files])
    reference = build_reference(members, CLASSES, weights=WEIGHTS)
    report = check_parity(exported.path, reference, waves)
    assert report.by_case["real"] < 1e-4


def test_parity_notices_another_blend(members: list[Member], exported: ExportInfo) -> None:
    other = [replace(members[0], clip=0.9, time_max=0.1), *members[1:]]
    with pytest.raises(PromotionError, match="does not say"):
        check_parity(exported.path, build_reference(other, CLASSES, weights=WEIGHTS))


def test_parity_notices_what_is_no_number(members: list[Member], exported: ExportInfo) -> None:
    reference = build_reference(members, CLASSES, weights=WEIGHTS)
    with pytest.raises(PromotionError, match="does not say"):
        check_parity(exported.path, lambda waves: reference(waves) * np.float32(np.nan))


def test_missing_classes_are_listed(members: list[Member], tmp_path: Path) -> None:
    with pytest.raises(PromotionError, match="cell-1") as caught:
        export_ensemble(members, tmp_path / "x.onnx", classes=[*CLASSES, "ibis", "coot"])
    assert "1 missing: coot" in str(caught.value)
    with pytest.raises(PromotionError, match="knows none") as caught:
        export_ensemble(members, tmp_path / "x.onnx", classes=["kite", "ibis"])
    assert "cell-3" in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"window_s": 2.0}, "different windows"),
        ({"spec": SPEC.model_copy(update={"head": SedAttention(hidden=8)})}, "weights of a member"),
        ({"classes": ("kite", *CLASSES[:2], "ibis", "coot")}, "weights of a member"),
        ({"weights": Path("absent.safetensors")}, "weights of a member"),
    ],
)
def test_members_that_do_not_fit_are_refused(
    members: list[Member], tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    changed = [members[0], replace(members[1], **change)]
    with pytest.raises(PromotionError, match=message):
        export_ensemble(changed, tmp_path / "x.onnx", classes=CLASSES)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0, 1.0], [0.0, 0.0, 0.0], [1.0, 1.0, np.nan]])
def test_weights_that_do_not_fit_are_refused(members: list[Member], weights: list[float]) -> None:
    with pytest.raises(PromotionError, match="the weights do not fit"):
        build_card(members, CLASSES, weights=weights)


@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")  # MLflow's own query
def test_registered_model_gives_the_same_numbers(exported: ExportInfo, tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    before = mlflow.get_tracking_uri()
    client = mlflow.MlflowClient(uri)
    experiment = client.create_experiment("demo", (tmp_path / "artifacts").as_uri())
    run = client.create_run(experiment, run_name="promotion")
    registered = [
        register_model(
            exported.path,
            exported.card,
            tracking_uri=uri,
            name="demo",
            alias="champion",
            run_id=run.info.run_id,
            tags={"spec_id": "abc"},
        )
        for _ in range(2)
    ]
    assert [r.version for r in registered] == ["1", "1"]
    version = client.get_model_version_by_alias("demo", "champion")
    assert str(version.version) == "1"
    assert version.tags["spec_id"] == "abc"
    assert version.run_id == run.info.run_id
    assert mlflow.get_tracking_uri() == before
    local = Path(mlflow.artifacts.download_artifacts(version.source, tracking_uri=uri))
    stored = next(local.rglob("*.onnx"))
    wave = noise(2)
    assert np.array_equal(OnnxPredictor(stored)(wave), OnnxPredictor(exported.path)(wave))
    text = (local / "MLmodel").read_text()
    assert re.search(r"signature:", text)
