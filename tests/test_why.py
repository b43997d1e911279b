"""Why two runs differ: the answer, both runs over time, the page with sound, and the dashboard."""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from browsing import HOSTILE, complaints, fits, serving, sized, wait
from commandline import print_of
from fold_tables import CODES, build_tables

from birdlab.cli.why import _next_commands, _plain
from birdlab.data.audio import Waveform
from birdlab.errors import DataError, ResolveError
from birdlab.lab import Lab, open_lab
from birdlab.plan import plan_experiment
from birdlab.spec import load_spec
from birdlab.study import why_report
from birdlab.study.heard_files import HeardFile
from birdlab.study.listening import OF_FILE, Hearing
from birdlab.study.rescoring import build_estimator
from birdlab.study.run_tables import RunTables
from birdlab.study.sounds import embed_around
from birdlab.study.why import Why, explain
from birdlab.study.why_figures import get_moves_info, get_shares_info, step_line
from birdlab.study.why_hearing import hear_twice
from birdlab.study.why_sounds import cut_wave
from birdlab.study.why_words import recordings_words, species_words
from birdlab.tracking.readback import load_oof
from birdlab.upkeep.foreign import import_foreign
from dashboards import why as page
from dashboards.app import build_app
from dashboards.source import LabSource

ANSWER = "document.querySelector('.answer')?.textContent"


def explained(skill: float = 0.45, **options: Any) -> Why:
    """Two made-up runs of two seeds, the second of which tells labels better by `skill` - 0.15."""
    seeds = (0, 1)
    weak = RunTables("weak", build_tables(180, seeds=seeds, skill=0.15))
    strong = RunTables("strong", build_tables(180, seeds=seeds, skill=skill, run=1))
    return explain((weak, strong), {}, n_draws=100, **options)


@pytest.fixture(scope="module")
def made() -> Why:
    return explained()


def test_a_difference_that_is_shown_is_said_first(made: Why) -> None:
    assert made.shown and made.answer.startswith(f"{made.split.delta:+.4f}")
    assert made.sentences[0].startswith("The difference is shown: better on 3 folds")
    assert any(s.startswith("strong: +") for s in made.sentences), "what compare says"
    assert made.species["share"].sum() == pytest.approx(made.split.delta, abs=1e-12)
    assert set(made.species["code"]) == set(CODES[:3]), "nobody has no recording and adds nothing"
    assert len(made.recordings) == 20
    for row in made.recordings.itertuples():
        assert row.primary not in row.moved.split(", ")
        own = made.split.moves[made.split.moves["recording"] == row.recording]
        assert set(filter(None, row.moved.split(", "))) == set(own["code"]) - {row.primary}
    tested = species_words(made)["folds as one, 95 %"].str.extract(r"^(\S+) \((\S+) to (\S+)\)$")
    pooled, low, high = tested.astype(float).to_numpy().T
    assert (np.abs(pooled - (low + high) / 2) < 0.002).all(), (
        "the interval of what it stands beside"
    )
    shares = get_shares_info(made, most=1)
    assert shares.labels[-1 if made.species["share"].min() < 0 else 1].endswith(("others", ")"))
    assert sum(shares.values) == pytest.approx(made.split.delta, abs=1e-12)
    assert shares.chance == made.split.chance.largest  # type: ignore[union-attr]
    assert get_moves_info(made).keys == made.recordings["recording"].tolist()
    assert list(species_words(made)["species"]) == list(
        made.species.sort_values("share", ascending=False)["code"]
    )
    assert len(recordings_words(made)) == 20


def test_without_evidence_that_is_said_first() -> None:
    equal = explained(0.15)
    assert not equal.shown
    assert equal.answer.startswith("Not enough evidence that strong and weak differ")
    assert f"{equal.split.delta:+.4f}" in equal.answer, "the split is still shown"
    two = [RunTables(n, build_tables(40, folds=2, run=i)) for i, n in enumerate("ab")]
    assert "no verdict on 2 folds" in explain((two[0], two[1]), {}, n_draws=0).answer


def test_runs_of_other_splits_are_explained_on_pieces() -> None:
    one = RunTables("one", build_tables(90))
    other = RunTables("other", build_tables(90, flip=True, run=1, skill=0.45))
    found = explain((one, other), {}, n_draws=0)
    assert any("other was split otherwise" in sentence for sentence in found.sentences)
    assert any("on the pieces of 3 by 3 folds" in sentence for sentence in found.sentences)
    own = RunTables("own", build_tables(90, flip=True, run=1, seeds=(5, 6)))
    assert explain((one, own), {}, n_draws=0).seeds == {"one": [0], "own": [5, 6]}


