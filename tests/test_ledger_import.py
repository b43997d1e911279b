"""Leaderboard scores that come as tables: from Kaggle, and from ledgers kept elsewhere."""

from __future__ import annotations

import json
import resource
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import MakeLab
from test_upkeep import cli as cli
from test_upkeep import snapshot

import birdlab
from birdlab.errors import BirdlabError, LedgerError, ResolveError
from birdlab.lab import Lab
from birdlab.study.foreign_ledger import parse_mapping, read_foreign_ledger
from birdlab.study.ledger import load_ledger, select_rows
from birdlab.study.submissions import Bundle, import_submissions
from birdlab.study.tables import StudyTables, pair_cv_lb
from birdlab.tracking.index import load_cells, load_runs
from birdlab.upkeep.foreign_ledger import LedgerImport, import_ledger

LEDGER_2025 = Path(__file__).parents[2] / "shared" / "data" / "birdclef2025_cv_lb_ledger.csv"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.jsonl"


# ---------------------------------------------------------------- Kaggle

SUBMISSIONS = """fileName,date,description,status,publicScore,privateScore
a.csv,2025-04-01 10:00:00,"lr sweep, 0123456789ab",complete,0.84,0.76
b.csv,2025-04-02 10:00:00,mlflow DEADBEEF00,complete,0.85,
c.csv,2025-04-03 10:00:00,0123456789ab blended with feedfacecafe,complete,0.86,0.80
d.csv,2025-04-04 10:00:00,by hand,complete,0.10,0.10
e.csv,2025-04-05 10:00:00,0123456789ab,error,,
f.csv,2025-04-06 10:00:00,model 00aa11bb22,complete,0.87,
g.csv,2025-04-07 10:00:00,birdclef-2025/3 of feedfacecafe,complete,0.88,
h.csv,2025-04-08 10:00:00,00aa11bb22 and 0123456789ab,complete,0.89,
i.csv,2025-04-09 10:00:00,00aa11bb22 and cc00dd11ee,complete,0.90,
"""
RUNS = pd.DataFrame(
    {
        "run": ["0123456789ab", "feedfacecafe"],
        "name": ["one", "two"],
        "mlflow_run_id": ["deadbeef00112233", None],
    }
)
BUNDLES = (
    Bundle(("0123456789ab", "feedfacecafe"), "00aa11bb22cc33dd", "birdclef-2025/2"),
    Bundle(("feedfacecafe",), "cc00dd11ee22ff33", "birdclef-2025/3"),
)


def take(table: Path, ledger: Path, **more: Any) -> Any:
    return import_submissions(table, ledger, RUNS, metric="padded_cmap", bundles=BUNDLES, **more)


def test_submissions_are_matched_or_listed(path: Path, tmp_path: Path) -> None:
    table = tmp_path / "submissions.csv"
    table.write_text(SUBMISSIONS, encoding="utf-8-sig")
    report = take(table, path, said={"weights": "folds"})
    assert [(row["run"], row["name"], row["bundle"]) for row in report.added] == [
        ("0123456789ab", "one", ""),
        ("0123456789ab", "one", ""),
        ("0123456789ab", "one + two", "00aa11bb22cc33dd"),
        ("feedfacecafe", "two", "cc00dd11ee22ff33"),
        ("0123456789ab", "one + two", "00aa11bb22cc33dd"),
    ]
    assert [line.split(" ")[0] for line in report.unmatched] == [
        f"{letter}.csv" for letter in "cdei"
    ]
    for line, why in zip(
        report.unmatched, ("names 2", "names no run", "status error", "names 2"), strict=True
    ):
        assert why in line
    ledger = load_ledger(path)
    assert list(ledger.public) == [0.84, 0.85, 0.87, 0.88, 0.89]
    assert set(ledger.source) == {"import"} and set(ledger.weights) == {"folds"}
    assert ledger.members[2] == ["0123456789ab", "feedfacecafe"]
    assert ledger.date[0] == "2025-04-01T10:00:00+00:00"
    before = path.read_bytes()
    again = take(table, path)
    assert again.added == again.updated == again.strange == () and len(again.known) == 5
    other = import_submissions(table, path, RUNS, metric="macro_auc", bundles=BUNDLES)
    assert other.added == () and other.strange == again.known
    assert path.read_bytes() == before


