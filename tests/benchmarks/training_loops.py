"""Two training loops that do the same work, each run in a process of its own and measured.

    python training_loops.py ours|plain FOLDER STEPS     prints one line of JSON

`plain` does what the BirdCLEF 2023 recipe says, item by item in a DataLoader with two workers,
over audio decoded into memory. It is written as well as such a loop can be: recordings decoded
by two threads, one copy per clip, workers that share the audio. `ours` is birdlab's `fit` over a
warm waveform store. Network, threads, batch, augmentations and optimiser are the same.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import soundfile
import torch
import torchaudio
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate, pad
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler

from birdlab.cell import keep_freed_memory
from birdlab.data.store import WaveStore
from birdlab.sed.fit import fit
from birdlab.sed.loader import ClipSource, Takes, locate_takes
from birdlab.sed.model import SEDModel
from birdlab.sed.sampler import row_weights
from birdlab.sed.steps import Steps
from birdlab.sed.targets import Targets
from birdlab.spec.augmentations import (
    AugmentationSpec,
    Background,
    OrMixup,
    RandomFiltering,
    SpecMask,
)
from birdlab.spec.model import ModelSpec
from birdlab.spec.recipe import Length, TrainSpec

RATE, CROP, BATCH, N_CLASSES, THREADS = 32_000, 160_000, 32, 264, 2
MODEL = ModelSpec(backbone="tf_efficientnet_b0")
TRAIN = TrainSpec(batch=BATCH, length=Length(steps=1), threads_per_cell=THREADS)
AUGMENT: tuple[AugmentationSpec, ...] = (
    OrMixup(name="or_mixup", p=0.5),
    Background(name="background", p=0.5, noise=("noise",)),
    RandomFiltering(name="random_filtering"),
    SpecMask(name="spec_mask", p=0.3),
)
N_FFT, HOP, EPS = 1024, 512, 1e-6


def recordings(folder: Path) -> list[Path]:
    """The recordings to train on."""
    return sorted((folder / "train").glob("*.ogg"))


def noises(folder: Path) -> list[Path]:
    """The background recordings."""
    return sorted((folder / "noise").glob("*.ogg"))


def labels(n: int) -> np.ndarray:
    """A class per recording, some classes far more frequent than others."""
    return (N_CLASSES * np.random.default_rng(0).random(n) ** 2).astype(np.int32)


def open_source(folder: Path) -> ClipSource:
    """The recordings in their waveform store, which is built when it is not there."""
    store = WaveStore(folder / "store", RATE)
    paths = {store.key(str(path)): path for path in [*recordings(folder), *noises(folder)]}
    store.build([(key, paths[key]) for key in store.missing(list(paths))], jobs=2)
    keys, n = list(paths), len(recordings(folder))

    def takes(some: list[str]) -> Takes:
        return locate_takes(store, np.array(some, "S32"), np.full((len(some), 2), np.nan))

    empty = np.zeros(n + 1, np.int64)
    targets = Targets(labels(n), empty, np.zeros(0, np.int32), N_CLASSES)
    return ClipSource(store, takes(keys[:n]), targets, {"noise": takes(keys[n:])}, CROP)


def train_ours(folder: Path, n_steps: int, stepped: Callable[[], None]) -> None:
    """birdlab's own training."""
    keep_freed_memory()
    source = open_source(folder)
    model = SEDModel(MODEL, N_CLASSES)
    original = model.classify

    def classify(mel: Tensor) -> object:
        stepped()
        return original(mel)

    model.classify = classify  # type: ignore[method-assign, assignment]
    fit(
        model,
        source,
        TRAIN,
        AUGMENT,
        Steps(n_steps, n_steps, BATCH),
        seed=0,
        fold=0,
        device=torch.device("cpu"),
        names=lambda rows: [str(row) for row in rows],
        report=lambda _: None,
    )