def test_what_has_no_number_is_null_in_json(made: Why) -> None:
    unsummed = replace(made, split=replace(made.split, remainder=float("nan")))
    plain = json.loads(json.dumps(_plain(unsummed, {}, []), allow_nan=False))
    assert plain["remainder"] is None and plain["delta"] == made.split.delta


def test_the_metric_and_the_number_of_recordings_are_those_asked_for(made: Why) -> None:
    by_auc = explained(metric=build_estimator("macro_auc"), n_recordings=3)
    assert by_auc.split.metric == "macro_auc" and len(by_auc.recordings) == 3
    assert by_auc.split.delta != pytest.approx(made.split.delta)
    assert by_auc.species["low"].isna().all(), "intervals are of average precision"


def test_suspects_are_marked_among_the_recordings() -> None:
    """A label that every model contradicts, in runs of three seeds."""
    runs = []
    for i, name in enumerate("ab"):
        tables = build_tables(90, seeds=(0, 1, 2), skill=0.45, run=i)
        for cell, table in tables.items():
            if "r7" in table.recordings:
                row = table.recordings.index("r7")
                targets, primary = table.targets.copy(), table.primary.copy()
                wrong = int(np.flatnonzero(~targets[row])[0])
                targets[row], primary[row] = False, wrong
                targets[row, wrong] = True
                tables[cell] = replace(table, targets=targets, primary=primary)
        runs.append(RunTables(name, tables))
    found = explain((runs[0], runs[1]), {}, n_draws=0, n_recordings=90)
    marked = found.recordings[found.recordings["suspect"] != ""]
    assert "r7" in set(marked["recording"]) and len(marked) <= 5
    assert "all 6 models get it wrong" in marked["suspect"].iloc[0]
    assert "label suspect" in recordings_words(found)
    asked = replace(found, judges=("a", "b", "0a1b2c"))
    assert _next_commands(asked, "lr:x", "lr:best") == [
        "birdlab suspects lr:x lr:best 0a1b2c --csv suspects.csv",
        "birdlab compare lr:x lr:best",
    ]
    assert found.judges == ("a", "b")


def heard(ends: list[float], window_s: float, probs: list[float], **options: Any) -> Hearing:
    end_s = np.asarray(ends)
    columns = np.stack([np.asarray(probs, np.float32), 0 * end_s.astype(np.float32)], axis=1)
    return Hearing(
        HeardFile("a.ogg", "recording", ()),
        ("wren", "robin"),
        end_s - window_s,
        end_s,
        columns,
        1,
        None,
        (),
        "wren",
        (),
        OF_FILE,
        None,
        **options,
    )


ROW = {"recording": "a.ogg", "primary": "wren", "moved": "robin, owl"}


def test_windows_of_other_lengths_are_laid_on_one_clock() -> None:
    a = heard([5, 10, 15], 5, [0.1, 0.2, 0.9])
    b = heard([10, 20], 10, [0.8, 0.1])
    both = hear_twice(ROW, a, b, ("a", "b"))
    assert (both.begin_s, both.end_s, both.codes) == (0, 20, ("wren", "robin"))
    assert both.known == {"wren"}
    assert "a 5 s every 5 s, b 10 s every 10 s" in both.notes[0]
    one, two = both.lines["wren"]
    assert (one.highest, two.highest) == (2, 0)
    # |.1-.8|, |.2-.8| and |.9-.1|: they differ most from 10 to 15 s.
    assert both.focus_s == 12.5
    xs, ys = step_line(one)
    assert xs == [0, 5, 5, 10, 10, 15] and ys == pytest.approx([0.1, 0.1, 0.2, 0.2, 0.9, 0.9])
    assert hear_twice(ROW, a, a, ("a", "b")).notes == ()


def test_a_run_with_one_probability_of_a_file_is_a_level_line() -> None:
    a, b = heard([5, 10], 5, [0.1, 0.2]), heard([5], 5, [0.7], whole=True)
    both = hear_twice(ROW, a, b, ("a", "b"))
    line = both.lines["wren"][1]
    assert (line.start_s, line.end_s) == ((0.0,), (10.0,))
    assert "b has one probability of the whole file" in both.notes[0]