def test_private_scores_that_come_out_later_replace_their_row(path: Path, tmp_path: Path) -> None:
    table = tmp_path / "submissions.csv"
    table.write_text(SUBMISSIONS)
    report = take(table, path, said={"precision": "fp32"})
    select_rows(path, [report.added[1]["id"]])
    table.write_text(SUBMISSIONS.replace("complete,0.85,", "complete,0.85,0.71"))
    later = take(table, path)
    assert later.added == () and [row["private"] for row in later.updated] == [0.71]
    ledger = load_ledger(path)
    assert len(ledger) == 5
    row = ledger[ledger["private"] == 0.71].iloc[0]
    assert (row["public"], row["selected"], row["precision"]) == (0.85, True, "fp32")
    assert take(table, path).updated == ()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty file"),
        ("a,b\n1,2\n", "publicScore"),
        (SUBMISSIONS.replace("0.84", "84"), "line 2: 84 is outside 0 to 1; write 0.84, not 84"),
        (SUBMISSIONS.replace("0.84", '"0,84"'), "line 2: 0,84 has a decimal comma; write 0.84"),
        (SUBMISSIONS.replace("0.84", "84%"), "line 2: 84% is a percentage"),
        (SUBMISSIONS.replace("0.10", "best"), "line 5: 'best' is not a number"),
        (SUBMISSIONS.replace("2025-04-02 10", "yesterday"), "line 3: 'yesterday:00:00' is no date"),
        (SUBMISSIONS.replace("by hand", "by, hand"), "line 5: 7 cells under 6 columns"),
        (SUBMISSIONS.replace("status", "date"), "date"),
    ],
)
def test_a_table_with_a_fault_adds_nothing(
    path: Path, tmp_path: Path, text: str, says: str
) -> None:
    table = tmp_path / "submissions.csv"
    table.write_text(text)
    with pytest.raises(LedgerError) as raised:
        take(table, path)
    assert says in str(raised.value) and str(table) in str(raised.value)
    assert not path.exists()


def test_a_table_in_another_encoding_is_refused(path: Path, tmp_path: Path) -> None:
    table = tmp_path / "submissions.csv"
    table.write_bytes(SUBMISSIONS.replace("by hand", "à la main").encode("latin-1"))
    with pytest.raises(LedgerError, match="UTF-8"):
        take(table, path)


# ---------------------------------------------------------------- foreign ledgers

FOREIGN = """exp;net;recipe;folds;auc;lb;when;final
a 1;eca_nfnet_l0;lr 1e-3;0.97|0.98;0.975;0.82;2025-04-01;
a 2;tf_efficientnetv2_s_in21k;lr 1e-4;0.98|0.99;0.985;0.84;2025-04-02 12:30;yes

a 3;eca_nfnet_l1;lr 1e-4;0.96|0.97;0.965;;;
"""
MAPPING = (
    *("name=exp", "family=net", "lineage=net+recipe", "folds=folds", "cv/macro_auc=auc"),
    *("public=lb", "date=when", "selected=final"),
)


@pytest.fixture
def bare(tmp_path: Path) -> Lab:
    (tmp_path / "lab").mkdir()
    return Lab(tmp_path / "lab")


def take_foreign(
    lab: Lab, text: str, *mapping: str, competition: str = "birds", **more: Any
) -> LedgerImport:
    table = lab.root / "theirs.csv"
    table.write_text(text, encoding="utf-8")
    columns = parse_mapping(mapping or MAPPING)
    ledger = read_foreign_ledger(table, columns, metric="macro_auc")
    return import_ledger(lab, ledger, competition=competition, **more)


