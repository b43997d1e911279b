"""Recordings from Xeno-canto, end to end against a local server that plays its part."""

from __future__ import annotations

import ast
import csv
import hashlib
import logging
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xeno_canto_server import KEY, Fault, XenoCantoServer

from birdlab.cli import app as entry
from birdlab.data.csvfile import read_text_table
from birdlab.data.xenocanto import download as downloads
from birdlab.data.xenocanto.addresses import origin_of, shown_address
from birdlab.data.xenocanto.client import ask_recordings, load_key
from birdlab.data.xenocanto.download import Outcome, download
from birdlab.data.xenocanto.failures import FetchError
from birdlab.data.xenocanto.ledger import LEDGER_COLUMNS, RECORDING_COLUMNS, load_finished
from birdlab.data.xenocanto.plan import DownloadPlan, plan_download
from birdlab.data.xenocanto.recording import read_length_s, read_recording
from birdlab.data.xenocanto.selection import Filters
from birdlab.data.xenocanto.species import is_label, load_species, snake_label
from birdlab.data.xenocanto.web import API_URL, ATTEMPTS, Web
from birdlab.errors import BirdlabError, DataError, SpecError

REPOSITORY = Path(__file__).parents[1]
QUICK_S = 0.002
THREE = ("Turdus merula", "Parus major", "Erithacus rubecula")


@dataclass
class Answer:
    code: int
    out: str
    err: str


