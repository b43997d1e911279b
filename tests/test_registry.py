"""Promoted models in the registry: versions, aliases that move together, and the way back."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import onnx
import pandas as pd
import pytest
import soundfile
from onnx import TensorProto, helper, numpy_helper
from test_upkeep import cli as cli

from birdlab.cli.model_words import list_words
from birdlab.errors import BirdlabError, PredictError, PromotionError, TrackingError
from birdlab.infer.card import MemberCard, ModelCard
from birdlab.infer.models import ALIASES_FILE, find_model, find_promoted, load_aliases
from birdlab.lab import Lab
from birdlab.labfile import LabFile
from birdlab.promote.aliases import MOVING_FILE, move_alias, settle_aliases
from birdlab.promote.catalogue import list_lines
from birdlab.promote.history import HISTORY_FILE, load_history
from birdlab.promote.likeness import correlate_predictions
from birdlab.promote.registry import alias_version, register_model
from birdlab.promote.rollback import roll_back
from birdlab.tracking.client import connect

MEMBERS = tuple(MemberCard(f"cell{i}", "b0", f"member_{i}", 0.5) for i in (0, 1))
CARD = ModelCard(("wren", "rook"), 1_000, 0.5, members=MEMBERS)
NAMES = ("aaaa1111", "aabb2222", "cccc3333")
PEEP, NOLOAD = "ignore:The ``noload`` loader strategy", "ignore:.*Any type hint"
pytestmark = [pytest.mark.filterwarnings(PEEP), pytest.mark.filterwarnings(NOLOAD)]


def save_pair(path: Path, slope: float) -> Path:
    """A real ONNX model of two members: sigmoids of the energy; `wanted` may be left out."""
    nodes = [
        helper.make_node("Mul", ["wave", "wave"], ["square"]),
        helper.make_node("ReduceMean", ["square", "axis"], ["energy"], keepdims=1),
        helper.make_node("Cast", ["wanted"], ["asked"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["asked"], ["n"], keepdims=0),
    ]
    for i in (0, 1):
        nodes += [
            helper.make_node("MatMul", ["energy", f"weight{i}"], [f"logits{i}"]),
            helper.make_node("Sigmoid", [f"logits{i}"], [f"all{i}"]),
            helper.make_node("Gather", ["asked", f"number{i}"], [f"asked{i}"]),
            helper.make_node("Mul", [f"all{i}", f"asked{i}"], [f"member_{i}"]),
        ]
    nodes += [
        helper.make_node("Add", ["member_0", "member_1"], ["sum"]),
        helper.make_node("Div", ["sum", "n"], ["probs"]),
    ]
    outputs = ("probs", "member_0", "member_1")
    graph = helper.make_graph(
        nodes,
        "pair",
        [
            helper.make_tensor_value_info("wave", TensorProto.FLOAT, ["batch", CARD.input_samples]),
            helper.make_tensor_value_info("wanted", TensorProto.BOOL, [2]),
        ],
        [helper.make_tensor_value_info(o, TensorProto.FLOAT, ["batch", 2]) for o in outputs],
        [
            numpy_helper.from_array(np.array([[slope, -1]], np.float32), "weight0"),
            numpy_helper.from_array(np.array([[1, slope]], np.float32), "weight1"),
            numpy_helper.from_array(np.array([1], np.int64), "axis"),
            *(numpy_helper.from_array(np.array(i, np.int64), f"number{i}") for i in (0, 1)),
            numpy_helper.from_array(np.ones(2, bool), "wanted"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, CARD.to_metadata())
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def write_model(lab: Lab, name: str, slope: float, run_id: str | None) -> None:
    """A whole promoted model; registered where there is a run of MLflow to log it to."""
    path = save_pair(lab.models / name / "model.onnx", slope)
    card: dict[str, object] = {
        "model": name, "spec_ids": ["0" * 12], "classes": list(CARD.classes), "registered": None,
        "promoted_at": f"2026-01-0{1 + NAMES.index(name)}T10:00:00+00:00", "weights": "full",
        "n_members": 2, "score": {"metric": "padded_cmap", "value": 0.5 + slope / 10},
        "members": [{"name": n, "backbone": "b0"} for n in (name[:2], name[2:])],
        "predicted_minutes": slope, "limit_minutes": 120, "parity": {"silence": 1e-7},
    }  # fmt: skip
    if run_id is not None:
        registered = register_model(
            path, CARD, tracking_uri=lab.tracking_uri, name="peeps", run_id=run_id,
            tags={"birdlab.model": name},
        )  # fmt: skip
        card["registered"] = (registered.uri, registered.version)
    (path.parent / "card.json").write_text(json.dumps(card))


@pytest.fixture(scope="module")
def registered_lab(tmp_path_factory: pytest.TempPathFactory, mlflow_database: Path) -> Lab:
    """A lab with three models of as many versions, none in service. Copy it, never change it."""
    lab = Lab(tmp_path_factory.mktemp("registry"))
    lab.stores.mkdir()
    shutil.copy(mlflow_database, lab.stores / "mlflow.db")
    client = connect(lab)
    experiment = client.create_experiment("peeps", lab.artifacts.resolve().as_uri())
    run = client.create_run(experiment, run_name="promotion").info.run_id
    for slope, name in enumerate(NAMES):
        write_model(lab, name, float(slope), run)
    return lab


@pytest.fixture
def lab(registered_lab: Lab, tmp_path: Path) -> Iterator[Lab]:
    shutil.copytree(registered_lab.root, tmp_path / "lab")
    yield Lab(tmp_path / "lab")


def in_service(lab: Lab, alias: str = "champion") -> tuple[str | None, str | None]:
    """The model under an alias in the lab, and that of the version that MLflow has under it."""
    version = alias_version(Lab(lab.root), "peeps", alias)
    names = {str(i): name for i, name in enumerate(NAMES, start=1)}
    return load_aliases(lab.models).get(alias), None if version is None else names[version]


def test_a_version_is_logged_once_and_loads_in_every_way_of_mlflow(
    registered_lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab, before = registered_lab, mlflow.get_tracking_uri()
    client = connect(lab)
    newest = client.get_model_version_by_alias("peeps", "candidate")
    assert (str(newest.version), newest.tags["birdlab.model"]) == ("3", NAMES[2])
    path = lab.models / NAMES[0] / "model.onnx"
    again = register_model(
        path, CARD, tracking_uri=lab.tracking_uri, name="peeps", run_id=newest.run_id,
        alias="again", tags={"birdlab.forced": "a test"},
    )  # fmt: skip
    assert again.version == "1"
    first = client.get_model_version("peeps", "1")
    assert first.tags["birdlab.forced"] == "a test" and first.tags["birdlab.model"] == NAMES[0]
    assert first.tags["birdlab.sha256"]
    assert first.description.startswith("2 members (b0), blend: mean. 2 classes, windows of")
    logged = client.list_artifacts(newest.run_id, "models")
    assert len(logged) == len({client.get_model_version("peeps", v).source for v in "123"}) == 3
    assert mlflow.get_tracking_uri() == before

    monkeypatch.setenv("MLFLOW_TRACKING_URI", lab.tracking_uri)
    mlflow.set_tracking_uri(lab.tracking_uri)
    try:
        raw = mlflow.onnx.load_model("models:/peeps@again")
        served = mlflow.pyfunc.load_model("models:/peeps@again")
    finally:
        mlflow.set_tracking_uri(before)
    assert raw.graph.name == "pair"
    wave = np.random.default_rng(0).standard_normal((3, CARD.input_samples)).astype(np.float32)
    probs = served.predict(wave)["probs"]
    np.testing.assert_allclose(probs, served.predict({"wave": wave})["probs"])
    energy = (wave**2).mean(axis=1, keepdims=True)
    expected = (sigmoid(energy * [[0, -1]]) + sigmoid(energy * [[1, 0]])) / 2
    np.testing.assert_allclose(probs, expected, atol=1e-6)
    schema = served.metadata.signature.inputs.to_dict()
    assert [(i["name"], i["tensor-spec"]["shape"]) for i in schema] == [("wave", (-1, 500))]
    assert served.metadata.signature.outputs.to_dict()[0]["name"] == "probs"
    assert served.input_example["wave"].shape == (1, 500)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def test_aliases_move_in_both_stores_and_back_again(lab: Lab) -> None:
    for name in NAMES:
        move_alias(lab, "champion", name, why="promoted")
        assert in_service(lab) == (name, name)
    assert not (lab.models / MOVING_FILE).exists()
    told: list[str] = []
    for name in (NAMES[1], NAMES[0]):
        assert roll_back(lab, why="it fell", tell=told.append).model == name
        assert in_service(lab) == (name, name)
    with pytest.raises(PromotionError, match="no model that was @champion before"):
        roll_back(lab)
    move_alias(lab, "champion", NAMES[2])
    assert roll_back(lab).model == NAMES[0], "what was rolled back does not come again"
    moves = load_history(lab)
    assert [m.kind for m in moves] == ["set"] * 3 + ["rollback"] * 2 + ["set", "rollback"]
    assert [m.before for m in moves][:4] == ["", NAMES[0], NAMES[1], NAMES[2]]
    assert told == [] and moves[3].why == "it fell"
    lines = (lab.models / HISTORY_FILE).read_text().splitlines()
    assert len(lines) == len(moves)


def test_a_card_whose_figures_are_none_says_so(lab: Lab) -> None:
    path = lab.models / NAMES[0] / "card.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "score": {"value": ["x"]}}))
    line = next(line for line in list_lines(lab) if line.name == NAMES[0])
    assert line.score is None and "     -" in list_words([line], {})[1]


def test_a_rollback_passes_over_a_model_whose_file_is_gone(lab: Lab) -> None:
    for name in NAMES:
        move_alias(lab, "champion", name)
    (lab.models / NAMES[1] / "model.onnx").unlink()
    told: list[str] = []
    assert roll_back(lab, tell=told.append).model == NAMES[0]
    assert told == [f"{NAMES[1]} is passed over: its files are gone."]
    with pytest.raises(PromotionError, match="file of the model is gone"):
        move_alias(lab, "champion", NAMES[1])
    assert in_service(lab) == (NAMES[0], NAMES[0])


def test_a_rollback_goes_ahead_where_mlflow_lost_the_version(lab: Lab) -> None:
    for name in (NAMES[1], NAMES[0]):
        move_alias(lab, "champion", name)
    delete_version(lab)
    told: list[str] = []
    roll_back(lab, tell=told.append)
    assert in_service(lab) == (NAMES[1], NAMES[0])
    assert "MLflow refuses" in told[0] and "stays where it is" in told[0]
    assert not (lab.models / MOVING_FILE).exists() and len(load_history(lab)) == 3


def block_aliases(lab: Lab) -> None:
    (lab.models / f".{ALIASES_FILE}.{os.getpid()}.part").mkdir()


def block_note(lab: Lab) -> None:
    (lab.models / f".{MOVING_FILE}.{os.getpid()}.part").mkdir()


def block_history(lab: Lab) -> None:
    (lab.models / HISTORY_FILE).unlink()
    (lab.models / HISTORY_FILE).mkdir()


def break_history(lab: Lab) -> None:
    with (lab.models / HISTORY_FILE).open("a") as file:
        file.write("{}\n")


def spoil_history(lab: Lab) -> None:
    with (lab.models / HISTORY_FILE).open("ab") as file:
        file.write(b'{"alias": "\xff"}\n')


def delete_version(lab: Lab) -> None:
    connect(lab).delete_model_version("peeps", "2")


def tear_card(lab: Lab) -> None:
    (lab.models / NAMES[1] / "card.json").write_text("{")


@pytest.mark.parametrize(
    "hinder",
    [
        block_aliases,
        block_note,
        block_history,
        break_history,
        spoil_history,
        delete_version,
        tear_card,
    ],
)
def test_whatever_fails_leaves_the_old_champion_in_service(lab: Lab, hinder: object) -> None:
    move_alias(lab, "champion", NAMES[0])
    hinder(lab)  # type: ignore[operator]
    with pytest.raises(BirdlabError):
        move_alias(lab, "champion", NAMES[1])
    assert in_service(lab) == (NAMES[0], NAMES[0])
    assert not (lab.models / MOVING_FILE).exists()


def test_a_move_that_the_history_has_no_room_for_is_ended_by_the_next_command(
    tmp_path: Path,
) -> None:
    lab = Lab(tmp_path)
    for slope, name in enumerate(NAMES):
        write_model(lab, name, float(slope), run_id=None)
    for name in [*NAMES, *NAMES]:
        move_alias(lab, "champion", name)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    full = (lab.models / HISTORY_FILE).stat().st_size + 10
    resource.setrlimit(resource.RLIMIT_FSIZE, (full, hard))
    try:
        with pytest.raises(PromotionError, match="cannot be moved"):
            move_alias(lab, "champion", NAMES[0])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (lab.models / MOVING_FILE).exists()
    settle_aliases(lab, lambda _: None)
    assert not (lab.models / MOVING_FILE).exists()
    assert load_aliases(lab.models)["champion"] == load_history(lab)[-1].model == NAMES[0]


@pytest.mark.parametrize("text", ["{", '{"champion": {}}', '{"champion": []}', "[]"])
def test_a_note_of_a_move_that_is_none_is_said(tmp_path: Path, text: str) -> None:
    lab = Lab(tmp_path)
    write_model(lab, NAMES[0], 0.0, run_id=None)
    (lab.models / MOVING_FILE).write_text(text)
    with pytest.raises(BirdlabError, match="remove the file"):
        move_alias(lab, "champion", NAMES[0])


def test_without_mlflow_promotion_stops_and_a_rollback_goes_ahead(lab: Lab) -> None:
    for name in NAMES[:2]:
        move_alias(lab, "champion", name)
    away = replace(lab, file=LabFile(tracking_uri="http://127.0.0.1:9"))
    with pytest.raises(TrackingError):
        move_alias(away, "champion", NAMES[2])
    with pytest.raises(PromotionError, match="cannot be registered"):
        register_model(
            lab.models / NAMES[2] / "model.onnx", CARD, tracking_uri=away.tracking_uri,
            name="peeps", run_id="0" * 32,
        )  # fmt: skip
    assert in_service(lab) == (NAMES[1], NAMES[1])
    told: list[str] = []
    roll_back(away, tell=told.append)
    assert in_service(lab) == (NAMES[0], NAMES[1])
    assert "follows later" in told[0]
    settle_aliases(away, told.append)
    assert "does not follow" in told[1] and (lab.models / MOVING_FILE).exists()
    settle_aliases(lab, told.append)
    assert in_service(lab) == (NAMES[0], NAMES[0])
    assert told[2] == "MLflow's @champion of peeps was put to version 1, as in the lab."
    assert not (lab.models / MOVING_FILE).exists()
    assert len(load_history(lab)) == 3


def test_an_alias_that_somebody_else_moved_in_mlflow_meanwhile_is_left_alone(lab: Lab) -> None:
    move_alias(lab, "champion", NAMES[0])
    shutil.copytree(lab.models, lab.root / "kept")
    move_alias(lab, "champion", NAMES[1])
    moved = load_history(lab)[-1]
    begun = {"move": vars(moved), "name": "peeps", "to_version": "2", "from_version": "1"}
    shutil.rmtree(lab.models)
    (lab.root / "kept").rename(lab.models)  # as a kill before the lab's alias moved leaves it
    (lab.models / MOVING_FILE).write_text(json.dumps({"champion": begun | {"is_known": True}}))
    connect(lab).set_registered_model_alias("peeps", "champion", "3")
    settle_aliases(lab, lambda _: None)
    assert in_service(lab) == (NAMES[0], NAMES[2])
    assert not (lab.models / MOVING_FILE).exists() and len(load_history(lab)) == 1


def test_names_that_are_no_model_or_several_are_refused_in_words(lab: Lab) -> None:
    move_alias(lab, "champion", NAMES[0])
    models = lab.models
    assert find_promoted(models, "ccc").name == NAMES[2] == find_promoted(models, "peeps/3").name
    assert find_model(models) == find_model(models, "aaaa") == models / NAMES[0] / "model.onnx"
    with pytest.raises(PredictError, match="'aa' names 2 promoted models") as several:
        find_model(models, "aa")
    assert "aaaa1111, aabb2222" in str(several.value) and NAMES[2] not in str(several.value)
    for name in ("", "@silver", "zz", "peeps/9", "../models"):
        with pytest.raises(PredictError, match="names no promoted model") as none:
            find_model(models, name)
        assert "@champion" in str(none.value)


def test_models_are_listed_shown_and_put_under_aliases(lab: Lab, cli: Any) -> None:
    first = cli(lab, "models", "alias", "aaaa", "@champion", "--why", "a test")
    assert first.code == 0 and "next: birdlab predict" in first.out
    assert cli(lab, "models", "alias", "cccc", "champion").code == 0
    listed = cli(lab, "models")
    assert listed.code == 0 and listed.out == cli(lab, "models", "list").out
    lines = listed.out.splitlines()
    assert [line.split()[0] for line in lines[1::2]] == list(NAMES)
    assert "@champion" in lines[6] and "in MLflow peeps/3" in lines[6]
    assert max(map(len, lines)) <= 100
    data = json.loads(cli(lab, "models", "list", "--json").out)
    assert [(m["name"], m["aliases"], m["score"]) for m in data] == [
        (NAMES[0], [], 0.5), (NAMES[1], [], 0.6), (NAMES[2], ["champion"], 0.7)
    ]  # fmt: skip
    card = json.loads(cli(lab, "models", "show", "@champion", "--json").out)
    assert (card["aliases"], card["history"][-1]["alias"]) == (["champion"], "champion")
    shown = cli(lab, "models", "show", "@champion").out
    for said in ("padded_cmap", "members", "silence", "1.0e-07", "history", NAMES[0]):
        assert said in shown, said
    back = cli(lab, "models", "rollback", "--why", "it fell")
    assert back.code == 0 and f"@champion went back to {NAMES[0]}" in back.out
    assert f"undo: birdlab models alias {NAMES[2]} champion" in back.out
    assert in_service(lab) == (NAMES[0], NAMES[0])
    (lab.models / NAMES[0] / "model.onnx").unlink()
    assert f"@champion names {NAMES[0]}, whose file is gone" in cli(lab, "models").out
    wrong = cli(lab, "models", "alias", "cccc", "9lives")
    assert wrong.code == 1 and "this is no alias" in wrong.err
    first = cli(lab, "models", "alias", NAMES[1], "silver")
    assert first.code == 0 and "undo" not in first.out, "there is nothing to go back to"
    assert cli(lab, "models", "rollback", "--alias", "silver").code == 1


def test_a_lab_without_models_says_what_to_do(tmp_path: Path, cli: Any) -> None:
    empty = Lab(tmp_path)
    assert "birdlab promote RUN" in cli(empty, "models").out
    assert "birdlab promote RUN" in cli(empty, "models", "show").err
    assert cli(empty, "verify").code == 1


def test_two_models_are_compared_by_card_and_by_what_they_say(lab: Lab, cli: Any) -> None:
    folder = lab.root / "soundscapes"
    folder.mkdir()
    rng = np.random.default_rng(1)
    for i in range(2):
        loud = np.repeat(rng.uniform(0.01, 1, 6), 500)
        soundfile.write(folder / f"s{i}.wav", loud * rng.uniform(-1, 1, 3_000), 1_000)
    said = cli(lab, "models", "compare", "aabb", "cccc", "--on", str(folder))
    assert said.code == 0, said.err
    assert "members of both: none" in said.out and "of the first alone: 2 b0" in said.out
    assert "over 12 windows" in said.out and "mean over 1 class 1.000" in said.out
    a = pd.DataFrame({"row_id": ["x", "y", "z", "w"], "wren": [0.1, 0.2, 0.3, 0.4], "rook": 0.5})
    b = a.assign(wren=[0.9, 0.8, 0.7, 0.6], rook=a["wren"]).iloc[::-1]
    found = correlate_predictions(a, b).set_index("code")
    assert found.loc["wren", "rho"] == pytest.approx(-1) and np.isnan(found.loc["rook", "rho"])
    assert found.loc["wren", "mean_b"] == pytest.approx(0.75)
    for name, table in (("a", a), ("b", b)):
        table.to_parquet(lab.root / f"{name}.parquet")
    stored = [f"--windows={lab.root / name}.parquet" for name in "ab"]
    by_table = cli(lab, "models", "compare", "aabb", "cccc", *stored).out
    assert "mean over 1 class -1.000" in by_table and "1 class never changes" in by_table
    assert cli(lab, "models", "compare", "aabb", "cccc", stored[0]).code == 1
    with pytest.raises(PredictError, match="do not compare"):
        correlate_predictions(a, b.assign(row_id="other"))


KILLER = """\
import json, os, sqlite3, shutil, sys
from pathlib import Path
import birdlab.promote.registry  # MLflow is imported once, before the children
from birdlab.lab import Lab
from birdlab.promote.aliases import move_alias, settle_aliases