def test_lines_become_runs_with_their_history(bare: Lab) -> None:
    done = take_foreign(bare, FOREIGN, defaults={"weights": "folds"})
    assert [record["name"] for record in done.runs] == ["a 1", "a 2", "a 3"]
    runs = load_runs(bare)
    assert list(runs["name"]) == ["a 1", "a 2", "a 3"], "in the order of the file"
    assert list(runs["family"]) == ["eca_nfnet", "efficientnetv2", "eca_nfnet"]
    assert runs["lineage"][0] == "eca_nfnet_l0 + lr 1e-3"
    assert list(runs["cv/macro_auc"]) == [0.975, 0.985, 0.965]
    assert set(runs["status"]) == {"foreign"} and set(runs["n_folds"]) == {2}
    cells = load_cells(bare)
    assert list(cells["macro_auc"]) == [0.97, 0.98, 0.98, 0.99, 0.96, 0.97]
    ledger = load_ledger(bare.ledger)
    assert list(ledger["public"]) == [0.82, 0.84] and list(ledger["selected"]) == [False, True]
    assert list(ledger["date"]) == ["2025-04-01T00:00:00+00:00", "2025-04-02T12:30:00+00:00"]
    assert set(ledger["weights"]) == {"folds"}
    tables = StudyTables(runs, cells, ledger)
    pairs = pair_cv_lb(tables, metric="macro_auc", cv="cv/macro_auc")
    assert list(pairs["cv"]) == [0.975, 0.985] and list(pairs["lb"]) == [0.82, 0.84]
    assert list(pairs["cv_sd"]) == pytest.approx([0.00707, 0.00707], abs=1e-5)
    assert list(pairs["fold_scores"]) == [[0.97, 0.98], [0.98, 0.99]]


def test_a_file_that_grew_adds_what_is_new(bare: Lab) -> None:
    take_foreign(bare, FOREIGN)
    before = snapshot(bare)
    again = take_foreign(bare, FOREIGN)
    assert (again.runs, again.rows) == ((), ()) and (again.n_known_runs, again.n_known_rows) == (
        3,
        2,
    )
    assert snapshot(bare) == before
    grown = FOREIGN.replace("0.965;;;", "0.965;0.81;;") + "a 4;x;y;0.9|0.9;0.9;;;\n"
    grown += "a 2;tf_efficientnetv2_s_in21k;lr 1e-4;0.98|0.99;0.985;0.845;;\n"
    done = take_foreign(bare, grown)
    assert [record["name"] for record in done.runs] == ["a 4"]
    assert [row["public"] for row in done.rows] == [0.81, 0.845]
    assert len(load_ledger(bare.ledger)) == 4 and len(load_runs(bare)) == 4


def test_a_run_that_came_otherwise_is_refused_or_written_anew(bare: Lab) -> None:
    take_foreign(bare, FOREIGN)
    before = snapshot(bare)
    changed = FOREIGN.replace("0.975", "0.976")
    with pytest.raises(LedgerError) as raised:
        take_foreign(bare, changed)
    assert "line 2: a 1 is in the lab with other scores" in str(raised.value)
    assert "--replace" in str(raised.value)
    twice = FOREIGN + "a 1;eca_nfnet_l0;lr 1e-3;0.97|0.99;0.975;0.82;;\n"
    with pytest.raises(LedgerError, match="line 6: an earlier a 1 has other"):
        take_foreign(bare, twice, replace=True)
    assert snapshot(bare) == before
    done = take_foreign(bare, changed, replace=True)
    assert [record["name"] for record in done.runs] == ["a 1"] and done.rows == ()
    assert load_runs(bare).set_index("name").loc["a 1", "cv/macro_auc"] == 0.976


def test_the_same_scores_with_other_options_are_no_new_submissions(bare: Lab) -> None:
    take_foreign(bare, FOREIGN)
    first = load_ledger(bare.ledger)
    select_rows(bare.ledger, [first["id"][0]])
    again = take_foreign(bare, FOREIGN, defaults={"precision": "fp16"})
    assert (again.rows, again.n_known_rows, again.n_other_rows) == ((), 2, 2)
    done = take_foreign(bare, FOREIGN, defaults={"precision": "fp16"}, replace=True)
    assert (len(done.rows), done.runs, done.n_known_runs) == (2, (), 3)
    assert take_foreign(bare, FOREIGN).n_other_rows == 0, "nothing else was asked for"
    ledger = load_ledger(bare.ledger)
    assert set(ledger["precision"]) == {"fp16"} and list(ledger["selected"]) == [True, True]
    assert list(ledger["date"]) == list(first["date"])


def test_only_equal_splits_compare_unless_pooled(bare: Lab) -> None:
    text = "exp,cv,lb,split\n" + "".join(
        f"e{i},0.9{i},0.8{i},{'noleak' if i < 4 else 'all birds'}\n" for i in range(7)
    )
    mapping = ("name=exp", "cv/macro_auc=cv", "lb/public=lb", "split=split")
    take_foreign(bare, text, *mapping)
    take_foreign(bare, text, *mapping, competition="other birds")
    runs = load_runs(bare)
    tables = StudyTables(runs, load_cells(bare), load_ledger(bare.ledger))
    given = {"metric": "macro_auc", "cv": "cv/macro_auc"}
    assert set(pair_cv_lb(tables, **given)["split"]) == {"noleak"}
    pooled = pair_cv_lb(tables, **given, group=None)
    assert len(pooled) == 14 and pooled["comparable_group"].nunique() == 4
    assert set(runs["n_folds"]) == {0} and pooled["cv_sd"].isna().all()