Cli = Callable[..., Answer]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XENO_CANTO_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[XenoCantoServer]:
    with XenoCantoServer() as running:
        yield running


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lab with a species file and a data set that has two recordings of Xeno-canto."""
    (tmp_path / "birdlab.toml").write_text('[data]\nhave = "have"\n')
    audio = tmp_path / "have" / "train_audio"
    audio.mkdir(parents=True)
    (tmp_path / "have" / "train_metadata.csv").write_text(
        "primary_label,filename,url\n"
        "eurbla,eurbla/XC100.ogg,https://www.xeno-canto.org/100\n"
        "gretit1,gretit1/XC7.ogg,https://xeno-canto.org/7\n"
    )
    (tmp_path / "species.csv").write_text(
        "primary_label,scientific_name\n"
        "eurbla,Turdus merula\ngretit1,Parus major\neurrob1,Erithacus rubecula\n"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def cli(
    lab: Path,
    server: XenoCantoServer,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Cli:
    """The command in this process, from `main` on, in quick mode against the server."""
    monkeypatch.setenv("BIRDLAB_XENO_CANTO_URL", server.url)
    if not entry.app.registered_commands:
        entry._register()
    monkeypatch.setattr(entry, "_register", lambda: None)

    def call(*args: str) -> Answer:
        capsys.readouterr()
        words = ["birdlab", "data", "xenocanto", "--interval", str(QUICK_S), *args]
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as ended:
            entry.main()
        got = capsys.readouterr()
        code = ended.value.code
        return Answer(code if isinstance(code, int) else 0 if code is None else 1, got.out, got.err)

    return call


def fill(server: XenoCantoServer, n: int = 10) -> None:
    """`n` recordings, 100 and up, of three species in turn."""
    for place in range(n):
        server.add(str(100 + place), THREE[place % 3])


def quick_web(server: XenoCantoServer) -> Web:
    return Web(KEY, server.url, interval_s=QUICK_S)


def fetch(server: XenoCantoServer, out: Path, **options: Any) -> tuple[DownloadPlan, Outcome]:
    """Everything that the server has, in the quick way."""
    with quick_web(server) as web:
        plan = plan_download(web, out, "gen:all", Filters())
        return plan, download(web, plan.selection, out, **options)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def audio_files(out: Path) -> set[str]:
    return {p.relative_to(out).as_posix() for p in (out / "audio").rglob("*") if not p.is_dir()}


def every_text(folder: Path) -> str:
    return "".join(p.read_text("utf-8", "replace") for p in folder.rglob("*") if p.is_file())


# ---------------------------------------------------------------- the whole way


def test_three_pages_become_files_a_table_and_a_ledger(
    cli: Cli, server: XenoCantoServer, lab: Path
) -> None:
    fill(server)
    server.recordings[1]["also"] = ["Turdus merula", "TURDUS MERULA", "Corvus corax", "Parus major"]
    server.recordings[4].update({"length": "1:02:03", "q": "no score", "lat": None, "lon": "999"})
    done = cli("--query", "grp:birds", "--out", "xc")
    assert done.code == 0
    assert "asking Xeno-canto: 3/3" in done.err and "downloading: 10/10" in done.err
    assert [a.query["page"] for a in server.asked if a.path == "/api"] == ["1", "2", "3"]
    rows = read_text_table(lab / "xc" / "recordings.csv")
    assert tuple(rows.columns) == RECORDING_COLUMNS
    numbers = [102, 105, 108, 101, 104, 107, 100, 103, 106, 109]
    assert rows["xc_id"].tolist() == [str(n) for n in numbers], "by label and number"
    first = rows.set_index("xc_id").loc["101"]
    assert first["filename"] == "parus_major/XC101.mp3"
    assert ast.literal_eval(first["secondary_labels"]) == ["turdus_merula"]
    assert (first["rating"], first["duration_s"]) == ("5", "65")
    assert first["license"] == "https://creativecommons.org/licenses/by-nc-sa/4.0/"
    assert first["author"] == "Ana Ortíz, Jr."
    assert first["url"] == "https://xeno-canto.org/101"
    odd = rows.set_index("xc_id").loc["104"]
    assert odd[["rating", "duration_s", "latitude", "longitude"]].tolist() == ["", "3723", "", ""]
    ledger = rows_of(lab / "xc" / "ledger.csv")
    assert tuple(ledger[0]) == LEDGER_COLUMNS
    for row in ledger:
        content = (lab / "xc" / "audio" / row["file"]).read_bytes()
        assert content == server.files[row["xc_id"]]
        assert row["sha256"] == hashlib.sha256(content).hexdigest()
        assert row["size"] == str(len(content))
        assert (row["recordist"], row["url"][-3:]) == ("Ana Ortíz, Jr.", row["xc_id"])
        assert "by-nc-sa" in row["licence"] and row["fetched"].endswith("+00:00")
    assert len(audio_files(lab / "xc")) == len(ledger) == 10
    assert 'path = "xc"' in done.out and 'kind = "xenocanto"' in done.out
    assert "1  mentions of 1 background species" in done.out


def test_a_species_file_gives_the_codes_and_a_data_set_what_is_known(
    cli: Cli, server: XenoCantoServer, lab: Path
) -> None:
    fill(server)
    done = cli("--species", "species.csv", "--against", "have", "--out", "xc")
    assert done.code == 0
    queries = list(dict.fromkeys(a.query["query"] for a in server.asked if a.path == "/api"))
    assert queries == [f'sp:"{name.lower()}"' for name in THREE]
    assert "/file/100" not in server.paths()
    assert {row["primary_label"] for row in rows_of(lab / "xc" / "recordings.csv")} == {
        "eurbla",
        "gretit1",
        "eurrob1",
    }
    assert "have has it already (XC100)" in done.out
    table = [line.split() for line in done.out.splitlines() if " Turdus merula " in line]
    # found, passed, folder before and after, in the data set, together before and after
    assert table == [["eurbla", "Turdus", "merula", "4", "3", "0", "3", "1", "1", "4"]]
    total = next(line.split() for line in done.out.splitlines() if line.split()[:1] == ["all"])
    assert total == ["all", "10", "9", "0", "9", "2", "2", "11"]


def test_what_was_downloaded_is_a_data_set_of_the_lab(
    cli: Cli, server: XenoCantoServer, lab: Path
) -> None:
    from birdlab.data.sources import load_source
    from birdlab.lab import open_lab

    fill(server)
    done = cli("--species", "species.csv", "--out", "xc")
    entry_lines = [line.strip() for line in done.out.splitlines() if line.startswith("  ")][-3:]
    (lab / "birdlab.toml").write_text("\n".join(entry_lines))
    opened = open_lab(lab)
    data = load_source(opened.source("xc"), "xc", opened.dataset_root("xc"), lab).recordings
    assert sorted(data["xc_id"]) == [str(n) for n in range(100, 110)]
    assert set(data["primary_label"]) == {"eurbla", "gretit1", "eurrob1"}
    assert all(Path(path).is_file() for path in data["path"])
    assert set(data["rating"]) == {5.0} and set(data["duration_s"]) == {65.0}


def test_a_dry_run_asks_and_writes_nothing(cli: Cli, server: XenoCantoServer, lab: Path) -> None:
    fill(server)
    done = cli("--query", "grp:birds", "--out", "xc", "--dry-run")
    assert done.code == 0
    assert "10 passed: 0 here already, 10 to fetch in 0 s or more; at most 0.03 GB, " in done.out
    assert "asking Xeno-canto: 3/3" in done.err
    assert server.paths("/file") == [] and not (lab / "xc").exists()


def test_the_most_that_a_file_takes() -> None:
    """By its coder's highest rate, else as samples of 24 bits in stereo."""
    row = {"id": "1", "length": "1:40", "smp": "48000"}
    sizes = {
        name: read_recording({**row, "file-name": f"a.{name}"}) for name in ("mp3", "ogg", "WAV")
    }
    assert {name: r and r.most_bytes for name, r in sizes.items()} == {
        "mp3": 4e6, "ogg": 6.4e6, "WAV": 28.8e6,
    }  # fmt: skip
    for lacking in ({"smp": ""}, {"length": "?"}):
        recording = read_recording({**row, "file-name": "a.flac", **lacking})
        assert recording is not None and math.isnan(recording.most_bytes)


