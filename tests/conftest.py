"""Fixtures that many tests share: a tiny competition, a tiny lab, a lab whose cells are trained.

Everything costly is made once a session and copied: the audio, the waveform store, the cells
of the tiny experiment, a migrated MLflow database.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import start_browser
from hypothesis import settings

from birdlab.data.demo import DemoSettings, build_demo
from birdlab.lab import Lab, open_lab

settings.register_profile("fixed", derandomize=True, deadline=None)
settings.load_profile("fixed")
"""The same examples every time: a run of the tests on one commit has one outcome."""

TINY_DEMO = DemoSettings(
    seed=1,
    n_species=4,
    n_recordings=24,
    rarest=3,
    n_recordists=6,
    n_backgrounds=2,
    n_soundscapes=4,
    soundscape_s=10,
    recording_s=(1.0, 6.0),
    background_s=(2.0, 3.0),
    secondary_share=0.5,
)
ABROAD_DEMO = DemoSettings(
    seed=2,
    n_species=3,
    n_recordings=9,
    rarest=2,
    n_recordists=3,
    n_backgrounds=0,
    n_soundscapes=3,
    soundscape_s=5,
    recording_s=(1.0, 2.0),
)
TINY_SPEC = """\
# A spec that trains a cell in a second.
competition: demo
data:
  base: tiny
  folds: {kind: stratified, n: 2, seed: 42}
model:
  backbone: mobilenetv3_small_050
  frontend: {n_mels: 32, hop: 2048}
  head: {hidden: 16}
train:
  window_s: 2
  length: {steps: 4}
  batch: 4
  optimizer: {kind: adam, lr: 3e-3}
augment:
  - or_mixup: {p: 0.5}
  - background: {p: 0.5, noise: [tiny]}
  - random_filtering: {p: 0.5}
  - spec_mask: {p: 0.3}
cells: {folds: all, seeds: [0]}
"""

MakeLab = Callable[..., Lab]


def pytest_configure(config: pytest.Config) -> None:
    """Let pass what MLflow's own imports warn of: it is not ours to mend."""
    for ignored in (
        "ignore:The ``noload`` loader strategy is deprecated",
        "ignore:.*:DeprecationWarning:mlflow.*",
    ):
        config.addinivalue_line("filterwarnings", ignored)


@pytest.fixture(autouse=True)
def no_lab_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the lab or the tracking server of the person who runs it."""
    for name in ("BIRDLAB_HOME", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def tiny_demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A competition of 4 species, 24 recordings of 1 to 6 s and 4 soundscapes of 10 s."""
    return build_demo(tmp_path_factory.mktemp("data") / "tiny", TINY_DEMO, jobs=1)


@pytest.fixture(scope="session")
def abroad_demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine recordings of 3 other species, to pretrain on."""
    return build_demo(tmp_path_factory.mktemp("data") / "abroad", ABROAD_DEMO, jobs=1)


@pytest.fixture(scope="session")
def hours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten unlabelled soundscapes of 10 s from the places of the tiny competition."""
    folder = tmp_path_factory.mktemp("hours") / "hours"
    return build_demo(folder, TINY_DEMO, part="unlabelled", jobs=1)


@pytest.fixture(scope="session")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled soundscapes of the tiny competition, beside those of the leaderboard."""
    folder = tmp_path_factory.mktemp("sites") / "sites"
    return build_demo(folder, TINY_DEMO, part="soundscapes", jobs=1)


@pytest.fixture(scope="session")
def empty_lab(tmp_path_factory: pytest.TempPathFactory, tiny_demo: Path, abroad_demo: Path) -> Path:
    """A lab folder in which nothing was run; `tiny-again` is the tiny competition once more."""
    root = tmp_path_factory.mktemp("lab") / "lab"
    root.mkdir()
    (root / "birdlab.toml").write_text(
        "jobs = 1\n[data]\n"
        f'tiny = "{tiny_demo}"\n"tiny-again" = "{tiny_demo}"\nabroad = "{abroad_demo}"\n'
    )
    (root / "tiny.yaml").write_text(TINY_SPEC)
    return root


@pytest.fixture(scope="session")
def trained_lab(tmp_path_factory: pytest.TempPathFactory, empty_lab: Path) -> Path:
    """A lab folder in which the tiny experiment was run. Copy it, never run in it."""
    from birdlab.run import run_experiment
    from birdlab.spec import load_spec

    root = tmp_path_factory.mktemp("trained") / "lab"
    shutil.copytree(empty_lab, root)
    run_experiment(load_spec(root / "tiny.yaml", {"name": "tiny"}), lab=open_lab(root))
    return root


@pytest.fixture(scope="session")
def mlflow_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty MLflow database; making one takes seconds."""
    from birdlab.tracking.client import connect

    lab = Lab(tmp_path_factory.mktemp("mlflow"))
    connect(lab)
    return lab.stores / "mlflow.db"


@pytest.fixture
def make_lab(tmp_path: Path, empty_lab: Path, request: pytest.FixtureRequest) -> Iterator[MakeLab]:
    """A function that makes labs of this test's own.

    `trained`: with the cells of the tiny experiment; `mlflow`: with a migrated database;
    `decoded`: with the waveforms in the store (always so when trained).
    """
    made: list[Path] = []

    def make(*, trained: bool = False, decoded: bool = True, mlflow: bool = False) -> Lab:
        root = tmp_path / f"lab{len(made)}"
        made.append(root)
        source = request.getfixturevalue("trained_lab") if trained or decoded else empty_lab
        kept: Any = None if trained else shutil.ignore_patterns("cells", "runs")
        shutil.copytree(source, root, ignore=kept)
        lab = open_lab(root)
        if mlflow:
            lab.stores.mkdir(exist_ok=True)
            shutil.copy(request.getfixturevalue("mlflow_database"), lab.stores / "mlflow.db")
        return lab

    yield make


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Headless Chromium without a network; `browser.downloads` is where its files arrive.

    tests/browsing.py says what to do with it. One a session: a test leaves no window size and no
    unread complaint behind.
    """
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    if not chromium or not driver:
        reason = "no browser: chromium and chromedriver are not installed"
        if os.environ.get("BIRDLAB_REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    opened = start_browser(tmp_path_factory.mktemp("browser"))
    yield opened
    opened.quit()