root, name = Path(sys.argv[1]), sys.argv[2]
KEPT = ("models", "mlflow.db")

def look():
    query = "SELECT version FROM registered_model_aliases WHERE alias = 'champion'"
    with sqlite3.connect(root / "mlruns" / "mlflow.db") as database:
        version = database.execute(query).fetchone()[0]
    aliases = json.loads((root / "mlruns" / "models" / "aliases.json").read_text())
    return [aliases["champion"], version]

def child(work):
    pid = os.fork()
    if pid == 0:
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def move(at):
    seen, models = 0, str(root / "mlruns" / "models")
    def watch(event, args):
        nonlocal seen
        changes = event in ("os.rename", "os.remove") or (event == "open" and args[1] != "r")
        if changes and str(args[0]).startswith(models):
            seen += 1
            if seen == at:
                os._exit(9)
    sys.addaudithook(watch)
    move_alias(Lab(root), "champion", name)

for part in KEPT:
    kept = root / "kept" / part
    kept.parent.mkdir(exist_ok=True)
    place = root / "mlruns" / part
    shutil.copytree(place, kept) if place.is_dir() else shutil.copy(place, kept)
for at in range(int(sys.argv[3]), int(sys.argv[4])):
    code = child(lambda: move(at))
    killed = look()
    child(lambda: settle_aliases(Lab(root), lambda sentence: None))
    lines = (root / "mlruns" / "models" / "history.jsonl").read_text().splitlines()
    print(json.dumps([code, killed, look(), len(lines)]))
    if code == 0:
        break
    shutil.rmtree(root / "mlruns" / "models")
    shutil.copytree(root / "kept" / "models", root / "mlruns" / "models")
    shutil.copy(root / "kept" / "mlflow.db", root / "mlruns" / "mlflow.db")
"""


@pytest.mark.parametrize(
    "moments", [(6, 7), pytest.param((1, 100), marks=pytest.mark.crash)], ids=["one", "all"]
)
def test_a_kill_leaves_one_champion_in_both_stores(lab: Lab, moments: tuple[int, int]) -> None:
    """Killed before each change of a file of the models folder, then looked at by the next one."""
    move_alias(lab, "champion", NAMES[0])
    done = subprocess.run(
        [sys.executable, "-c", KILLER, str(lab.root), NAMES[1], *map(str, moments)],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    kills = [json.loads(line) for line in done.stdout.splitlines()]
    old, new = [NAMES[0], 1], [NAMES[1], 2]
    if len(kills) > 1:
        assert kills.pop() == [0, new, new, 2], "nobody disturbed the last one"
        assert len(kills) >= 8
        assert {local for _, (local, _), _, _ in kills} == {NAMES[0], NAMES[1]}
    assert {code for code, *_ in kills} == {9}
    assert [NAMES[0], 2] in [killed for _, killed, _, _ in kills], "MLflow moved, the lab not yet"
    for _, (local, _), settled, lines in kills:
        assert (settled, lines) == ((old, 1) if local == NAMES[0] else (new, 2))