def test_a_limit_fetches_so_many_and_the_next_command_more(
    cli: Cli, server: XenoCantoServer, lab: Path
) -> None:
    fill(server)
    assert cli("--query", "grp:birds", "--out", "xc", "--limit", "3").code == 0
    assert len(audio_files(lab / "xc")) == 3
    done = cli("--query", "grp:birds", "--out", "xc", "--limit", "3")
    assert "3 here already, 3 to fetch" in done.out
    assert len(rows_of(lab / "xc" / "recordings.csv")) == 6


def test_filters_and_what_they_left_out(cli: Cli, server: XenoCantoServer, lab: Path) -> None:
    fill(server, 8)
    changes: list[dict[str, Any]] = [
        {"q": "C"},
        {"length": "0:04"},
        {"length": "2:00"},
        {"length": "soon"},
        {"lic": "//creativecommons.org/licenses/by-nc-nd/4.0/"},
        {"lic": ""},
        {"gen": "Mystery", "sp": "mystery"},
        {},
    ]
    for row, change in zip(server.recordings, changes, strict=True):
        row.update({"length": "1:00", **change})
    limits = ("--quality", "a,B", "--min-length", "5", "--max-length", "60.5")
    licences = ("--license", "/by-nc-sa/", "--license", "/zero/")
    done = cli("--query", "grp:birds", "--out", "xc", *limits, *licences)
    skipped = {r["xc_id"]: r["reason"] for r in rows_of(lab / "xc" / "skipped.csv")}
    assert skipped == {
        "100": "quality is none of A, B",
        "101": "shorter than 5 s",
        "102": "longer than 60.5 s",
        "103": "length is unknown",
        "104": "licence has none of /by-nc-sa/, /zero/",
        "105": "no licence is given",
        "106": "not of one species",
    }
    assert [r["xc_id"] for r in rows_of(lab / "xc" / "recordings.csv")] == ["107"]
    assert "1  left out: no licence is given (XC105)" in done.out


# ---------------------------------------------------------------- counts that do not hold


@pytest.mark.parametrize("total", [9, 11])
def test_a_count_off_by_one_is_an_error_with_both_numbers(
    cli: Cli, server: XenoCantoServer, lab: Path, total: int
) -> None:
    fill(server)
    server.totals = [total] * 3
    done = cli("--query", "grp:birds", "--out", "xc")
    assert done.code == 1
    assert f"there are {total} recordings, and its pages hold 10" in done.err
    assert len(server.paths("/api")) == 3, "all pages were asked for first"
    assert not (lab / "xc").exists()


def test_an_upload_between_two_pages_is_asked_once_more(server: XenoCantoServer) -> None:
    fill(server)
    server.totals = [9]  # page 1, then the upload
    with quick_web(server) as web:
        assert len(ask_recordings(web, "grp:birds")) == 10
    assert [a.query["page"] for a in server.asked] == ["1", "2", "1", "2", "3"]


def test_uploads_that_do_not_end_are_an_error(server: XenoCantoServer) -> None:
    fill(server)
    server.totals = [10, 11, 12, 13]
    with quick_web(server) as web, pytest.raises(DataError, match="changed while") as caught:
        ask_recordings(web, "grp:birds")
    assert "13 recordings, 12 on page 1" in str(caught.value)
    assert len(server.asked) == 4


def test_a_recording_on_two_pages_is_an_error(server: XenoCantoServer) -> None:
    fill(server)
    server.recordings[6]["id"] = "100"
    with quick_web(server) as web, pytest.raises(DataError, match="only 9 recordings"):
        ask_recordings(web, "grp:birds")


# ---------------------------------------------------------------- patience and pace


def test_the_default_pace_holds_over_pages_files_and_repeats(
    server: XenoCantoServer, tmp_path: Path
) -> None:
    server.add("1")
    server.faults["/api"] = [Fault(500)]
    with Web(KEY, server.url) as web:
        plan = plan_download(web, tmp_path / "xc", "gen:turdus", Filters())
        download(web, plan.selection, tmp_path / "xc")
    assert server.paths() == ["/api", "/api", "/file/1"]
    assert min(server.gaps_s()) > 0.8, "a busy machine may note an arrival late"


