"""The demo competition: the same from the same seed, whole or absent, and true to its labels."""

from __future__ import annotations

import ast
import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from birdlab.data.demo import DemoSettings, build_demo, find_mislabelled, find_truth, generate
from birdlab.data.demo.environment import EVENTS, render_event
from birdlab.data.demo.oggfile import write_ogg
from birdlab.data.demo.parts import CLIPS_PER_EVENT, PHONE_RATES_HZ, build_part
from birdlab.data.demo.places import BAND_HZ, draw_place, render_noise
from birdlab.data.demo.rendering import (
    AUDIBLE_S,
    FRAME_S,
    Singer,
    find_audible,
    mark_windows,
    render_plan,
    render_singer,
)
from birdlab.data.demo.settings import SAMPLE_RATE_HZ, build_generator
from birdlab.data.demo.songs import FAMILIES, draw_grammar, draw_lookalike, draw_voice, render_song
from birdlab.data.demo.tables import METADATA_COLUMNS
from birdlab.data.demo.world import build_world, count_long_tail
from birdlab.data.sources import load_source
from birdlab.errors import LabError, SpecError
from birdlab.lab import BUILT_IN_DATA, Lab
from birdlab.spec.sources import DemoSource

SMALL = DemoSettings(
    seed=1,
    n_species=4,
    n_recordings=12,
    n_recordists=3,
    n_backgrounds=2,
    n_soundscapes=3,
    soundscape_s=20,
    recording_s=(1.0, 8.0),
    background_s=(2.0, 3.0),
    secondary_share=0.8,
    unknown_author_share=0.3,
)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_demo(tmp_path_factory.mktemp("lab") / "demo", SMALL, jobs=1)


def hash_folder(root: Path) -> dict[str, str]:
    files = sorted(p for p in root.rglob("*") if p.is_file())
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def read_table(root: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(root / name, dtype={"primary_label": str})


def test_equal_settings_give_equal_bytes_whatever_the_number_of_jobs(
    demo: Path, tmp_path: Path
) -> None:
    again = build_demo(tmp_path / "again", SMALL, jobs=2)
    assert hash_folder(again) == hash_folder(demo)


def test_another_seed_gives_another_competition(tmp_path: Path, demo: Path) -> None:
    other = build_demo(tmp_path / "other", replace(SMALL, seed=2, soundscape_s=5), jobs=1)
    assert build_world(replace(SMALL, seed=2)).codes != build_world(SMALL).codes
    assert set(hash_folder(other).values()).isdisjoint(hash_folder(demo).values())


def test_default_world_is_long_tailed_and_large_enough() -> None:
    world = build_world(DemoSettings())
    plans = pd.DataFrame([vars(plan) for plan in world.recordings])
    counts = plans["primary"].value_counts()
    assert len(plans) == 252 and len(counts) == 12
    assert counts.min() == 2 and counts.max() >= 60
    assert plans["duration_s"].sum() >= 40 * 60
    assert plans["duration_s"].between(1, 30).all()
    assert plans["filename"].is_unique
    per_pair = plans.groupby(["recordist", "primary"]).size()
    assert (per_pair >= 3).sum() >= 10
    assert 0 < (plans["author"] == "").mean() < 0.2
    assert len(world.lookalikes) == 3
    assert [sum(s.split == x for s in world.soundscapes) for x in ("public", "private")] == [8, 10]
    assert len(world.backgrounds) >= 12
    for split in ("public", "private", "unlabelled"):
        sung = {code for s in world.soundscapes if s.split == split for code in s.species}
        assert sung == set(world.codes)


@given(st.integers(2, 40), st.integers(1, 5), st.integers(0, 400))
def test_long_tail_adds_up_and_never_rises(n_species: int, rarest: int, extra: int) -> None:
    counts = count_long_tail(n_species, n_species * rarest + extra, rarest)
    assert sum(counts) == n_species * rarest + extra
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] >= rarest


def test_tables_read_as_a_competition(demo: Path) -> None:
    table = read_table(demo, "train_metadata.csv")
    taxonomy = read_table(demo, "taxonomy.csv")
    codes = sorted(table["primary_label"].unique())
    assert tuple(table.columns) == METADATA_COLUMNS
    assert len(table) == 12 and taxonomy["primary_label"].tolist() == codes
    assert table["author"].isna().any()
    assert table["url"].str.extract(r"(\d+)$")[0].is_unique
    for row in table.itertuples():
        secondary = ast.literal_eval(str(row.secondary_labels))
        assert set(secondary) <= set(codes) - {row.primary_label}
        info = soundfile.info(demo / "train_audio" / str(row.filename))
        assert (info.samplerate, info.channels, info.subtype) == (32_000, 1, "VORBIS")
        assert info.duration == pytest.approx(row.duration_s, abs=1e-4)
        assert str(row.filename).startswith(f"{row.primary_label}/")
    assert table["secondary_labels"].ne("[]").any()