def test_a_metric_of_their_own_keeps_its_folds(bare: Lab) -> None:
    table = bare.root / "t.csv"
    table.write_text("exp,folds,lb\na,0.5 0.7,0.4\n")
    columns = parse_mapping(["name=exp", "folds=folds", "public=lb"])
    ledger = read_foreign_ledger(table, columns, metric="cmap_min5")
    import_ledger(bare, ledger, competition="birds")
    assert list(load_cells(bare)["cmap_min5"]) == [0.5, 0.7]
    assert load_runs(bare)["cv/cmap_min5"][0] == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["name=exp", "publik=lb"], "did you mean 'public'"),
        (["name=exp", "cv/Macro AUC=lb"], "no field of this name"),
        (["name=exp", "name=lb", "public=lb"], "mapped twice"),
        (["public=lb"], "lacks the name"),
        (["name=exp", "split=lb"], "lacks a score"),
        (["name=exp", "public=lp"], "did you mean 'lb'"),
        (["name=exp+nett", "public=lb"], "did you mean 'net'"),
        (["nowhere.yaml"], "neither FIELD=COLUMN nor a file"),
    ],
)
def test_a_mapping_with_a_fault_says_the_nearest_name(
    bare: Lab, given: list[str], says: str
) -> None:
    with pytest.raises(BirdlabError) as raised:
        take_foreign(bare, FOREIGN, *given)
    assert says in str(raised.value)
    assert not bare.runs.exists()


def test_a_mapping_may_be_a_file(bare: Lab) -> None:
    (bare.root / "map.yaml").write_text(
        "name: exp\nfamily: net\nlineage: [net, recipe]\nfolds: folds\npublic: lb\n"
    )
    take_foreign(bare, FOREIGN, str(bare.root / "map.yaml"), "date=when")
    runs = load_runs(bare)
    assert runs["lineage"][1] == "tf_efficientnetv2_s_in21k + lr 1e-4"
    assert runs["cv/macro_auc"][0] == pytest.approx(0.975), "the mean of the folds"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("0.82", "82", "line 2: public: 82 is outside 0 to 1; write 0.84, not 84"),
        ("0.82", "0,82", "line 2: public: 0,82 has a decimal comma; write 0.82"),
        ("0.82", "82%", "line 2: public: 82% is a percentage"),
        ("0.82", "nan?", "line 2: public: 'nan?' is not a number"),
        ("0.97|", "0.97||", "line 2: folds: score 2 of 3 is missing"),
        ("0.97|", "97|", "line 2: folds: 97 is outside"),
        ("2025-04-01", "1.4.2025", "line 2: date: '1.4.2025' is no date"),
        ("yes", "maybe", "line 3: selected: 'maybe' is neither yes nor no"),
        ("a 1", "", "line 2: name: '' is no name"),
        ("a 2;", "a 2;;", "line 3: 9 cells under 8 columns"),
    ],
)
def test_lines_at_fault_are_listed_and_nothing_is_imported(
    bare: Lab, old: str, new: str, says: str
) -> None:
    with pytest.raises(LedgerError) as raised:
        take_foreign(bare, FOREIGN.replace(old, new, 1))
    assert says in str(raised.value)
    assert not bare.runs.exists() and not bare.ledger.exists()


def test_all_faults_come_at_once_and_a_full_ledger_undoes_the_runs(bare: Lab) -> None:
    text = FOREIGN.replace("0.82", "82").replace("2025-04-02 12:30", "soon")
    with pytest.raises(LedgerError) as raised:
        take_foreign(bare, text)
    assert "2 of the lines" in str(raised.value)
    assert "line 2" in str(raised.value) and "line 3" in str(raised.value)
    bare.ledger.parent.mkdir(parents=True, exist_ok=True)
    bare.ledger.write_text("torn")
    with pytest.raises(LedgerError, match="cut off"):
        take_foreign(bare, FOREIGN)
    assert list(bare.runs.glob("*.json")) == []