def test_xeno_canto_itself_is_never_asked_faster() -> None:
    web = Web(KEY, API_URL, interval_s=0)
    began = time.monotonic()
    for url in (API_URL, "https://xeno-canto.org/1/download"):
        web._keep_pace(url)
    assert time.monotonic() - began >= 1.0


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_honoured(server: XenoCantoServer, tmp_path: Path, form: str) -> None:
    server.add("1")
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
    said = "1" if form == "seconds" else date  # a date has whole seconds: 1 to 2 s from now
    server.faults["/api"] = [Fault(429, {"Retry-After": said})]
    with quick_web(server) as web:
        assert len(ask_recordings(web, "gen:turdus")) == 1
    assert len(server.asked) == 2
    assert server.gaps_s()[0] > 0.9


def test_pauses_double_and_the_tries_end(server: XenoCantoServer) -> None:
    server.faults["/api"] = [Fault(503)] * 20
    told: list[tuple[str, float]] = []
    web = Web(KEY, server.url, interval_s=0.01, on_wait=lambda why, s: told.append((why, s)))
    with web, pytest.raises(FetchError, match="the server answered 503"):
        ask_recordings(web, "gen:turdus")
    assert len(server.asked) == ATTEMPTS
    assert told == [("the server answered 503", 0.01 * 2**n) for n in range(ATTEMPTS - 1)]
    assert all(gap >= s for gap, (_, s) in zip(server.gaps_s(), told, strict=True))


def test_a_very_long_pause_ends_the_download(cli: Cli, server: XenoCantoServer, lab: Path) -> None:
    fill(server)
    server.faults["/file/101"] = [Fault(429, {"Retry-After": "7200"})]
    done = cli("--query", "grp:birds", "--out", "xc")
    assert done.code == 1
    assert "asks to wait 120 min; run the same command again after that time" in done.out
    assert len(server.paths("/file")) == 2
    assert [r["xc_id"] for r in rows_of(lab / "xc" / "recordings.csv")] == ["100"]


def test_500_then_success(cli: Cli, server: XenoCantoServer, lab: Path) -> None:
    fill(server)
    server.faults["/api"] = [Fault(500)]
    server.faults["/file/103"] = [Fault(500), Fault(502)]
    assert cli("--query", "grp:birds", "--out", "xc").code == 0
    assert server.paths("/file/103") == ["/file/103"] * 3
    assert len(audio_files(lab / "xc")) == 10


def test_an_answer_that_is_no_page_is_asked_again(server: XenoCantoServer) -> None:
    fill(server, 1)
    pages = (b"<html>", b"[]", b'{"recordings": [], "numRecordings": "x", "numPages": 1}')
    server.faults["/api"] = [Fault(200, {}, page) for page in pages]
    with quick_web(server) as web:
        assert len(ask_recordings(web, "gen:turdus")) == 1


# ---------------------------------------------------------------- files


def test_a_ledger_that_cannot_be_read_is_an_error_in_words(tmp_path: Path) -> None:
    (tmp_path / "ledger.csv").write_text('xc_id\n"' + "x" * 200_000)
    with pytest.raises(DataError, match="a table of a download cannot be read"):
        load_finished(tmp_path)


def test_a_torn_file_is_fetched_again(cli: Cli, server: XenoCantoServer, lab: Path) -> None:
    fill(server)
    server.faults["/file/105"] = [Fault(torn=True)]
    assert cli("--query", "grp:birds", "--out", "xc").code == 0
    assert server.paths("/file/105") == ["/file/105"] * 2
    path = lab / "xc" / "audio" / "erithacus_rubecula" / "XC105.mp3"
    assert path.read_bytes() == server.files["105"]


def test_a_file_that_cannot_be_had_is_listed_and_the_rest_is_fetched(
    cli: Cli, server: XenoCantoServer, lab: Path
) -> None:
    fill(server)
    server.faults["/file/102"] = [Fault(torn=True)] * 20
    server.faults["/file/104"] = [Fault(404)]
    server.types["106"] = "text/html; charset=utf-8"
    server.files["107"] = b""
    done = cli("--query", "grp:birds", "--out", "xc")
    assert done.code == 1
    listed = {r["xc_id"]: r["reason"] for r in rows_of(lab / "xc" / "skipped.csv")}
    assert listed == {
        "102": "the answer broke off",
        "104": "the server answered 404",
        "106": "the answer is no audio file that birdlab reads: text/html",
        "107": "the file is torn: 0 of 0 bytes",
    }
    assert len(audio_files(lab / "xc")) == 6, "no .part stays"
    assert "XC102: the answer broke off" in done.out
    server.faults.clear()
    server.types.clear()
    server.files["107"] = b"audio"
    assert cli("--query", "grp:birds", "--out", "xc").code == 0
    assert len(audio_files(lab / "xc")) == len(rows_of(lab / "xc" / "recordings.csv")) == 10