def test_soundscape_tables_agree(demo: Path) -> None:
    scapes, labels = read_table(demo, "soundscapes.csv"), read_table(demo, "soundscape_labels.csv")
    sample, codes = read_table(demo, "sample_submission.csv"), list(build_world(SMALL).codes)
    assert sorted(scapes["split"]) == ["private", "public", "unlabelled"]
    assert list(labels.columns) == list(sample.columns) == ["row_id", *codes]
    stems = {s: Path(f).stem for f, s in zip(scapes["filename"], scapes["split"], strict=True)}
    rows = {s: [f"{stem}_{end}" for end in (5, 10, 15, 20)] for s, stem in stems.items()}
    assert labels["row_id"].tolist() == rows["public"] + rows["private"]
    assert sample["row_id"].tolist() == rows["public"]
    assert (sample[codes] == 1 / len(codes)).all(axis=None)
    assert labels[codes].isin([0, 1]).all(axis=None)
    assert labels[codes].sum().sum() > 0
    for name in scapes["filename"]:
        assert soundfile.info(demo / "soundscapes" / name).frames == 20 * SAMPLE_RATE_HZ
    background = read_table(demo, "background.csv")
    for row in background.itertuples():
        info = soundfile.info(demo / "background" / str(row.filename))
        assert info.duration == pytest.approx(row.duration_s, abs=1e-4)


def test_a_labelled_window_holds_more_of_the_song_than_an_empty_one() -> None:
    rng = build_generator(3, "truth")
    grammar = draw_grammar(rng, "whistle")
    place = draw_place(rng)
    singer = Singer(grammar, draw_voice(rng, grammar, 1.0), 10.0, 0.5)
    n = 20 * SAMPLE_RATE_HZ
    track = render_singer(singer, n, 5 * SAMPLE_RATE_HZ, 8 * SAMPLE_RATE_HZ, place, 6.0, rng)
    present = mark_windows(find_audible(track, 1.0), 4)
    energy = np.square(track).reshape(4, -1).sum(axis=1)
    assert present.tolist()[:2] == [False, True] and not present[3]
    assert energy[0] == 0 and energy[1] > 100 * max(energy[3], 1.0)
    assert not find_audible(track * np.float32(0.01), 1.0).any()


@given(st.lists(st.booleans(), min_size=1, max_size=130))
def test_window_truth_counts_audible_frames(frames: list[bool]) -> None:
    truth = mark_windows(np.array(frames), 3)
    for window in range(3):
        seconds = sum(frames[50 * window : 50 * window + 50]) * FRAME_S
        assert truth[window] == (seconds > AUDIBLE_S - FRAME_S / 2)


def test_primary_species_can_be_heard_in_nearly_every_default_recording() -> None:
    settings = DemoSettings()
    plans = [p for p in build_world(settings).recordings if p.duration_s < 4][:25]
    heard = [render_plan(settings, plan).audible[plan.primary].sum() * FRAME_S for plan in plans]
    assert np.mean(np.array(heard) >= 0.3) >= 0.9


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_songs_of_a_family(family: str) -> None:
    for draw in range(5):
        rng = build_generator(draw, family)
        grammar = draw_grammar(rng, family)
        song = render_song(grammar, draw_voice(rng, grammar, 1.0), rng)
        assert song.dtype == np.float32 and np.isfinite(song).all()
        assert 0.15 < len(song) / SAMPLE_RATE_HZ < 6
        power = np.abs(np.fft.rfft(song)) ** 2
        hz = np.fft.rfftfreq(len(song), 1 / SAMPLE_RATE_HZ)
        assert power[(hz > 500) & (hz < 15_000)].sum() > 0.95 * power.sum()


def test_lookalikes_share_the_pitch_and_differ_in_time() -> None:
    rng = build_generator(0, "pair")
    grammar = draw_grammar(rng, "sweep")
    twin = draw_lookalike(rng, grammar, likeness=0.6)
    pitches = sorted([p.start_hz for p in grammar.phrases] + [p.end_hz for p in grammar.phrases])
    copies = sorted([p.start_hz for p in twin.phrases] + [p.end_hz for p in twin.phrases])
    assert np.allclose(np.log2(np.divide(copies, pitches)), 0, atol=0.1)
    mine = [p.length_s for p in grammar.phrases]
    others = [p.length_s for p in reversed(twin.phrases)]
    assert abs(np.log2(np.divide(mine, others))).min() > 0.2