def test_a_disk_that_is_full_leaves_no_run_and_no_piece_of_one(bare: Lab) -> None:
    table = bare.root / "theirs.csv"
    table.write_text(FOREIGN.replace("l1;lr 1e-4", "l1;" + 5000 * "lr"))
    ledger = read_foreign_ledger(table, parse_mapping(MAPPING), metric="macro_auc")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8000, hard))
    try:
        with pytest.raises(LedgerError, match="the runs cannot be written") as raised:
            import_ledger(bare, ledger, competition="birds")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "make room" in str(raised.value)
    assert [path.name for path in bare.runs.iterdir()] == [".lock"]


def test_folds_that_do_not_make_the_mean_are_remarked(bare: Lab) -> None:
    table = bare.root / "t.csv"
    table.write_text(FOREIGN.replace("0.985", "0.95"))
    ledger = read_foreign_ledger(table, parse_mapping(MAPPING), metric="macro_auc")
    assert ledger.remarks == (
        "In 1 line cv/macro_auc is not the mean of the folds (line 3: by 0.0350).",
    )


# ---------------------------------------------------------------- what else reads runs


def test_every_command_takes_such_runs_or_refuses_in_words(make_lab: MakeLab, cli: Any) -> None:
    lab = make_lab(trained=True)
    (lab.root / "theirs.csv").write_text(FOREIGN.replace("a 1", "=<script>"))
    options = [part for pair in MAPPING for part in ("--map", pair)]
    command = ("lb", "import", "theirs.csv", "--metric", "macro_auc", *options)
    assert "needs a competition" in cli(lab, *command).err
    taken = cli(lab, *command, "--competition", "birds", "--precision", "fp16")
    assert taken.code == 0, taken.err
    assert "3 runs and 2 leaderboard scores entered" in taken.out
    assert "which are runs only: 1" in taken.out
    assert "0 runs and 0 leaderboard scores" in cli(lab, *command, "--competition", "birds").out
    assert "a 2" in cli(lab, "runs", "--project", "birds").out
    assert "nan" not in cli(lab, "runs").out
    assert ",'=<script>," in cli(lab, "runs", "--csv").out, "no formula for a spreadsheet"
    assert "column seed" in cli(lab, "noise", "a 2").err
    assert "a 2" not in cli(lab, "runs", "--where", "family=eca_nfnet").out
    shown = cli(lab, "show", "a 2").out
    for part in ("0.9850", "only scores are known", "foreign.lineage", "0.98"):
        assert part in shown
    assert "only scores compare" in cli(lab, "diff", "a 2", "a 3").out
    assert json.loads(cli(lab, "diff", "a 2", "a 3", "--json").out)["scores"]["cv/macro_auc"]
    for refused in (["rerun"], ["promote"], ["extend", "--seeds", "2"], ["lb", "score"]):
        answer = cli(lab, *refused, "a 2")
        assert (answer.code, "a foreign run has no spec" in answer.err) == (1, True), refused
    with pytest.raises(ResolveError, match="no predictions"):
        birdlab.load_oof("a 2", lab)
    added = cli(lab, "lb", "add", "a 3", "--private", "0.5")
    assert added.code == 0, added.err
    assert load_ledger(lab.ledger)["metric"].iloc[-1] == "macro_auc"
    assert cli(lab, "gc", "--keep-days", "0").code == 0
    assert "unreadable" not in cli(lab, "doctor").out
    assert cli(lab, "export", "a 2", "tiny", "-o", "x.tar").code == 0
    other = make_lab()
    moved = cli(other, "import", str(lab.root / "x.tar"))
    assert "new: 2 runs, 2 cells, 1 leaderboard score" in moved.out, moved.err
    (row,) = load_ledger(other.ledger).to_dict("records")
    assert (row["precision"], row["selected"]) == ("fp16", True)
    assert birdlab.load_runs(other).set_index("name").loc["a 2", "cv/macro_auc"] == 0.985


def promote(lab: Lab, name: str, runs: list[str]) -> None:
    (lab.models / name).mkdir(parents=True)
    card = {"spec_ids": runs, "registered": ["models:/birds@champion", "2"]}
    (lab.models / name / "card.json").write_text(json.dumps(card))
    (lab.models / "aliases.json").write_text(json.dumps({"champion": name}))