def test_a_server_that_is_gone_stops_the_download(server: XenoCantoServer, tmp_path: Path) -> None:
    fill(server)
    for number in range(102, 110):
        server.faults[f"/file/{number}"] = [Fault(503)] * 20
    _, outcome = fetch(server, tmp_path / "xc")
    assert (outcome.n_fetched, len(outcome.failed), outcome.left) == (2, 3, 5)
    assert "3 files in a row" in outcome.stopped


def test_a_file_that_is_too_large_is_refused(
    server: XenoCantoServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(server, 2)
    monkeypatch.setattr(downloads, "MAX_FILE_BYTES", 3000)
    server.files["101"] = b"x" * 3001
    _, outcome = fetch(server, tmp_path / "xc")
    assert [(s.xc_id, s.reason) for s in outcome.failed] == [
        ("101", "the file is larger than 0 MB")
    ]
    assert audio_files(tmp_path / "xc") == {"audio/turdus_merula/XC100.mp3"}


HOSTILE = (
    "../../../../evil.mp3",
    "/etc/passwd.mp3",
    "C:\\windows\\evil.mp3",
    "a\x00b.mp3",
    "con.mp3",
    "x" * 5000 + ".mp3",
    "XC1.mp3/../../..",
    "no suffix",
    "evil.exe",
    ".mp3\nXC9",
    "",
)


def test_no_name_that_the_server_gives_decides_where_a_file_goes(
    server: XenoCantoServer, tmp_path: Path
) -> None:
    out = tmp_path / "deep" / "xc"
    for place, name in enumerate(HOSTILE):
        server.add(str(200 + place), **{"file-name": name})
    server.add("300", species="../.. /etc")
    server.add("../../301")
    server.files["../../301"] = b"evil"
    server.add("302", **{"file-name": "a.WAV"})
    server.add("303", **{"file-name": "a.exe"})
    server.types["303"] = "application/x-msdownload"
    plan, outcome = fetch(server, out)
    names = {f"audio/turdus_merula/XC{200 + place}.mp3" for place in range(len(HOSTILE))}
    assert audio_files(out) == names | {"audio/turdus_merula/XC302.wav", "audio/etc/XC300.mp3"}
    assert plan.answer.unusable == ("'../../301'",)
    assert [s.xc_id for s in outcome.failed] == ["303"]
    everything = {p.name for p in tmp_path.rglob("*") if p.is_file()} - {n[-9:] for n in names}
    assert everything == {
        *("XC302.wav", "XC300.mp3", ".lock", "recordings.csv", "ledger.csv", "skipped.csv")
    }


def test_only_hosts_of_xeno_canto_are_asked(server: XenoCantoServer, tmp_path: Path) -> None:
    with XenoCantoServer() as other:
        addresses = (
            f"{other.root}/file/1",
            "file:///etc/passwd",
            "ftp://xeno-canto.org/1",
            "http://xeno-canto.org/1/download",
            "https://xeno-canto.org.evil.example/1",
            "https://xeno-canto.org@evil.example/1",
            f"{server.root}@evil.example/1",
            "https://169.254.169.254/latest",
            "http://[::1]/1",
        )
        for place, address in enumerate(addresses):
            server.add(str(400 + place), file=address)
        server.add("500", file="")
        server.add("501")
        server.add("502")
        redirect = {"Location": f"{other.root}/file/1"}
        server.faults["/file/501"] = [Fault(302, redirect)]
        server.faults["/file/502"] = [Fault(302, {"Location": "/file/500"})]
        plan, outcome = fetch(server, tmp_path / "xc")
        assert other.asked == []
    skipped = {s.xc_id: s.reason for s in plan.selection.skipped}
    refused = {str(400 + n): "the file is not on a host of Xeno-canto" for n in range(9)}
    assert skipped == {**refused, "500": "no file is offered"}
    assert [(s.xc_id, s.reason) for s in outcome.failed] == [
        ("501", "an address is not one of Xeno-canto's")
    ]
    assert audio_files(tmp_path / "xc") == {"audio/turdus_merula/XC502.mp3"}


def test_redirects_that_do_not_end_are_refused(server: XenoCantoServer, tmp_path: Path) -> None:
    server.add("1")
    server.faults["/file/1"] = [Fault(302, {"Location": "/file/1"})] * 20
    _, outcome = fetch(server, tmp_path / "xc")
    assert [s.reason for s in outcome.failed] == ["an address leads on and on"]
    assert len(server.paths("/file")) == 6


@pytest.mark.parametrize(
    ("address", "is_allowed"),
    [
        ("https://xeno-canto.org/1/download", True),
        ("https://WWW.xeno-canto.org/sounds/a%20b.mp3?x=@", True),
        ("https://xeno-canto.org:443/1", True),
        ("https://xeno-canto.org:8443/1", False),
        ("https://xxeno-canto.org/1", False),
        ("https://evil.example\\@xeno-canto.org/1", False),
        ("https://evil.example#@xeno-canto.org/1", False),
        ("https://xeno-canto.org\n.evil.example/1", False),
        ("//xeno-canto.org/1", False),
        ("", False),
    ],
)
def test_addresses(address: str, is_allowed: bool) -> None:
    assert Web(KEY).allows(address) is is_allowed


@settings(max_examples=50)
@given(st.text(alphabet="htps:/@xeno-canto.org.evil#?\\% \n1", max_size=60))
def test_an_address_that_is_allowed_has_one_reading(text: str) -> None:
    from urllib.parse import urlsplit

    origin = origin_of(f"https://{text}")
    if origin is not None:
        assert urlsplit(f"https://{text}").hostname == origin.host
        assert "@" not in text.partition("/")[0].partition("?")[0]


# ---------------------------------------------------------------- stopped and resumed


def test_killed_in_the_middle_and_resumed(
    cli: Cli, server: XenoCantoServer, lab: Path, tmp_path: Path
) -> None:
    fill(server)
    server.faults["/file/106"] = [Fault(stall=True)]
    words = [sys.executable, "-m", "birdlab.cli.app", "data", "xenocanto", "--interval", "0.002"]
    words += ["--query", "grp:birds", "--out", "xc"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(words, cwd=lab, env=environment, stdout=subprocess.DEVNULL) as running:
        assert server.stalled.wait(30)
        part = lab / "xc" / "audio" / "turdus_merula" / "XC106.part"
        while not part.exists() and running.poll() is None:
            time.sleep(0.01)
        running.kill()
    server.released.set()
    assert audio_files(lab / "xc") >= {"audio/turdus_merula/XC106.part"}
    assert len(load_finished(lab / "xc")) == 6
    with (lab / "xc" / "ledger.csv").open("a") as ledger:
        ledger.write('106,turdus_merula/XC106.mp3,"Ana Or')  # as a kill in mid-line leaves it
    (lab / "xc" / "audio" / "turdus_merula" / "XC100.mp3").write_bytes(b"torn")
    (lab / "xc" / "audio" / "parus_major" / "XC999.part").write_bytes(b"of an older command")
    before = len(server.asked)
    done = cli("--query", "grp:birds", "--out", "xc")
    assert done.code == 0
    again = [a.path for a in server.asked[before:] if a.path.startswith("/file")]
    assert again == [f"/file/{n}" for n in (100, 106, 107, 108, 109)]

    fetch(server, tmp_path / "undisturbed")
    one, other = lab / "xc", tmp_path / "undisturbed"
    assert (one / "recordings.csv").read_bytes() == (other / "recordings.csv").read_bytes()
    assert audio_files(one) == audio_files(other)
    kept = [{k: v for k, v in r.items() if k != "fetched"} for r in rows_of(one / "ledger.csv")]
    whole = [{k: v for k, v in r.items() if k != "fetched"} for r in rows_of(other / "ledger.csv")]
    assert sorted(map(str, kept)) == sorted(map(str, whole))


def test_an_interrupted_download_lists_what_is_there(
    server: XenoCantoServer, tmp_path: Path
) -> None:
    fill(server)

    def interrupt(done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(server, tmp_path / "xc", on_file=interrupt)
    listed = {row["filename"] for row in rows_of(tmp_path / "xc" / "recordings.csv")}
    assert {f"audio/{name}" for name in listed} == audio_files(tmp_path / "xc")
    assert len(listed) == 4


def test_another_query_adds_to_the_folder(cli: Cli, server: XenoCantoServer, lab: Path) -> None:
    fill(server)
    (lab / "one.csv").write_text("primary_label,scientific_name\neurbla,Turdus merula\n")
    (lab / "two.tsv").write_text("scientific_name\tprimary_label\nParus  major\tgretit1\n")
    assert cli("--species", "one.csv", "--out", "xc").code == 0
    assert cli("--species", "two.tsv", "--out", "xc").code == 0
    rows = rows_of(lab / "xc" / "recordings.csv")
    assert [row["primary_label"] for row in rows] == ["eurbla"] * 4 + ["gretit1"] * 3
    done = cli("--query", "grp:birds", "--out", "xc")
    assert done.code == 1 and "under another label" in done.err
    assert rows_of(lab / "xc" / "recordings.csv") == rows


def test_two_commands_do_not_write_to_one_folder(server: XenoCantoServer, tmp_path: Path) -> None:
    fill(server, 1)

    def second(done: int, total: int) -> None:
        fetch(server, tmp_path / "xc")

    with pytest.raises(DataError, match="another command is downloading"):
        fetch(server, tmp_path / "xc", on_file=second)


def test_a_disk_that_cannot_be_written_is_an_error_in_words(
    server: XenoCantoServer, tmp_path: Path
) -> None:
    fill(server, 1)
    (tmp_path / "xc").mkdir()
    (tmp_path / "xc" / "audio").write_text("a file in the way")
    with pytest.raises(DataError, match="cannot be written"):
        fetch(server, tmp_path / "xc")


def test_a_ledger_that_names_other_places_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "xc" / "audio" / "a").mkdir(parents=True)
    secret = tmp_path / "XC1.mp3"
    for path in (secret, tmp_path / "xc" / "XC1.mp3"):
        path.write_bytes(b"12345")
    lines = [f"1,{file},,,,,5,{'0' * 64}" for file in ("../XC1.mp3", "../../XC1.mp3", str(secret))]
    (tmp_path / "xc" / "ledger.csv").write_text("\n".join([",".join(LEDGER_COLUMNS), *lines]))
    assert load_finished(tmp_path / "xc") == {}


# ---------------------------------------------------------------- the key


def test_the_key_is_nowhere_to_be_seen(
    cli: Cli,
    server: XenoCantoServer,
    lab: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.DEBUG)
    fill(server)
    server.faults["/api"] = [Fault(500)]
    server.faults["/file/101"] = [Fault(302, {"Location": f"https://evil.example/?key={KEY}"})]
    seen = [cli("--query", "grp:birds", "--out", "xc")]
    said = f'{{"message": "no such tag {KEY} in s3cret%2FKey%2B42"}}'.encode()
    server.faults["/api"] = [Fault(400, {}, said)]
    seen.append(cli("--query", "grp:birds", "--out", "xc"))
    monkeypatch.setenv("BIRDLAB_XENO_CANTO_URL", "http://127.0.0.1:9/api")
    seen.append(cli("--query", "grp:birds", "--out", "xc"))
    assert [answer.code for answer in seen] == [1, 1, 1]
    assert "no such tag *** in ***" in seen[1].err
    assert "there is no connection to the server" in seen[2].err
    assert "GET /api" in caplog.text, "the libraries do log addresses"
    everything = caplog.text + "".join(a.out + a.err for a in seen) + every_text(lab)
    assert all(form not in everything for form in (KEY, "s3cret", "Key%2B42"))


def test_an_error_brings_no_exception_along_that_holds_the_key() -> None:
    with Web(KEY, "http://127.0.0.1:9/api", interval_s=0) as web:
        with pytest.raises(FetchError) as caught:
            ask_recordings(web, "gen:turdus")
        links: list[BaseException | None] = [caught.value]
        while links[-1] is not None:
            assert "s3cret" not in repr(links[-1]) + str(links[-1])
            links.append(links[-1].__cause__ or links[-1].__context__)
        assert "s3cret" not in repr(web)


def test_a_wrong_key_is_named_without_showing_it(
    cli: Cli, server: XenoCantoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XENO_CANTO_KEY", "wrong-key")
    done = cli("--query", "grp:birds", "--out", "xc")
    assert done.code == 1
    assert "does not accept the key" in done.err and "XENO_CANTO_KEY" in done.err
    assert "'key' parameter ***" in done.err and "wrong-key" not in done.out + done.err
    assert len(server.asked) == 1


def test_without_a_key_nothing_is_asked(
    cli: Cli, server: XenoCantoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XENO_CANTO_KEY", " ")
    done = cli("--query", "grp:birds", "--out", "xc")
    assert done.code == 1 and "Xeno-canto needs a key" in done.err
    assert server.asked == []
    with pytest.raises(DataError):
        load_key()


@pytest.mark.parametrize("address", ["http://xeno-canto.org/api", "https://a@b/api", "api", ""])
def test_the_key_is_not_sent_in_the_clear(address: str) -> None:
    with pytest.raises(DataError, match="the key would be sent there"):
        Web(KEY, address)


# ---------------------------------------------------------------- wrong wishes


@pytest.mark.parametrize(
    ("args", "part"),
    [
        ((), "not named"),
        (("--query", " "), "not named"),
        (("--query", "a", "--species", "species.csv"), "both"),
        (("--species", "nowhere.csv"), "cannot be read"),
        (("--query", "a", "--quality", "A,F"), "unknown quality"),
        (("--query", "a", "--min-length", "9", "--max-length", "5"), "leave no recording"),
        (("--query", "a", "--max-length", "nan"), "leave no recording"),
        (("--query", "a", "--against", "hav"), "knows no data set"),
    ],
)
def test_wrong_wishes_are_refused_before_anything_is_asked(
    cli: Cli, server: XenoCantoServer, args: tuple[str, ...], part: str
) -> None:
    done = cli(*args, "--out", "xc")
    assert done.code == 1 and part in done.err and "Traceback" not in done.err
    assert server.asked == []


def test_a_species_file_tells_everything_that_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "species.csv"
    file.write_text(
        "primary_label;scientific_name\n"
        'a/b;Turdus merula\nCON;Parus major\nok1;"Parus""major x"\nok2;Turdus\n'
        "one;Corvus corax\ntwo;corvus  CORAX\n;Pica pica\n"
    )
    with pytest.raises(DataError) as caught:
        load_species(file)
    said = str(caught.value)
    assert "3 x primary_label is no folder name: 'a/b', 'CON', ''" in said
    assert "2 x scientific_name is not a genus and a species" in said
    assert "corvus CORAX: one and two" in said


def test_species_files_of_competitions_do(tmp_path: Path) -> None:
    file = tmp_path / "taxonomy.csv"
    file.write_text(
        "\ufeffprimary_label,inat_taxon_id,scientific_name,common_name\n"
        "1139490,1139490,Ragoniella pulchella,\neurbla,12716,Turdus merula,Blackbird\n"
        "eurbla,12716,Turdus merula,Blackbird\neurbla,1,Turdus merula mandarinus,x\n",
        encoding="utf-8",
    )
    species = load_species(file)
    assert species.label_of("turdus  MERULA") == species.label_of("Turdus merula mandarinus")
    assert species.label_of("Ragoniella pulchella") == "1139490"
    assert species.label_of("Parus major") is None
    assert species.queries[1] == 'sp:"turdus merula"'


@pytest.mark.parametrize("text", ["", "primary_label,name\na,b", "primary_label,scientific_name\n"])
def test_species_files_without_species(tmp_path: Path, text: str) -> None:
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(DataError):
        load_species(tmp_path / "s.csv")


def test_filters_refuse_nonsense() -> None:
    for wrong in ({"qualities": ("",)}, {"min_length_s": -1.0}, {"max_length_s": math.nan}):
        with pytest.raises(SpecError):
            Filters(**wrong)  # type: ignore[arg-type]


# ---------------------------------------------------------------- what the API says


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0:07", 7), ("12:34", 754), ("1:00:00", 3600), ("90:00", 5400), ("2:03:04", 7384)],
)
def test_lengths(text: str, seconds: float) -> None:
    assert read_length_s(text) == seconds


@pytest.mark.parametrize("text", ["", "7", "1:2", "-1:00", "1:00:00:00", "a:bc", "1:00 ", "٣:٠٠"])
def test_what_is_no_length(text: str) -> None:
    assert math.isnan(read_length_s(text))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
FIELDS = ("gen", "sp", "en", "rec", "lic", "q", "type", "lat", "lon", "length", "date", "smp")


@settings(max_examples=50)
@given(st.dictionaries(st.sampled_from([*FIELDS, "also", "file", "file-name"]), JSON))
def test_whatever_a_row_holds_is_one_line_of_plain_text(raw: dict[str, Any]) -> None:
    recording = read_recording({**raw, "id": "12"})
    assert recording is not None
    for value in vars(recording).values():
        for text in value if isinstance(value, tuple) else (str(value),):
            assert text.isprintable() and len(text) <= 600
            text.encode("utf-8")
    assert not math.isinf(recording.latitude) and not math.isinf(recording.duration_s)


@settings(max_examples=50)
@given(JSON)
def test_a_row_without_a_number_is_none(raw: object) -> None:
    recording = read_recording({"id": raw})
    assert recording is None or (recording.xc_id.isascii() and recording.xc_id.isdigit())
    assert read_recording(raw) is None


@given(st.text())
def test_labels_made_of_names_are_folder_names(name: str) -> None:
    label = snake_label(f"Genus {name}")
    assert is_label(label) and label == label.lower()


@given(st.text())
def test_an_address_is_shown_without_what_it_asks(text: str) -> None:
    shown = shown_address(f"https://me:pw@host/{text}?key=s3cret")
    assert "s3cret" not in shown and "pw@" not in shown and shown.isprintable()


def test_errors_are_of_the_family() -> None:
    assert issubclass(FetchError, BirdlabError)
