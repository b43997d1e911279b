"""The bundle: what lies in it, that it runs by itself, what it refuses, names and notebook."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
from packaging.requirements import Requirement
from test_architecture import ALLOWED
from test_infer import CLASSES, RATE, WINDOW_S, save_energy_model

import birdlab
from birdlab.errors import BirdlabError, PredictError, PromotionError
from birdlab.infer.card import ModelCard
from birdlab.infer.checksums import checksums_text, verify_checksums
from birdlab.infer.variants import Variant, variants_text
from birdlab.promote.bundle import Bundle, BundleRequest, write_bundle
from birdlab.promote.kaggle import KaggleNames, slug_of
from birdlab.promote.notebook import NotebookPlan, notebook_text
from birdlab.promote.predictor_file import BESIDE, write_predictor
from birdlab.promote.wheels import PACKAGES, download_wheels, expect_bytes, name_requirements
from birdlab.spec.competition import PROFILES

DETAILS = {"competition": "demo", "licence": "CC BY-NC 4.0 `of` <b>some\nand CC BY-ND of others"}
BIRDS = PROFILES["birdclef-2024"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "m1" / "model.onnx"
    path.parent.mkdir()
    return save_energy_model(path, ModelCard(CLASSES, RATE, WINDOW_S, DETAILS))


@pytest.fixture(scope="module")
def bundle(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle for a competition, without wheels."""
    folder = tmp_path_factory.mktemp("out") / "bundle"
    request = BundleRequest(str(model), folder, BIRDS, wheels=False, user="a-user", name="my-birds")
    return write_bundle(model.parents[1], request)