def test_ensembles_models_and_final_submissions(make_lab: MakeLab, cli: Any) -> None:
    lab = make_lab(decoded=False, mlflow=True)
    runs = [record["spec_id"] for record in take_foreign(lab, FOREIGN).runs]
    promote(lab, "00aa11bb22cc33dd", runs[:2])
    promote(lab, "00aa11ffffffffff", runs[2:])
    added = cli(lab, "lb", "add", "a 2", "a 1", "--public", "0.9", "--weights", "full")
    assert added.code == 0, added.err
    by_model = ("lb", "add", "--bundle", "birds/2", "--public", "0.91")
    assert "names 2 promoted models" in cli(lab, *by_model).err
    by_model = ("lb", "add", "--bundle", "00aa11bb", "--public", "0.91", "--date", "2025-05-01")
    more = ("--precision", "int8", "--postprocessing", "smoothing", "--name", "the blend")
    assert cli(lab, *by_model, *more).code == 0
    assert cli(lab, "lb", "add", "a 3", "--bundle", "@champion", "--private", "0.5").code == 0
    ensemble, blend, model = load_ledger(lab.ledger).to_dict("records")[-3:]
    assert (ensemble["run"], ensemble["name"]) == (runs[1], "a 2 + a 1")
    assert (ensemble["members"], ensemble["weights"]) == ([runs[1], runs[0]], "full")
    assert (blend["members"], blend["bundle"]) == (runs[:2], "00aa11bb22cc33dd")
    assert (blend["date"], blend["precision"]) == ("2025-05-01T00:00:00", "int8")
    assert (model["members"], model["bundle"]) == (runs[2:], "00aa11ffffffffff")
    for wrong, says in (
        (("a 1", "--bundle", "@champion"), "is not made of these runs"),
        (("--public", "0.5"), "name the run"),
        (("a 1", "--bundle", "@silver"), "names no promoted model"),
        (("a 1", "--weights", "all"), "unknown value of --weights"),
        (("a 1", "a 1", "--public", "0.5"), "named twice"),
        (("a 1", "--public", "0.5", "--date", "1.4.2025"), "not a date"),
    ):
        assert says in cli(lab, "lb", "add", *wrong).err, wrong
    assert cli(lab, "lb", "select", ensemble["id"], model["id"]).code == 0
    assert cli(lab, "lb", "select", model["id"], "--undo").code == 0
    assert "no standing" in cli(lab, "lb", "select", "nothing").err
    rows = json.loads(cli(lab, "lb", "list", "--json").out)
    assert [row["name"] for row in rows if row["selected"]] == ["a 2", "a 2 + a 1"]
    listed = cli(lab, "lb", "list").out
    head = listed.splitlines()[0].split()
    assert {"members", "precision", "postprocessing", "bundle", "selected"} <= set(head)
    assert not {"checkpoint", "note"} & set(head), "no row says anything of these"
    assert f"{runs[1]} + {runs[0]}" in listed and "nan" not in listed.lower()
    synced = cli(lab, "mlflow", "sync")
    assert (synced.code, "a 1" in synced.out + synced.err) == (0, False)


@pytest.mark.realbirds
def test_the_real_ledger_of_2025(bare: Lab) -> None:
    if not LEDGER_2025.exists():
        pytest.skip("the 2025 ledger does not lie beside this checkout")
    given = [
        *("name=experiment", "public=lb_public", "cv/macro_auc=cv_mean_auc", "split=split"),
        *("folds=cv_fold_aucs", "family=backbone", "checkpoint=checkpoint", "lineage=recipe"),
    ]
    ledger = read_foreign_ledger(LEDGER_2025, parse_mapping(given), metric="macro_auc")
    assert ledger.remarks == ()
    done = import_ledger(bare, ledger, competition="birdclef-2025")
    assert (len(done.runs), len(done.rows)) == (115, 108)
    runs = load_runs(bare)
    assert runs["family"].value_counts().to_dict() == {
        "efficientnetv2": 59,
        "eca_nfnet": 50,
        "convnext": 4,
        "convnextv2": 2,
    }
    tables = StudyTables(runs, load_cells(bare), load_ledger(bare.ledger))
    given_pair = {"metric": "macro_auc", "cv": "cv/macro_auc"}
    pairs = pair_cv_lb(tables, **given_pair, group=None)
    assert len(pairs) == 108
    assert pairs["cv"].corr(pairs["lb"], method="spearman") == pytest.approx(0.503, abs=0.005)
    assert pair_cv_lb(tables, **given_pair)["split"].nunique() == 1
