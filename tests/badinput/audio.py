"""Cases of audio files: headers that lie, rubbish, bits flipped, and what is no file at all."""

from __future__ import annotations

import os
import random
import shutil
import struct
from pathlib import Path

import numpy as np
import soundfile

from .sandbox import Room
from .text import mutate_bytes
from .world import SPEC, World

_ENDINGS = (".wav", ".flac", ".ogg", ".mp3")
_RATES = (0, 1, 7, 100, 8_000, 44_100, 2**31 - 1, 10**9)


def write_noise(path: Path, seconds: float, rate_hz: int, seed: int, channels: int = 1) -> None:
    """A recording of noise in the format that its ending says."""
    n = max(1, int(seconds * rate_hz))
    wave = np.random.default_rng(seed).uniform(-0.5, 0.5, (n, channels))
    soundfile.write(path, wave, rate_hz)


def lying_wav(rng: random.Random) -> bytes:
    """A WAV whose header states channels, rates, widths and lengths at will."""
    data = rng.randbytes(rng.choice((0, 1, 3, 4000)))
    channels, width = (
        rng.choice((0, 1, 2, 3, 255, 65_535)),
        rng.choice((0, 1, 8, 16, 24, 32, 64, 7)),
    )
    rate, form = rng.choice(_RATES), rng.choice((0, 1, 3, 6, 7, 17, 85, 0xFFFE))
    size = rng.choice((0, len(data), 2**31 - 1, 2**32 - 1, 0x7FFFFF00))
    align = rng.choice((0, channels * width // 8 % 65_536, 1))
    chunk = struct.pack(
        "<4sIHHIIHH", b"fmt ", 16, form, channels, rate, rng.choice((0, rate)), align, width
    )
    return (
        b"RIFF"
        + struct.pack("<I", rng.choice((size, 36)))
        + b"WAVE"
        + chunk
        + b"data"
        + struct.pack("<I", size)
        + data
    )


def _float_wav(path: Path, rng: random.Random) -> None:
    wave = np.zeros(rng.choice((100, 9000)))
    wave[rng.randrange(len(wave))] = rng.choice((np.nan, np.inf, -np.inf, 1e38, 1e-45))
    soundfile.write(path, wave, rng.choice((8000, 44_100)), subtype=rng.choice(("FLOAT", "DOUBLE")))


def _outside(path: Path) -> Path:
    """The folder of the bait of the room that `path` lies in."""
    return next(p for p in path.parents if p.name == "lab").parent / "outside"


def _no_file(path: Path, rng: random.Random) -> None:
    change = rng.randrange(6)
    if change == 0:
        path.mkdir()
    elif change == 1:
        os.mkfifo(path)
    elif change == 2:
        path.symlink_to(path.name)
    elif change == 3:
        path.symlink_to(_outside(path) / "secret.wav")
    elif change == 4:
        path.symlink_to(rng.choice(("/dev/zero", "/dev/urandom", "/dev/null", "/etc/passwd")))
    else:
        header = lying_wav(rng)
        rate_hz = int.from_bytes(header[24:28], "little")
        size = 300 << 20 if rate_hz > 8_000 else 4_000 * rate_hz  # days of audio are work, no hang
        with path.open("wb") as file:  # holes: large, and takes no room on the disk
            file.write(header)
            file.truncate(max(size, len(header)))


def write_bad(path: Path, rng: random.Random) -> None:
    """A recording that is broken in one way, of the ending that `path` has or of another one."""
    change = rng.randrange(10)
    if change <= 4:
        source = path.with_name(f"source{rng.choice(_ENDINGS)}")
        write_noise(
            source,
            rng.choice((0.3, 1.5)),
            rng.choice((8_000, 32_000)),
            rng.randrange(9),
            rng.choice((1, 1, 2)),
        )
        content = mutate_bytes(source.read_bytes(), rng)
        source.unlink()
        path.write_bytes(content)
    elif change == 5:
        path.write_bytes(lying_wav(rng))
    elif change == 6:
        path.write_bytes(
            rng.choice((b"", b"OggS", b"fLaC", b"ID3", b"RIFF", b"\xff\xfb", b"<?xml", b"#!AMR"))
            + rng.randbytes(rng.choice((0, 40, 5000)))
        )
    elif change == 7:
        _float_wav(path.with_suffix(".wav"), rng)
        if path.suffix != ".wav":
            path.with_suffix(".wav").rename(path)
    else:
        _no_file(path, rng)


def _names(rng: random.Random, n: int) -> list[str]:
    odd = (
        "a b",
        "ü",
        "-rf",
        "x" * 200,
        "a\x1b[31m",
        "a\nb",
        "CON",
        "a,b",
        "$(x)",
        "soundscape_1",
        "H02_20230420_074000",
    )
    return [
        f"{rng.choice(odd) if rng.random() < 0.3 else 'r'}{i}{rng.choice(_ENDINGS)}"
        for i in range(n)
    ]


def audio_build(room: Room, world: World, rng: random.Random, campaign: int) -> list[str]:
    """A data set with broken recordings, decoded, audited or planned."""
    import csv

    folder = room.lab / "birds" / "train_audio" / "aaa"
    folder.mkdir(parents=True)
    good = world.data / "tiny" / "train_audio"
    files = [f"bbb/{i}.ogg" for i in range(4)]
    (folder.parent / "bbb").mkdir()
    for name, source in zip(files, sorted(good.rglob("*.ogg")), strict=False):
        shutil.copy(source, folder.parent / name)
    for name in _names(rng, rng.choice((1, 2, 4))):
        write_bad(folder / name, rng)
        files.append(f"aaa/{name}")
    with (room.lab / "birds" / "train_metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("primary_label", "filename"), *((n[:3], n) for n in files)])
    keep = rng.choice(("store", "decode"))
    (room.lab / "birdlab.toml").write_text(
        f'jobs = 1\nwaveforms = "{keep}"\n[data]\nbirds = "birds"\n'
    )
    (room.lab / "birds.yaml").write_text(SPEC)
    skip = ["--set", "data.on_bad_file=skip"] if rng.random() < 0.5 else []
    words = ["data", "build", "birds.yaml", "-j", "1"]
    return (
        rng.choice((words, words, ["data", "audit", "birds.yaml"]))
        if rng.random() < 0.8
        else ["run", "birds.yaml", "--dry-run"]
    ) + skip


def audio_predict(room: Room, world: World, rng: random.Random, campaign: int) -> list[str]:
    """A folder of soundscapes with broken ones, to predict."""
    folder = room.lab / "deep" / "er" / "scapes"
    folder.mkdir(parents=True)
    (room.lab / "birdlab.toml").write_text("jobs = 1\n")
    write_noise(folder / "good_1.ogg", 3, 8_000, 1)
    for name in _names(rng, rng.choice((1, 2, 3))):
        write_bad(folder / name, rng)
    if rng.random() < 0.2:
        (folder / "good_1.ogg").unlink()
    words = ["predict", "deep/er/scapes", "--model", str(world.model), "-o", "submission.csv"]
    words += ["--sessions", "1", "--threads", "1"]
    if rng.random() < 0.5:
        words += ["--on-bad-file", rng.choice(("prior", "zeros", "fail", "x"))]
    return words