class InMemory(Dataset[tuple[Tensor, Tensor]]):
    """All audio as float32, one augmented item at a time."""

    def __init__(self, folder: Path) -> None:
        with ThreadPoolExecutor(2) as threads:
            self.waves = list(threads.map(self.decode, recordings(folder)))
            self.noise = list(threads.map(self.decode, noises(folder)))
        self.targets = torch.eye(N_CLASSES)[torch.from_numpy(labels(len(self.waves))).long()]
        self.window = torch.hann_window(N_FFT)

    @staticmethod
    def decode(path: Path) -> Tensor:
        return torch.from_numpy(soundfile.read(path, dtype="float32")[0])

    def __len__(self) -> int:
        return len(self.waves)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        wave, target = self.crop(self.waves[row]), self.targets[row]
        u = torch.rand(3).tolist()
        if u[0] < 0.5:
            other = int(torch.randint(len(self.waves), ()))
            wave = self.normalise(wave.add_(self.crop(self.waves[other])))
            target = torch.clamp(target + self.targets[other], 0, 1)
        if u[1] < 0.5:
            piece = self.crop(self.noise[int(torch.randint(len(self.noise), ()))])
            wave = self.normalise(wave.lerp_(piece, 0.25 + u[2] / 2))
        return self.filter(wave), target

    def crop(self, wave: Tensor) -> Tensor:
        start = int(torch.randint(max(1, len(wave) - CROP + 1), ()))
        clip = wave[start : start + CROP].clone()
        return self.normalise(pad(clip, (CROP - len(clip), 0)))

    @staticmethod
    def normalise(wave: Tensor) -> Tensor:
        return wave.div_(wave.abs().max().clamp_(min=EPS))

    def filter(self, wave: Tensor) -> Tensor:
        gains = (torch.rand(4) * -20)[None, None]
        curve = interpolate(gains, N_FFT // 2 + 1, mode="linear", align_corners=True)[0, 0]
        spectrum = torch.stft(wave, N_FFT, HOP, window=self.window, return_complex=True)
        spectrum *= (10 ** (curve / 20))[:, None]
        wave = torch.istft(spectrum, N_FFT, HOP, window=self.window)
        return pad(wave / (wave.abs().max() + EPS), (0, CROP - len(wave)))


class PlainMel(torch.nn.Module):
    """The spectrogram of the recipe out of torchaudio's parts, masked in training."""

    def __init__(self) -> None:
        super().__init__()
        self.mel = torchaudio.transforms.MelSpectrogram(
            RATE, 2048, hop_length=512, f_min=20, f_max=16_000, n_mels=128, normalized=True
        )
        self.decibels = torchaudio.transforms.AmplitudeToDB(top_db=80)
        self.bins = torchaudio.transforms.FrequencyMasking(10)
        self.frames = torchaudio.transforms.TimeMasking(20)

    def forward(self, wave: Tensor) -> Tensor:
        db = self.decibels(self.mel(wave)[:, None])
        z = (db - db.mean((2, 3), keepdim=True)) / (db.std((2, 3), keepdim=True) + EPS)
        low = z.amin((2, 3), keepdim=True)
        mel = (z - low) / (z.amax((2, 3), keepdim=True) - low)
        for i, u in enumerate(torch.rand(len(mel), 2).tolist()):
            for p, mask in zip(u, (self.bins, self.frames), strict=True):
                if p < 0.3:
                    for _ in range(int(torch.randint(1, 4, ()))):
                        mel[i] = mask(mel[i])
        return mel


def train_plain(folder: Path, n_steps: int, stepped: Callable[[], None]) -> None:
    """The plain loop."""
    data = InMemory(folder)
    weights = torch.from_numpy(row_weights(labels(len(data)), 0.5))
    loader = DataLoader(
        data,
        batch_size=BATCH,
        sampler=WeightedRandomSampler(weights, n_steps * BATCH, replacement=True),  # type: ignore[arg-type]
        num_workers=2,
        prefetch_factor=2,
    )
    front, model = PlainMel(), SEDModel(MODEL, N_CLASSES).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for wave, target in loader:
        mel = front(wave)
        stepped()
        logits = model.classify(mel).logits
        cross = binary_cross_entropy_with_logits(logits, target, reduction="none")
        missed = target * (-logits).sigmoid() + (1 - target) * logits.sigmoid()
        alpha = 0.25 * target + 0.75 * (1 - target)
        loss = (alpha * missed.square() * cross).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        assert loss.item() >= 0


def anonymous_mb() -> float:
    """The anonymous memory of this process and of its children, megabytes, shared pages once."""
    me, total = str(Path("/proc/self").resolve().name), 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if stat.parent.name == me or stat.read_text().rpartition(")")[2].split()[1] == me:
                for line in (stat.parent / "smaps_rollup").read_text().splitlines():
                    if line.startswith(("Pss_Anon:", "Pss_Shmem:")):
                        total += int(line.split()[1])
        except OSError:
            continue
    return total / 1024


class Meter:
    """The times of the steps, and the largest memory that was seen meanwhile."""

    def __init__(self) -> None:
        self.base_mb, self.peak_mb = anonymous_mb(), 0.0
        self.times: list[float] = []
        self.began = time.perf_counter()
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def watch(self) -> None:
        while not self.stop.wait(0.25):
            self.peak_mb = max(self.peak_mb, anonymous_mb())

    def stepped(self) -> None:
        self.times.append(time.perf_counter())

    def result(self) -> dict[str, float]:
        self.stop.set()
        self.thread.join()
        seconds = np.diff(self.times)[1:]  # the first steps warm the caches
        return {
            "first_step_s": self.times[0] - self.began,
            "clips_per_s": BATCH / float(np.mean(seconds)),
            "peak_mb": self.peak_mb - self.base_mb,
        }


if __name__ == "__main__":
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    meter = Meter()
    loop = {"ours": train_ours, "plain": train_plain}[sys.argv[1]]
    loop(Path(sys.argv[2]), int(sys.argv[3]), meter.stepped)
    print(json.dumps(meter.result()))