def test_overlapping_windows_are_drawn_over_one_hop_each() -> None:
    a = heard([5, 7.5, 10], 5, [0.1, 0.2, 0.3])
    xs, _ = step_line(hear_twice(ROW, a, a, ("a", "b")).lines["wren"][0])
    assert xs == [0, 3.75, 3.75, 6.25, 6.25, 10]


def test_a_sound_too_large_for_a_page_is_cut_around_a_moment(tiny_demo: Path) -> None:
    path = next((tiny_demo / "train_audio").rglob("*.ogg"))
    wave = Waveform(np.arange(40 * 32_000, dtype=np.int16) % 99, 0.5, 32_000)
    uri, start_s, seconds = embed_around(path, wave, 30.0, most_bytes=10)
    assert (start_s, seconds) == (20, 20) and uri.startswith("data:audio/ogg;base64,T2dn")
    assert embed_around(path, wave, 1.0, most_bytes=10)[1:] == (0, 20)
    whole, start_s, seconds = embed_around(path, wave, 30.0)
    assert base64.b64decode(whole.partition(",")[2]) == path.read_bytes()
    assert (start_s, seconds) == (0, 40)
    assert len(cut_wave(wave, 10, 12).samples) == 2 * 32_000
    assert cut_wave(wave, 50, 60) is wave


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, trained_lab: Path) -> Lab:
    """A lab with the tiny run and a foreign one of a hostile name on the same recordings."""
    root = tmp_path_factory.mktemp("why") / "lab"
    shutil.copytree(trained_lab, root)
    lab = open_lab(root)
    plan = plan_experiment(load_spec(root / "tiny.yaml"), lab)
    table = load_oof("tiny", lab)
    probs = table.filter(like="prob/").rename(columns=lambda name: name.removeprefix("prob/"))
    noise = np.random.default_rng(0).uniform(0, 0.3, probs.shape)
    oof = pd.concat([table[["recording", "fold", "seed"]], 0.7 * probs + noise], axis=1)
    oof.to_parquet(root / "oof.parquet")
    import_foreign(lab, plan, root / "oof.parquet", HOSTILE, like=plan.spec_id)
    return lab


def test_the_page_holds_sound_and_image_of_every_recording(pair: Lab, tmp_path: Path) -> None:
    printed = print_of(pair, "why", "tiny", HOSTILE, "--recordings", "4", "--csv", str(tmp_path))
    assert max(map(len, printed.partition("Recordings that move")[2].splitlines()[:6])) <= 100
    assert (
        "p of A" in printed
        and "no verdict on 2 folds" in printed
        and "next: birdlab compare tiny" in printed
    )
    (path,) = (pair.stores / "why").glob("*.html")
    assert f"wrote {path}" in printed.replace("\n", " ")
    text = path.read_text()
    assert text.count("data:audio/ogg;base64,") == text.count("data:image/png;base64,") == 4
    assert "has one probability of the whole file" in text and "Recorded by" in text
    assert HOSTILE not in text and not re.search(r"(src|href)=.?https?:", text)
    lanes = re.findall(r"<polyline points='([^']+)'", text)
    assert len(lanes) >= 8 and all("nan" not in lane for lane in lanes)
    species = pd.read_csv(tmp_path / "species.csv")
    found = json.loads(print_of(pair, "why", "tiny", HOSTILE, "--no-page", "--json"))
    assert species["share"].sum() == pytest.approx(found["delta"], abs=1e-12)
    assert found["shown"] is False and found["written"] == []
    assert len(pd.read_csv(tmp_path / "recordings.csv")) == 4 and len(found["recordings"]) == 20
    swapped = json.loads(print_of(pair, "why", HOSTILE, "tiny", "--no-page", "--json"))
    assert swapped["delta"] == pytest.approx(-found["delta"])
    with pytest.raises(ResolveError, match="two runs"):
        print_of(pair, "why", "tiny", "tiny")
    with pytest.raises(DataError, match="does not split"):
        print_of(pair, "why", "tiny", HOSTILE, "--metric", "cmap_min5")


