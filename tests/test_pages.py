"""The pages Species, Listen and Ensemble over a real lab, and what a browser makes of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd
import pytest
from browsing import HOSTILE, choose, complaints, fits, save, serving, sized, wait

from birdlab.heldout import score_soundscapes
from birdlab.lab import Lab, open_lab
from birdlab.plan import plan_experiment
from birdlab.spec import load_spec
from birdlab.tracking.readback import load_oof
from birdlab.upkeep.foreign import import_foreign
from dashboards import ensemble, listen, species
from dashboards.app import build_app
from dashboards.source import LabSource

LOCAL = {"Host": "localhost"}
ANSWER = "document.querySelector('.answer')?.textContent"
CONTENT = "document.querySelector('.content')?.textContent"
DURATION = "document.querySelector('audio')?.duration"
LOAD_SOUND = "const a = document.querySelector('audio'); a.preload = 'auto'; a.load();"


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory: pytest.TempPathFactory, trained_lab: Path) -> Lab:
    """A lab with the tiny run, which heard its soundscapes, and after it a foreign one with
    recordings predicted a little worse and a hostile name."""
    root = tmp_path_factory.mktemp("pages") / "lab"
    shutil.copytree(trained_lab, root)
    lab = open_lab(root)
    plan = plan_experiment(load_spec(root / "tiny.yaml"), lab)
    score_soundscapes(plan, lab)
    table = load_oof("tiny", lab)
    probs = table.filter(like="prob/").rename(columns=lambda name: name.removeprefix("prob/"))
    noise = np.random.default_rng(0).uniform(0, 0.3, probs.shape)
    oof = pd.concat([table[["recording", "fold", "seed"]], 0.7 * probs + noise], axis=1)
    oof.to_parquet(root / "oof.parquet")
    import_foreign(lab, plan, root / "oof.parquet", HOSTILE, like=plan.spec_id)
    return lab


@pytest.fixture(scope="module")
def address(two_runs: Lab) -> Iterator[str]:
    with serving(LabSource(two_runs)) as url:
        yield url


@pytest.fixture(scope="module")
def tiny(two_runs: Lab) -> str:
    """The id of the run that heard soundscapes."""
    source = LabSource(two_runs)
    runs = source.tables().runs
    return str(runs.loc[runs["name"] == "tiny", "run"].iloc[0])


def test_sounds_are_served_by_data_set_and_name(two_runs: Lab) -> None:
    client = build_app(LabSource(two_runs)).server.test_client()
    root = two_runs.dataset_root("tiny")
    file = min((root / "soundscapes").iterdir())
    asked = f"/audio?dataset=tiny&kind=soundscape&file={file.name}"
    whole = client.get(asked, headers=LOCAL, buffered=True)
    assert (whole.status_code, whole.mimetype) == (200, "audio/ogg")
    assert whole.data == file.read_bytes()
    part = client.get(asked, headers=LOCAL | {"Range": "bytes=10-19"}, buffered=True)
    assert (part.status_code, part.data) == (206, file.read_bytes()[10:20])
    assert client.get(asked, headers={"Host": "evil.example"}).status_code == 403
    for query in (
        "",
        "dataset=tiny&kind=soundscape&file=../train_metadata.csv",
        f"dataset=tiny&kind=soundscape&file={quote(str(file))}",
        f"dataset=tiny&kind=recording&file={file.name}",
        f"dataset=nothing&kind=soundscape&file={file.name}",
        "dataset=tiny&kind=soundscape&file=%00",
    ):
        refused = client.get(f"/audio?{query}", headers=LOCAL)
        assert (refused.status_code, refused.mimetype) == (404, "text/plain"), query
        assert str(root) not in refused.text


def test_the_exported_pages_hold_text_sound_and_no_links(two_runs: Lab, tiny: str) -> None:
    source = LabSource(two_runs)
    texts = {page.FILE: page.build_static(source) for page in (species, listen, ensemble)}
    for name, text in texts.items():
        assert HOSTILE not in text and "/audio?" not in text and "/listen?" not in text, name
    assert texts["listen.html"].count("data:audio/ogg;base64,") == 2
    assert "has no stored outputs of soundscapes" in texts["listen.html"]
    assert "The mean of 2 runs scores" in texts["ensemble.html"]


def test_without_audio_everything_but_the_player_is_there(two_runs: Lab, tmp_path: Path) -> None:
    root = two_runs.dataset_root("tiny")
    shutil.copytree(root, tmp_path / "tables", ignore=shutil.ignore_patterns("*.ogg"))
    shutil.copytree(two_runs.root, tmp_path / "lab")
    (tmp_path / "lab" / "birdlab.toml").write_text('[data]\ntiny = "../tables"\n')
    text = listen.build_static(LabSource(open_lab(tmp_path / "lab")))
    assert "Nothing to play: the audio file is not there." in text
    assert "<audio" not in text and "Every window" in text and "Plotly.newPlot" in text
    shutil.copytree(root, tmp_path / "torn", copy_function=_write_no_audio)
    (tmp_path / "lab" / "birdlab.toml").write_text('[data]\ntiny = "../torn"\n')
    torn = listen.build_static(LabSource(open_lab(tmp_path / "lab")))
    assert "No image of the sound" in torn and "Nothing to play" in torn and "Every window" in torn
    (tmp_path / "lab" / "birdlab.toml").write_text("")
    nowhere = listen.build_static(LabSource(open_lab(tmp_path / "lab")))
    assert "No data set of the lab names this file" in nowhere and "Every window" in nowhere


def _write_no_audio(source: str, target: str) -> None:
    """Copy a table as it is, and something that is no audio for a recording."""
    content = Path(source).read_bytes()
    Path(target).write_bytes(b"no audio" if source.endswith(".ogg") else content)


@pytest.mark.browser
def test_a_species_page_leads_to_a_sound(browser: Any, address: str, tiny: str) -> None:
    browser.get(f"{address}/species")
    assert wait(browser, f"{ANSWER}?.includes('<img src=x onerror') && {ANSWER}.includes(' tiny')")
    assert wait(browser, "document.querySelectorAll('.scatterlayer .point').length > 1")
    first = browser.execute_script(f"return {ANSWER}")
    choose(browser, "species-other", "no other run")
    assert wait(browser, "location.search.includes('other=none')")
    assert wait(browser, f"{CONTENT} && !{CONTENT}.includes('Better and worse')")
    browser.back()
    assert wait(browser, f"{ANSWER} === {json.dumps(first)}")
    browser.get(f"{address}/species?run={tiny}")
    assert wait(browser, f"{ANSWER}?.startsWith('tiny knows')")
    table = save(browser, "button[data-name='species-table']").read_text()
    assert table.startswith("code,support,ap,floor,above,auc") and len(table.splitlines()) == 5
    link = browser.execute_script("return document.querySelector('.content a[href*=listen]').href")
    browser.get(link)
    assert wait(browser, f"{ANSWER}?.startsWith('tiny hears')")
    browser.execute_script(LOAD_SOUND)
    assert wait(browser, f"{DURATION} > 0.5")
    assert complaints(browser) == []


@pytest.mark.browser
def test_a_soundscape_is_shown_and_played(browser: Any, address: str, tiny: str) -> None:
    browser.get(f"{address}/listen")
    assert wait(browser, "document.querySelectorAll('.heatmaplayer image').length === 2")
    choose(browser, "listen-kind", "soundscapes")
    assert wait(browser, f"{ANSWER}?.includes('birdlab lb score')")
    browser.get(f"{address}/listen?run={tiny}&kind=soundscape")
    assert wait(browser, f"{ANSWER}?.includes('.ogg')")
    assert wait(browser, f"{CONTENT}.includes('the mean of 2 models of the run')")
    assert wait(browser, "document.querySelectorAll('.heatmap-label').length > 4")
    browser.execute_script(LOAD_SOUND)
    assert wait(browser, f"Math.round({DURATION}) === 10")
    shown = browser.execute_script(f"return {ANSWER}")
    box = browser.find_element("id", "listen-text")
    box.send_keys("no such file")
    assert wait(browser, f"{ANSWER}.startsWith('None of') && {ANSWER}.includes('no such file')")
    browser.back()
    assert wait(browser, f"{ANSWER} === {json.dumps(shown)}")
    assert complaints(browser) == []
    windows = save(browser, "button[data-name='listen-windows-table']").read_text()
    assert windows.startswith("start_s,end_s,") and len(windows.splitlines()) == 3


@pytest.mark.browser
def test_members_may_be_chosen(browser: Any, address: str, tiny: str) -> None:
    browser.get(f"{address}/ensemble")
    assert wait(browser, f"{ANSWER}?.startsWith('The mean of 2 runs')")
    assert wait(browser, "document.querySelectorAll('.heatmap-label').length === 4")
    assert wait(browser, f"{CONTENT}.includes('birdlab promote')")
    browser.get(f"{address}/ensemble?runs={tiny}")
    assert wait(browser, f"{ANSWER}?.startsWith('tiny alone scores')")
    assert complaints(browser) == []


@pytest.mark.browser
@pytest.mark.parametrize("width", [400, 1280])
def test_pages_fit_and_names_are_text(browser: Any, address: str, width: int) -> None:
    with sized(browser, width, dark=width == 400):
        for page in (species, listen, ensemble):
            browser.get(address + page.PATH)
            assert wait(browser, "!!document.querySelector('.content .js-plotly-plot .main-svg')")
            assert "<img src=x onerror" in browser.execute_script("return document.body.innerText")
            assert browser.execute_script("return document.images.length") == 0
            assert browser.title != "owned" and fits(browser), page.PATH
    assert complaints(browser) == []


@pytest.mark.browser
def test_exported_pages_play_without_a_server(browser: Any, two_runs: Lab, tmp_path: Path) -> None:
    from dashboards.app import export_static

    export_static(LabSource(two_runs), tmp_path)
    browser.get((tmp_path / "listen.html").as_uri())
    assert wait(browser, "document.querySelectorAll('.heatmaplayer image').length >= 4")
    browser.execute_script(LOAD_SOUND)
    assert wait(browser, f"{DURATION} > 0.5")
    entries = "performance.getEntriesByType('resource').map(e => e.name)"
    fetched = browser.execute_script(f"return {entries}")
    assert [name for name in fetched if name.startswith("http")] == []
    assert complaints(browser) == []
