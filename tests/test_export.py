"""Export: one ONNX file that says what the trained members say, or no file at all."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import load_file, save_file

from birdlab.data.audio import decode
from birdlab.errors import PromotionError
from birdlab.evaluate.windows import cut_windows
from birdlab.infer.session import OnnxPredictor
from birdlab.promote.export import ExportInfo, Member, build_reference, export_ensemble
from birdlab.promote.parity import check_parity, odd_windows
from birdlab.promote.registry import register_model
from birdlab.sed.model import SEDModel
from birdlab.spec.model import LogMelSpec, ModelSpec, SedAttention

REAL = Path(__file__).parents[2] / "shared" / "data" / "realbirds"
CLASSES = ("wren", "rook", "kite")
SPEC = ModelSpec(
    backbone="test_resnet", frontend=LogMelSpec(n_mels=32, hop=640), head=SedAttention(hidden=16)
)


def make_member(folder: Path, seed: int, classes: Sequence[str]) -> Member:
    """A member with random weights and running statistics that are not the initial ones."""
    torch.manual_seed(seed)
    model = SEDModel(SPEC, len(classes)).train()
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(4, 32_000))
        model.head.value.weight.mul_(8)  # spread the probabilities over 0..1
    path = folder / f"{seed}.safetensors"
    save_file(model.state_dict(), path)
    clip = 0.75 if seed % 2 else 0.6
    return Member(SPEC, tuple(classes), path, 1.0, clip, 1 - clip, name=f"cell-{seed}")


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> list[Member]:
    folder = tmp_path_factory.mktemp("members")
    return [make_member(folder, 1, CLASSES), make_member(folder, 2, ("kite", "ibis", *CLASSES[:2]))]


@pytest.fixture(scope="module")
def exported(members: list[Member], tmp_path_factory: pytest.TempPathFactory) -> ExportInfo:
    path = tmp_path_factory.mktemp("exported") / "ensemble.onnx"
    return export_ensemble(members, path, classes=CLASSES, metadata={"licence": "see credits"})


def test_file_equals_the_members_blended_by_hand(
    members: list[Member], exported: ExportInfo
) -> None:
    waves = np.concatenate(list(odd_windows(32_000, 32_000).values()))
    expected = np.zeros((len(waves), 3), np.float32)
    for member in members:
        model = SEDModel(member.spec, len(member.classes)).eval()
        model.load_state_dict(load_file(member.weights))
        with torch.no_grad():
            output = model(torch.from_numpy(waves))
        probs = member.clip * output.probs + member.time_max * output.time_max
        for column, code in enumerate(CLASSES):
            expected[:, column] += probs[:, member.classes.index(code)].numpy() / 2
    got = OnnxPredictor(exported.path, threads=1)(waves)
    assert np.ptp(expected) > 0.1
    assert np.abs(got - expected).max() < 1e-4


def test_card_and_info(exported: ExportInfo) -> None:
    card = OnnxPredictor(exported.path).card
    assert card == exported.card
    assert (card.classes, card.sample_rate_hz, card.window_s) == (CLASSES, 32_000, 1.0)
    assert card.details["licence"] == "see credits"
    assert [(m.name, m.clip, m.weight, m.output) for m in card.members] == [
        ("cell-1", 0.75, 0.5, "member_0"),
        ("cell-2", 0.6, 0.5, "member_1"),
    ]
    assert json.loads(card.details["outputs"]) == ["probs", "member_0", "member_1"]
    assert (exported.n_members, exported.n_frontends) == (2, 1)
    assert exported.size_bytes == exported.path.stat().st_size


def test_members_share_one_front_end(exported: ExportInfo) -> None:
    graph = onnx.load(exported.path).graph
    logs = [node for node in graph.node if node.op_type == "Log"]
    assert len(logs) == 1
    assert not any("DFT" in n.op_type or "STFT" in n.op_type for n in graph.node)


def test_parity_holds_on_odd_inputs(members: list[Member], exported: ExportInfo) -> None:
    report = check_parity(exported.path, build_reference(members, CLASSES))
    assert report.largest < 1e-4
    assert {"silence", "square", "clipped", "constant", "impulse", "noise", "tail"} <= set(
        report.by_case
    )


@pytest.mark.realbirds
def test_parity_holds_on_real_clips(members: list[Member], exported: ExportInfo) -> None:
    files = sorted(REAL.glob("soundscapes/*.ogg"))[:3]
    if not files:
        pytest.skip("the real recordings are not beside the checkout")
    waves = np.concatenate([cut_windows(decode(f).to_float(), 32_000)[:4] for f in files])
    report = check_parity(exported.path, build_reference(members, CLASSES), waves)
    assert report.by_case["real"] < 1e-4


def test_parity_notices_another_blend(members: list[Member], exported: ExportInfo) -> None:
    other = [replace(members[0], clip=0.9, time_max=0.1), members[1]]
    with pytest.raises(PromotionError, match="does not say"):
        check_parity(exported.path, build_reference(other, CLASSES))


def test_parity_notices_what_is_no_number(members: list[Member], exported: ExportInfo) -> None:
    reference = build_reference(members, CLASSES)
    with pytest.raises(PromotionError, match="does not say"):
        check_parity(exported.path, lambda waves: reference(waves) * np.float32(np.nan))


def test_missing_classes_are_listed(members: list[Member], tmp_path: Path) -> None:
    with pytest.raises(PromotionError, match="cell-1") as caught:
        export_ensemble(members, tmp_path / "x.onnx", classes=[*CLASSES, "ibis", "coot"])
    assert "1 missing: coot" in str(caught.value)
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
    members: list[Member], tmp_path: Path, change: dict[str, object], message: str
) -> None:
    changed = [members[0], dataclasses.replace(members[1], **change)]  # type: ignore[arg-type]
    with pytest.raises(PromotionError, match=message):
        export_ensemble(changed, tmp_path / "x.onnx", classes=CLASSES)
    assert not list(tmp_path.iterdir())


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
    wave = np.random.default_rng(0).standard_normal((2, 32_000)).astype(np.float32)
    assert np.array_equal(OnnxPredictor(stored)(wave), OnnxPredictor(exported.path)(wave))
    text = (local / "MLmodel").read_text()
    assert re.search(r"signature:", text)
