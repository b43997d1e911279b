"""The lab file: where it is found, what it may say, names and paths."""

from __future__ import annotations

from pathlib import Path

import pytest

from birdlab.errors import LabError, SpecError
from birdlab.lab import open_lab


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "lab"
    (root / "deep" / "er").mkdir(parents=True)
    (root / "birdlab.toml").write_text(
        'jobs = 3\n[data]\nbirds = "data/birds"\nfar = "/far/away"\n[weights]\nw = "w.pth"\n'
    )
    return root


def test_the_lab_is_named_or_from_the_environment_or_a_parent_or_here(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root / "deep" / "er")
    assert open_lab().root == root
    monkeypatch.setenv("BIRDLAB_HOME", str(tmp_path))
    assert open_lab().root == tmp_path
    assert open_lab(root).root == root
    monkeypatch.delenv("BIRDLAB_HOME")
    monkeypatch.chdir(tmp_path)
    assert open_lab().root == tmp_path
    with pytest.raises(LabError, match="not a folder"):
        open_lab(tmp_path / "nowhere")


def test_stores_lie_in_mlruns_and_can_be_moved(root: Path) -> None:
    lab = open_lab(root)
    for place in (lab.cells, lab.runs, lab.waves, lab.models, lab.ledger, lab.artifacts):
        assert place.parent == root / "mlruns"
    assert lab.tracking_uri == f"sqlite:///{root}/mlruns/mlflow.db"
    assert lab.jobs == 3
    (root / "birdlab.local.toml").write_text('jobs = 1\nstores = "big"\n[data]\nbirds = "b"\n')
    lab = open_lab(root)
    assert (lab.jobs, lab.cells) == (1, root / "big" / "cells")
    assert lab.dataset_root("birds") == root / "b"
    assert lab.dataset_root("far") == Path("/far/away"), "an overlay keeps the other names"


def test_a_tracking_server_comes_from_the_file_before_the_environment(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://there:5000")
    assert open_lab(root).tracking_uri == "http://there:5000"
    (root / "birdlab.local.toml").write_text('tracking_uri = "http://mine:5000"\n')
    assert open_lab(root).tracking_uri == "http://mine:5000"


def test_unknown_names_come_with_the_nearest(root: Path) -> None:
    lab = open_lab(root)
    assert lab.dataset_root("demo") == root / "mlruns" / "demo" / "demo"
    with pytest.raises(LabError, match="did you mean 'birds'") as caught:
        lab.dataset_root("bird")
    assert "[data]: bird =" in str(caught.value)
    with pytest.raises(LabError, match="did you mean 'w'"):
        lab.weights_path("ww")
    with pytest.raises(LabError, match="are not there"):
        lab.weights_path("w")
    (root / "w.pth").touch()
    assert lab.weights_path("w") == root / "w.pth"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("jobs = ", "cannot be read"),
        ("jobs = " + "1" * 5_000, "cannot be read"),
        ("jobs = 0", "jobs: got 0"),
        ("jbos = 1", "did you mean 'jobs'"),
        ('[data.own]\nkind = "table"\npath = "x"\nfile = "i.csv"\naudios = "y"', "mean 'audio'"),
        ("[data]\nbirds = 3", "data.birds"),
        ('[data]\n"a b" = "x"', "data.a b"),
        ('extensions = "x.py"', "extensions"),
        ('extensions = ["x.py"]', "an extension cannot be read"),
        ("data = 1", "data"),
        ('stores = ["a"]', "stores"),
    ],
)
def test_what_a_lab_file_may_not_say(tmp_path: Path, text: str, part: str) -> None:
    (tmp_path / "birdlab.toml").write_text(text)
    with pytest.raises((LabError, SpecError)) as caught:
        open_lab(tmp_path)
    assert part in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_extensions_are_loaded_and_their_faults_named(tmp_path: Path) -> None:
    (tmp_path / "birdlab.toml").write_text('extensions = ["bad.py"]')
    for source, part in (
        ("1 / 0", "ZeroDivisionError"),
        ("def", "SyntaxError"),
        ("import birdlab.spec.kinds as k\n@k.register('augmentations')\nclass A: pass", "family"),
    ):
        (tmp_path / "bad.py").write_text(source)
        with pytest.raises(SpecError, match=part):
            open_lab(tmp_path)
    assert open_lab(tmp_path, extensions=False).root == tmp_path


def test_an_extension_may_not_take_the_place_of_a_built_in_kind(tmp_path: Path) -> None:
    (tmp_path / "birdlab.toml").write_text('extensions = ["mine.py"]')
    (tmp_path / "mine.py").write_text(
        "from typing import Literal\n"
        "from birdlab.spec.kinds import register\n"
        "from birdlab.spec.parts import AugmentationSpec\n"
        "@register('augmentation')\n"
        "class OrMixup(AugmentationSpec):\n"
        "    kind: Literal['or_mixup'] = 'or_mixup'\n"
    )
    with pytest.raises(SpecError, match="registered twice"):
        open_lab(tmp_path)