def test_noise_has_unit_power_in_the_song_band() -> None:
    rng = build_generator(0, "noise")
    place = replace(draw_place(rng), gusts=0.0, hum_hz=0.0, insect_hz=0.0)
    noise = render_noise(place, 4 * SAMPLE_RATE_HZ, rng)
    spectrum = np.abs(np.fft.rfft(noise)) ** 2
    hz = np.fft.rfftfreq(len(noise), 1 / SAMPLE_RATE_HZ)
    in_band = (hz >= BAND_HZ[0]) & (hz <= BAND_HZ[1])
    assert 2 * spectrum[in_band].sum() / len(noise) ** 2 == pytest.approx(1.0, rel=0.05)


def test_ogg_bytes_follow_from_the_samples(tmp_path: Path) -> None:
    wave = build_generator(0, "ogg").normal(0, 0.1, 25 * SAMPLE_RATE_HZ).astype(np.float32)
    write_ogg(tmp_path / "a.ogg", wave)
    write_ogg(tmp_path / "b.ogg", wave)
    assert (tmp_path / "a.ogg").read_bytes() == (tmp_path / "b.ogg").read_bytes()
    decoded, rate = soundfile.read(tmp_path / "a.ogg", dtype="float32")
    assert rate == SAMPLE_RATE_HZ and len(decoded) == len(wave)
    assert np.corrcoef(decoded, wave)[0, 1] > 0.7


def test_equal_settings_are_not_made_again(demo: Path) -> None:
    calls: list[tuple[int, int]] = []
    before = {p: p.stat().st_mtime_ns for p in demo.rglob("*")}
    build_demo(demo, SMALL, jobs=1, progress=lambda done, total: calls.append((done, total)))
    assert calls == []
    assert {p: p.stat().st_mtime_ns for p in demo.rglob("*")} == before


def test_other_settings_replace_the_demo(tmp_path: Path) -> None:
    tiny = replace(SMALL, n_recordings=8, soundscape_s=5)
    root = build_demo(tmp_path / "demo", tiny, jobs=1)
    build_demo(root, replace(tiny, n_recordings=9), jobs=1)
    assert len(read_table(root, "train_metadata.csv")) == 9
    assert [p.name for p in tmp_path.iterdir()] == ["demo"]


