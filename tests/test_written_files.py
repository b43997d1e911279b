"""Files that a command is told to write: what cannot be written is an error, not a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest
from commandline import run_main
from conftest import MakeLab

from birdlab.cli.files import write_file, writing
from birdlab.errors import LabError


def test_a_file_is_written_whole_and_its_folder_is_made(tmp_path: Path) -> None:
    write_file(tmp_path / "a" / "b.csv", "x\n")
    assert (tmp_path / "a" / "b.csv").read_text() == "x\n"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.csv"]


def test_errors_of_other_kinds_pass_through(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="other"), writing(tmp_path):
        raise ValueError("other")
    with pytest.raises(LabError, match="this is a folder"):
        write_file(Path(), "x")


@pytest.mark.parametrize(
    "words",
    [
        ["data", "audit", "tiny.yaml", "--no-audio", "-o"],
        ["data", "table", "tiny.yaml", "-o"],
        ["augment", "tiny.yaml", "--clips", "1", "-o"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("target", ["tiny.yaml/page", "."])
def test_a_page_that_cannot_be_written_is_an_error_with_its_place(
    words: list[str],
    target: str,
    make_lab: MakeLab,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lab = make_lab()
    monkeypatch.setenv("BIRDLAB_HOME", str(lab.root))
    monkeypatch.chdir(lab.root)
    code, out, err = run_main(capsys, monkeypatch, *words, target)
    assert code == 1 and "wrote" not in out
    assert "error: a file " in err and f"where:    {target}" in err