def test_a_page_leaves_sounds_out_rather_than_grow(
    pair: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("why", "tiny", HOSTILE, "--recordings", "4", "--html", str(tmp_path / "w.html"))
    print_of(pair, *words)
    size = (tmp_path / "w.html").stat().st_size
    monkeypatch.setattr(why_report, "PAGE_BYTES", size - 40_000)
    print_of(pair, *words)
    text = (tmp_path / "w.html").read_text()
    assert len(text) < size and why_report.LEFT_OUT in text
    assert 1 <= text.count("data:audio/ogg;base64,") < 4, "those that move least go first"
    assert text.index("data:audio") < text.index(why_report.LEFT_OUT)


def test_recordings_whose_audio_is_gone_are_shown_without(pair: Lab, tmp_path: Path) -> None:
    shutil.copytree(pair.root, tmp_path / "lab")
    (tmp_path / "lab" / "birdlab.toml").write_text("")
    lab = open_lab(tmp_path / "lab")
    print_of(lab, "why", "tiny", HOSTILE, "--recordings", "2", "--html", str(tmp_path / "w.html"))
    text = (tmp_path / "w.html").read_text()
    assert text.count("No data set of the lab names this file") == 2
    assert "<audio" not in text and text.count("<polyline") >= 4
    static = page.build_static(LabSource(lab))
    assert "nothing to play" in static and "<audio" not in static


def test_the_static_page_and_what_cannot_be_shown(pair: Lab, tmp_path: Path) -> None:
    text = page.build_static(LabSource(pair))
    assert HOSTILE not in text and "/audio?" not in text
    assert text.count("data:audio/ogg;base64,") == page.STATIC_RECORDINGS
    assert "Not enough evidence" in text and "against tiny" in text
    shutil.copytree(pair.root, tmp_path / "lab")
    lab = open_lab(tmp_path / "lab")
    (foreign,) = [p for p in lab.runs.glob("*.json") if json.loads(p.read_text())["spec"] is None]
    foreign.unlink()
    assert "It takes two runs" in page.build_static(LabSource(lab))


@pytest.fixture(scope="module")
def address(pair: Lab) -> Iterator[str]:
    with serving(LabSource(pair)) as url:
        yield url


def test_the_page_is_registered(pair: Lab) -> None:
    client = build_app(LabSource(pair)).server.test_client()
    assert client.get("/why", headers={"Host": "localhost"}).status_code == 200


@pytest.mark.browser
def test_a_click_on_a_recording_shows_and_plays_it(browser: Any, address: str) -> None:
    drawn = "document.querySelectorAll('#why-moves .bars .point').length"
    title = "[...document.querySelectorAll('.content h2')].at(-1)?.textContent"
    for width in (400, 1280):
        with sized(browser, width, dark=width == 400):
            browser.get(f"{address}/why")
            assert wait(browser, f"{ANSWER}?.startsWith('Not enough evidence') && {drawn} > 3")
            assert "<img src=x onerror" in browser.execute_script("return document.body.innerText")
            assert fits(browser) and browser.title != "owned"
    first = browser.execute_script(f"return {title}")
    key = "document.querySelector('#why-moves .js-plotly-plot').data[0].customdata[2]"
    other = browser.execute_script(f"return {key}")
    assert other != first
    browser.execute_script(
        "document.querySelector('#why-moves .js-plotly-plot').emit('plotly_click', "
        f"{{points: [{{customdata: {key}, curveNumber: 0, pointNumber: 2, data: {{}}}}]}})"
    )
    assert wait(browser, f"{title} === {json.dumps(other)}")
    browser.execute_script(
        "const a = document.querySelector('audio'); a.preload = 'auto'; a.load();"
    )
    assert wait(browser, "document.querySelector('audio')?.duration > 0.5")
    assert complaints(browser) == []


@pytest.mark.browser
def test_the_written_page_follows_its_sound(browser: Any, pair: Lab, tmp_path: Path) -> None:
    print_of(pair, "why", "tiny", HOSTILE, "--recordings", "2", "--html", str(tmp_path / "w.html"))
    with sized(browser, 400):
        browser.get((tmp_path / "w.html").as_uri())
        assert fits(browser) and browser.title != "owned"
        browser.execute_script(
            "const a = document.querySelector('audio'); a.muted = true; a.preload = 'auto';"
            "a.load(); a.currentTime = 0.5;"
        )
        place = "parseFloat(document.querySelector('.head').style.left)"
        assert wait(browser, f"{place} > 0")
        at, long = browser.execute_script(
            f"return [{place}, +document.querySelector('.heard').dataset.seconds]"
        )
        assert at == pytest.approx(50 / long, abs=0.1)
    assert complaints(browser) == []