def test_an_interrupted_generation_leaves_nothing(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    tiny = replace(SMALL, n_recordings=8, soundscape_s=5)
    for jobs in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            build_demo(tmp_path / "demo", tiny, jobs=jobs, progress=stop)
        assert list(tmp_path.iterdir()) == []


def test_a_folder_of_something_else_is_kept(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "thesis.txt").write_text("mine")
    with pytest.raises(LabError, match="something else"):
        build_demo(tmp_path / "demo", SMALL, jobs=1)
    assert (tmp_path / "demo" / "thesis.txt").read_text() == "mine"
    (tmp_path / "demo" / generate.MANIFEST).write_text("{half")
    with pytest.raises(LabError):
        build_demo(tmp_path / "demo", SMALL, jobs=1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"n_species": 1},
        {"n_recordings": 10},
        {"soundscape_s": 7},
        {"recording_s": (5.0, 2.0)},
        {"n_soundscapes": 2},
        {"seed": -1},
    ],
)
def test_settings_that_cannot_be_met_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(SpecError):
        DemoSettings(**wrong)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The data sets that go with the small competition."""
    root = tmp_path_factory.mktemp("parts")
    names = ("environment", "soundscapes", "unlabelled", "phones")
    return {part: build_demo(root / part, SMALL, part=part, jobs=1) for part in names}  # type: ignore[arg-type]


def test_the_built_in_data_sets_are_those_of_the_demo(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    assert {lab.source(name) for name in ("demo", "demo-abroad")} == {
        DemoSource(path="mlruns/demo/demo"),
        DemoSource(path="mlruns/demo/demo-abroad", seed=1),
    }
    for part in ("environment", "soundscapes", "unlabelled", "phones", "mislabelled"):
        name = f"demo-{part}"
        assert lab.source(name) == DemoSource(path=f"mlruns/demo/{name}", part=part)
    assert len(BUILT_IN_DATA) == 7


def test_equal_settings_give_equal_parts(tmp_path: Path, parts: dict[str, Path]) -> None:
    for part, root in parts.items():
        before = {p: p.stat().st_mtime_ns for p in root.rglob("*")}
        build_demo(root, SMALL, part=part, jobs=1)  # type: ignore[arg-type]
        assert {p: p.stat().st_mtime_ns for p in root.rglob("*")} == before
    again = build_demo(tmp_path / "again", SMALL, part="phones", jobs=1)
    assert hash_folder(again) == hash_folder(parts["phones"])
    build_demo(tmp_path / "again", SMALL, part="environment", jobs=1)
    assert hash_folder(tmp_path / "again") == hash_folder(parts["environment"])


def test_environment_holds_clips_of_every_event_and_is_background(parts: dict[str, Path]) -> None:
    root = parts["environment"]
    listed = read_table(root, "background.csv")
    assert listed["label"].value_counts().to_dict() == dict.fromkeys(EVENTS, CLIPS_PER_EVENT)
    waves = [soundfile.read(root / "background" / name)[0] for name in listed["filename"]]
    assert {len(wave) for wave in waves} == {5 * SAMPLE_RATE_HZ}
    assert all(0.1 < np.abs(wave).max() <= 1 for wave in waves)
    assert len({wave.tobytes() for wave in waves}) == len(waves)


def test_environment_sounds_are_what_they_are_called() -> None:
    def measure(kind: str) -> tuple[float, float]:
        """Spectral centroid in Hz; the loudest over the median 20 ms, in dB."""
        wave = render_event(kind, 5 * SAMPLE_RATE_HZ, build_generator(0, kind))
        power = np.abs(np.fft.rfft(wave)) ** 2
        hz = np.fft.rfftfreq(len(wave), 1 / SAMPLE_RATE_HZ)
        frames = np.mean(wave.reshape(-1, 640).astype(np.float64) ** 2, axis=1)
        crest_db = 10 * np.log10(frames.max() / np.median(frames))
        return float((hz * power).sum() / power.sum()), float(crest_db)

    centroid_hz, crest_db = zip(*map(measure, EVENTS), strict=True)
    pitch, crest = dict(zip(EVENTS, centroid_hz)), dict(zip(EVENTS, crest_db))  # noqa: B905
    assert pitch["wind"] < 500 < pitch["siren"] < pitch["rain"]
    assert pitch["engine"] < pitch["siren"] < pitch["clock_tick"]
    sudden = {"footsteps", "clock_tick", "door_knock", "crackling_fire"}
    steady = {"rain", "engine", "siren"}
    assert min(crest[kind] for kind in sudden) > 10 > max(crest[kind] for kind in steady)


def test_training_soundscapes_are_no_leaderboards(parts: dict[str, Path], demo: Path) -> None:
    lab = parts["soundscapes"].parent
    dataset = load_source(DemoSource(path="soundscapes"), "mine", parts["soundscapes"], lab)
    assert set(dataset.soundscapes["split"]) == {"train"}
    assert list(dataset.class_list) == list(build_world(SMALL).codes)
    labels = dataset.soundscape_labels
    assert len(labels) == 4 * len(dataset.soundscapes)
    assert labels[list(dataset.class_list)].sum().sum() > 0
    theirs = set(read_table(demo, "soundscapes.csv")["filename"])
    assert theirs.isdisjoint(dataset.soundscapes["filename"])
    ours = {plan.site for plan in build_part(SMALL, "soundscapes").soundscapes}
    assert ours.isdisjoint(plan.site for plan in build_world(SMALL).soundscapes)
    assert not (parts["soundscapes"] / "sample_submission.csv").exists()


def test_unlabelled_soundscapes_are_those_sites_at_other_hours(
    parts: dict[str, Path], demo: Path
) -> None:
    lab = parts["unlabelled"].parent
    dataset = load_source(DemoSource(path="unlabelled"), "more", parts["unlabelled"], lab)
    assert len(dataset.soundscapes) == 7 and set(dataset.soundscapes["split"]) == {"unlabelled"}
    assert dataset.soundscape_labels.empty and dataset.annotations.empty
    assert not list(parts["unlabelled"].glob("*label*"))
    theirs = set(read_table(demo, "soundscapes.csv")["filename"])
    assert theirs.isdisjoint(dataset.soundscapes["filename"])
    waves = {soundfile.read(path)[0].tobytes() for path in dataset.soundscapes["path"]}
    theirs_too = {soundfile.read(path)[0].tobytes() for path in (demo / "soundscapes").iterdir()}
    assert len(waves) == 7 and waves.isdisjoint(theirs_too)
    for settings in (SMALL, DemoSettings()):
        scored = {p.site for p in build_world(settings).soundscapes if p.split != "unlabelled"}
        plans = build_part(settings, "unlabelled").soundscapes
        assert {plan.site for plan in plans} == scored
        assert {code for plan in plans for code in plan.species} == set(build_world(settings).codes)
    assert len(plans) == 60 and {plan.duration_s for plan in plans} == {60.0}


def test_what_unlabelled_soundscapes_hold_is_known_to_whoever_asks(demo: Path) -> None:
    truth, codes = find_truth(SMALL), list(build_world(SMALL).codes)
    plans = build_part(SMALL, "unlabelled").soundscapes
    ids = [f"{Path(p.filename).stem}_{end}" for p in plans for end in (5, 10, 15, 20)]
    assert truth["row_id"].tolist() == ids and list(truth.columns) == ["row_id", *codes]
    stems = truth["row_id"].str.rpartition("_")[0]
    for plan in plans:
        sung = truth.loc[stems == Path(plan.filename).stem, codes].max()
        assert set(sung[sung > 0].index) <= set(plan.species)
    assert 0.05 < truth[codes].to_numpy().mean() < 0.95
    known = read_table(demo, "soundscape_labels.csv").set_index("row_id")
    again = find_truth(SMALL, "competition").set_index("row_id")
    assert (again.loc[known.index, codes] == known[codes]).all(axis=None)


def test_phones_record_the_same_species_at_lower_rates(parts: dict[str, Path], demo: Path) -> None:
    lab = parts["phones"].parent
    dataset = load_source(DemoSource(path="phones"), "phones", parts["phones"], lab)
    rows, theirs = dataset.recordings, read_table(demo, "train_metadata.csv")
    assert set(rows["primary_label"]) == set(theirs["primary_label"])
    assert set(rows["recording"]).isdisjoint(theirs["filename"])
    assert set(rows["author"]).isdisjoint(theirs["author"].dropna())
    planned = {plan.filename: plan for plan in build_part(SMALL, "phones").recordings}
    for name, path in zip(rows["recording"], rows["path"], strict=True):
        info = soundfile.info(path)
        assert info.samplerate == planned[name].rate_hz
        assert info.duration == pytest.approx(planned[name].duration_s, abs=1e-3)
    rates = [plan.rate_hz for plan in build_part(DemoSettings(), "phones").recordings]
    assert len(rates) == 126 and set(rates) == set(PHONE_RATES_HZ)
    assert 0.35 < np.mean(np.array(rates) < SAMPLE_RATE_HZ) < 0.65


def test_planted_labels_are_wrong_and_known_and_make_no_audio_anew(
    demo: Path, tmp_path: Path
) -> None:
    before = hash_folder(demo)
    linked = build_demo(demo.with_name("wrong"), SMALL, part="mislabelled", jobs=1)
    apart = build_demo(tmp_path / "wrong", SMALL, part="mislabelled", jobs=1)
    assert hash_folder(linked) == hash_folder(apart)
    assert hash_folder(demo) == before
    planted = find_mislabelled(SMALL)
    assert len(planted) == 1
    right, wrong = (
        read_table(root, "train_metadata.csv").set_index("filename") for root in (demo, linked)
    )
    moved = dict(zip(planted["recording"], planted["moved_from"], strict=True))
    assert list(wrong.index) == sorted(wrong.index)
    for name, row in wrong.iterrows():
        was = right.loc[moved.get(name, name)]
        ours, theirs = (
            root / "train_audio" / file
            for root, file in ((linked, name), (demo, moved.get(name, name)))
        )
        assert ours.samefile(theirs)
        changed = {
            column for column in wrong if row[column] != row[column] or row[column] != was[column]
        }
        if name not in moved:
            assert changed <= {"author"}  # an empty one is equal to nothing
            continue
        assert {"primary_label", "scientific_name", "common_name"} <= changed
        assert row["primary_label"] not in (
            was["primary_label"],
            *ast.literal_eval(was["secondary_labels"]),
        )


def test_half_of_the_planted_labels_are_look_alikes() -> None:
    planted, world = find_mislabelled(DemoSettings()), build_world(DemoSettings())
    assert len(planted) == 20 and planted["recording"].is_unique
    alike = {frozenset(pair) for pair in world.lookalikes}
    pairs = [frozenset(pair) for pair in zip(planted["given"], planted["true"], strict=True)]
    assert [pair in alike for pair in pairs] == list(planted["how"] == "look-alike")
    assert (planted["how"] == "look-alike").sum() == 10
    heard = {plan.filename: plan for plan in world.recordings}
    for row in planted.itertuples():
        assert heard[row.moved_from].primary == row.true
        assert row.given not in heard[row.moved_from].background