@pytest.fixture(scope="module")
def competition(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A competition's folder: two soundscapes, one at another rate, and a sample of few rows."""
    folder = tmp_path_factory.mktemp("input") / "birdclef-2024"
    (folder / "test_soundscapes").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, rate in (("a", RATE), ("b", 16_000)):
        wave = 0.2 * rng.standard_normal(rate)
        soundfile.write(folder / "test_soundscapes" / f"{name}.ogg", wave, rate)
    save_sample(folder, ["a_0.5"])
    return folder


def save_sample(folder: Path, rows: list[str]) -> Path:
    columns = sorted(CLASSES)
    table = pd.DataFrame(0.25, index=range(len(rows)), columns=columns)
    table.insert(0, "row_id", rows)
    table.to_csv(folder / "sample_submission.csv", index=False)
    return folder / "sample_submission.csv"


# ---------------------------------------------------------------- what lies in it


def test_a_bundle_holds_what_is_uploaded_and_nothing_else(bundle: Bundle, model: Path) -> None:
    folder = bundle.folder
    names = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    assert names == [
        "README.md",
        "SHA256SUMS",
        "bundle.json",
        "dataset-metadata.json",
        "kernel/kernel-metadata.json",
        "kernel/submission.ipynb",
        "model.onnx",
        "predictor.pyz",
        "variants.json",
    ]
    assert (folder / "model.onnx").read_bytes() == model.read_bytes()
    assert verify_checksums(folder) == 5
    readme = (folder / "README.md").read_text()
    assert "CC BY-NC 4.0 'of' &lt;b&gt;some" in readme and "> and CC BY-ND of others" in readme
    assert (bundle.n_wheels, bundle.deadline_minutes) == (0, 110)
    assert not [p for p in folder.parent.iterdir() if p != folder]


def test_kaggle_finds_names_that_agree(bundle: Bundle) -> None:
    dataset = json.loads((bundle.folder / "dataset-metadata.json").read_text())
    assert dataset["id"] == "a-user/my-birds" and slug_of(dataset["title"]) == "my-birds"
    kernel = json.loads((bundle.folder / "kernel" / "kernel-metadata.json").read_text())
    assert kernel["id"] == f"a-user/{slug_of(kernel['title'])}"
    assert kernel["enable_internet"] is False and kernel["is_private"] is True
    assert kernel["dataset_sources"] == ["a-user/my-birds"]
    assert kernel["competition_sources"] == ["birdclef-2024"]
    assert (bundle.folder / "kernel" / kernel["code_file"]).is_file()


def test_the_predictor_is_the_modules_of_inference_unchanged(tmp_path: Path) -> None:
    beside = {f"birdlab.{name}" for name in BESIDE if not name.endswith("__init__")}
    assert beside == set(ALLOWED["infer"])
    one, other = write_predictor(tmp_path / "a.pyz"), write_predictor(tmp_path / "b.pyz")
    assert one.read_bytes() == other.read_bytes()
    root = Path(birdlab.__file__).parents[1]
    with zipfile.ZipFile(one) as archive:
        names = set(archive.namelist()) - {"__main__.py"}
        assert {n for n in names if n.startswith("birdlab/infer/")} == {
            f"birdlab/infer/{p.name}" for p in (root / "birdlab" / "infer").glob("*.py")
        }
        for name in names:
            assert archive.read(name) == (root / name).read_bytes()


# ---------------------------------------------------------------- that it runs


def packages_alone(folder: Path) -> Path:
    """A folder that holds the packages a bundle has wheels of, as links, and no other."""
    todo, seen = list(PACKAGES), set()
    while todo:
        name = todo.pop().lower()
        if name in seen:
            continue
        seen.add(name)
        installed = distribution(name)
        for text in installed.requires or []:
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                todo.append(needed.name)
        for part in {file.parts[0] for file in installed.files or []} - {"..", "__pycache__"}:
            place = folder / part
            if not place.exists() and not part.endswith(".dist-info"):
                place.symlink_to(Path(str(installed.locate_file(part))))
    return folder


def run_isolated(bundle: Path, packages: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """The predictor in a Python that sees these packages alone; its last line is what it imported
    from where else, besides the standard library."""
    predictor = bundle / "predictor.pyz"
    code = (
        "import os, runpy, sys\n"
        "path = sys.argv.pop(1)\n"
        "try: runpy.run_path(path, run_name='__main__')\n"
        "finally:\n"
        "    files = {getattr(m, '__file__', None) or '' for m in sys.modules.values()}\n"
        f"    known = ({str(packages)!r}, {str(predictor)!r}, os.path.dirname(os.__file__))\n"
        "    print([f for f in files if f and (not f.startswith(known) or 'site-p' in f)])\n"
        "    print(*(m for m in sys.modules if '.' not in m))\n"
    )
    return subprocess.run(
        [sys.executable, "-S", "-s", "-c", code, str(predictor), *args],
        env={**os.environ, "PYTHONPATH": str(packages)},
        cwd=packages.parent,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_predictor_runs_by_itself(bundle: Bundle, competition: Path, tmp_path: Path) -> None:
    (tmp_path / "packages").mkdir()
    packages = packages_alone(tmp_path / "packages")
    out = tmp_path / "submission.csv"
    soundscapes = str(competition / "test_soundscapes")
    done = run_isolated(bundle.folder, packages, "predict", soundscapes, "-o", str(out))
    assert done.returncode == 0, done.stderr
    assert "5 files of" in done.stderr
    table = pd.read_csv(out)
    assert table["row_id"].tolist() == ["a_0.5", "a_1.0", "b_0.5", "b_1.0"]
    elsewhere, imported = done.stdout.splitlines()[-2:]
    assert elsewhere == "[]"
    assert {*PACKAGES, "birdlab"} <= set(imported.split())
    assert not {"torch", "pydantic", "typer", "rich", "pyarrow"} & set(imported.split())


def test_a_changed_bundle_is_not_run(bundle: Bundle, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(bundle.folder, folder)
    with (folder / "model.onnx").open("ab") as file:
        file.write(b"x")
    run = [sys.executable, str(folder / "predictor.pyz"), "benchmark", "-o", str(tmp_path / "m")]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "not the one that was bundled" in done.stderr and "model.onnx" in done.stderr
    (folder / "model.onnx").unlink()
    with pytest.raises(PredictError, match="missing"):
        verify_checksums(folder)
    (folder / "SHA256SUMS").write_text(f"{'0' * 64}  ../secret\n")
    with pytest.raises(PredictError, match="damaged"):
        verify_checksums(folder)
    (folder / "SHA256SUMS").unlink()
    with pytest.raises(PredictError, match="cannot be read"):
        verify_checksums(folder)


def run_notebook(
    notebook: Path, inputs: Path, working: Path, python: str = sys.executable
) -> subprocess.CompletedProcess[str]:
    """The code cells one after another, with the folders of the test in place of Kaggle's."""
    cells = json.loads(notebook.read_text())["cells"]
    code = "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
    for theirs, ours in (
        ("/kaggle/input", inputs),
        ("/kaggle/working", working),
        ("/tmp/birdlab-packages", working / "packages"),
    ):
        assert theirs in code
        code = code.replace(theirs, str(ours))
    return subprocess.run(
        [python, "-c", code], cwd=working, capture_output=True, text=True, check=False
    )


def test_the_notebook_writes_a_submission(
    bundle: Bundle, competition: Path, tmp_path: Path
) -> None:
    inputs, working = tmp_path / "input", tmp_path / "working"
    inputs.mkdir(), working.mkdir()
    (inputs / "my-birds").symlink_to(bundle.folder)
    (inputs / "competitions").mkdir()
    (inputs / "competitions" / "birdclef-2024").symlink_to(competition)
    notebook = bundle.folder / "kernel" / "submission.ipynb"
    done = run_notebook(notebook, inputs, working)
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(working / "submission.csv")
    assert list(table) == ["row_id", *sorted(CLASSES)], "the columns of the sample"
    assert table["row_id"].tolist() == ["a_0.5", "a_1.0", "b_0.5", "b_1.0"], "the rows of the files"
    assert "16000" in done.stdout and "b.ogg" in done.stdout, "what was resampled is listed"


def test_without_test_soundscapes_the_sample_is_the_submission(
    bundle: Bundle, tmp_path: Path
) -> None:
    inputs, working = tmp_path / "input", tmp_path / "working"
    empty = inputs / "birdclef-2024"
    (empty / "test_soundscapes").mkdir(parents=True), working.mkdir()
    sample = save_sample(empty, ["a_5", "b_5"])
    (inputs / "my-birds").symlink_to(bundle.folder)
    done = run_notebook(bundle.folder / "kernel" / "submission.ipynb", inputs, working)
    assert done.returncode == 0, done.stderr + done.stdout
    got, expected = pd.read_csv(working / "submission.csv"), pd.read_csv(sample)
    pd.testing.assert_frame_equal(got, expected)


@pytest.mark.parametrize("times", [1, 2])
def test_a_killed_predictor_is_started_once_more(
    bundle: Bundle, competition: Path, tmp_path: Path, times: int
) -> None:
    """It dies when its first submission is there, as where the memory is full."""
    folder, working = tmp_path / "my-birds", tmp_path / "working"
    shutil.copytree(bundle.folder, folder), working.mkdir()
    (folder / "predictor.pyz").rename(folder / "real.pyz")
    (folder / "predictor.pyz").write_text(
        "import os, pathlib, runpy, sys, threading\n"
        f"deaths, csv = pathlib.Path({str(tmp_path / 'deaths')!r}), sys.argv[4]\n"
        "def die():\n"
        "    while not os.path.exists(csv): pass\n"
        "    os.kill(os.getpid(), 9)\n"
        "n = len(deaths.read_text()) if deaths.exists() else 0\n"
        f"if n < {times}:\n"
        "    deaths.write_text('x' * (n + 1))\n"
        "    threading.Thread(target=die).start()\n"
        f"runpy.run_path({str(folder / 'real.pyz')!r}, run_name='__main__')\n"
    )
    names = ("bundle.json", "model.onnx", "predictor.pyz", "real.pyz", "variants.json")
    (folder / "SHA256SUMS").write_text(checksums_text(folder / name for name in names))
    (tmp_path / "birdclef-2024").symlink_to(competition)
    done = run_notebook(folder / "kernel" / "submission.ipynb", tmp_path, working)
    assert done.returncode == 0, done.stderr + done.stdout
    assert done.stdout.count("was killed by signal 9") == times
    table = pd.read_csv(working / "submission.csv")
    assert table["row_id"].tolist() == ["a_0.5", "a_1.0", "b_0.5", "b_1.0"]
    values = table.drop(columns="row_id").to_numpy()
    assert ((values >= 0) & (values < 1)).all() and (times == 2 or (values > 0).all())


def test_the_notebook_is_one_of_format_4_5() -> None:
    plan = NotebookPlan("a-set", "", 110, "3.11", "int8", "a title")
    notebook = json.loads(notebook_text(plan))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids) and all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", i) for i in ids)
    for cell in notebook["cells"]:
        code = cell["cell_type"] == "code"
        more = {"execution_count", "outputs"} if code else set()
        assert set(cell) == {"cell_type", "id", "metadata", "source"} | more
        if code:
            compile("".join(cell["source"]), "cell", "exec")
            assert all(s.endswith("\n") for s in cell["source"][:-1])


def test_a_notebook_of_another_python_says_what_to_bundle(
    bundle: Bundle, competition: Path, tmp_path: Path
) -> None:
    plan = NotebookPlan("my-birds", "", 110, "3.10", "fp32", "a title")
    (tmp_path / "submission.ipynb").write_text(notebook_text(plan))
    (tmp_path / "my-birds").symlink_to(bundle.folder)
    done = run_notebook(tmp_path / "submission.ipynb", tmp_path, tmp_path)
    assert done.returncode == 1
    assert f"--python {sys.version_info[0]}.{sys.version_info[1]}" in done.stderr


def test_a_variant_travels_alone_and_is_run(model: Path, competition: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models" / "m2"
    shutil.copytree(model.parent, folder)
    weights = ModelCard(CLASSES, RATE, WINDOW_S, {"precision": "int8"})
    save_energy_model(folder / "model.int8.onnx", weights)
    (folder / "model.int8.onnx.data").write_bytes(b"weights above 2 GB")
    failed = Variant("int8", "model.int8.onnx", "onnxruntime", "int8", "failed", "0.01 lower")
    (folder / "variants.json").write_text(variants_text({"int8": failed}))
    request = BundleRequest(
        str(folder / "model.onnx"), tmp_path / "out", BIRDS, variant="int8", wheels=False
    )
    with pytest.raises(PredictError, match="did not pass its gate"):
        write_bundle(folder.parent, request)
    told: list[str] = []
    bundle = write_bundle(folder.parent, replace(request, force=True), told.append)
    size = sum(path.stat().st_size for path in folder.glob("model.int8.onnx*"))
    assert told[1].startswith(f"{size / 1e6:.1f} MB to write, ") and told[1].endswith("GB free")
    assert (
        bundle.has_placeholder
        and "INSERT_USERNAME/" in (bundle.folder / "dataset-metadata.json").read_text()
    )
    names = {path.name for path in bundle.folder.iterdir()}
    assert {"model.int8.onnx", "model.int8.onnx.data"} <= names and "model.onnx" not in names
    run = [sys.executable, str(bundle.folder / "predictor.pyz"), "predict", "--no-windows"]
    run += [str(competition / "test_soundscapes"), "-o", str(tmp_path / "submission.csv")]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "precision int8" in done.stdout
    assert len(pd.read_csv(tmp_path / "submission.csv")) == 4


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    "change",
    [
        {"user": "../me"},
        {"user": "a b"},
        {"slug": "short"},
        {"slug": "a" * 51},
        {"slug": "../../etc/passwd"},
        {"slug": "double--hyphen"},
        {"slug": "Upper-Case"},
        {"competition": "bird/clef"},
    ],
)
def test_names_that_kaggle_would_not_take_are_refused(change: dict[str, str]) -> None:
    fine = {"user": "a-user", "slug": "my-birds", "competition": "birdclef-2024"}
    assert KaggleNames(**fine).kernel == "my-birds-submit"
    with pytest.raises(PromotionError, match="Kaggle takes no such"):
        KaggleNames(**{**fine, **change})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": "@champion"}, "no promoted model"),
        ({"variant": "int8"}, "no variant"),
        ({"competition": PROFILES["birdclef-2021"]}, "no probabilities"),
        ({"wheels": True, "python": "2.7"}, "no Python for birdlab"),
        ({"wheels": True, "platform": "../x"}, "no platform"),
    ],
)
def test_what_cannot_be_bundled_leaves_nothing(
    change: dict[str, Any], said: str, model: Path, tmp_path: Path
) -> None:
    settings = {"model": str(model), "folder": tmp_path / "b", "wheels": False, **change}
    with pytest.raises(BirdlabError, match=said):
        write_bundle(model.parents[1], BundleRequest(**settings))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_left_alone(model: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(PromotionError, match="in use"):
        write_bundle(model.parents[1], BundleRequest(str(model), tmp_path, wheels=False))
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_a_bundle_that_cannot_be_written_is_said(model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    request = BundleRequest(str(model), tmp_path / "file" / "out", BIRDS, wheels=False)
    with pytest.raises(PromotionError, match="cannot be written"):
        write_bundle(model.parent, request)


def test_wheels_that_cannot_be_had_are_an_error_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    with pytest.raises(PromotionError, match="cannot be fetched") as caught:
        download_wheels(
            tmp_path,
            ["soxr==0.0.1"],
            python="3.11",
            platform="manylinux_2_28_x86_64",
            source=tmp_path,
        )
    told = str(caught.value)
    assert "soxr" in told and "pip download" in told and "--wheels-from wheels" in told
    assert "--platform manylinux_2_28_x86_64" in told and "manylinux2014_x86_64" in told


def test_a_python_without_pip_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'python: No module named pip' >&2\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(PromotionError, match="No module named pip"):
        download_wheels(tmp_path, ["soxr"], python="3.11", platform="manylinux_2_28_x86_64")


def test_wheels_of_a_folder_are_counted_and_others_are_guessed(tmp_path: Path) -> None:
    for name in ("a.whl", "b.whl", "c.zip"):
        (tmp_path / name).write_bytes(bytes(10))
    assert expect_bytes("onnxruntime", tmp_path) == 20
    assert expect_bytes("openvino", None) > expect_bytes("onnxruntime", None) > 0


def test_openvino_is_named_where_it_is_needed() -> None:
    assert [r.split("==")[0] for r in name_requirements("onnxruntime")] == list(PACKAGES)
    assert name_requirements("openvino")[-1].startswith("openvino==")


# ---------------------------------------------------------------- with wheels


@pytest.mark.slow
def test_a_bundle_runs_in_an_empty_environment_with_its_wheels(
    model: Path, competition: Path, tmp_path: Path
) -> None:
    """Needs a package index. The environment is made by venv and holds pip alone."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    request = BundleRequest(
        str(model), tmp_path / "bundle", BIRDS, python=version, user="a-user", name="my-birds"
    )
    bundle = write_bundle(model.parents[1], request)
    assert bundle.n_wheels >= 5
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "env")], check=True)
    python = tmp_path / "env" / "bin" / "python"
    inputs, working = tmp_path / "input", tmp_path / "working"
    inputs.mkdir(), working.mkdir()
    (inputs / "my-birds").symlink_to(bundle.folder)
    (inputs / "birdclef-2024").symlink_to(competition)
    notebook = bundle.folder / "kernel" / "submission.ipynb"
    done = run_notebook(notebook, inputs, working, str(python))
    assert done.returncode == 0, done.stderr + done.stdout
    assert len(pd.read_csv(working / "submission.csv")) == 4
    packages = {p.name.lower() for p in (working / "packages").iterdir()}
    assert not packages & {"torch", "birdlab", "pydantic", "pyarrow"}
