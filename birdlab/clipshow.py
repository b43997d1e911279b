"""Clips on their way through the augmentations of a stage, one step at a time.

The road is that of training: the same plan, store, draws, functions and front-end. Only the
list of augmentations is cut short, so that each step can be seen and heard.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from birdlab.cellclips import clip_source
from birdlab.celljob import CellJob
from birdlab.errors import SpecError
from birdlab.jobwriter import job_folder, save_job
from birdlab.lab import Lab
from birdlab.plan import Progress, plan_experiment, silent
from birdlab.run import build_store, refuse_missing
from birdlab.spec.augmentations import AugmentationSpec
from birdlab.spec.base import Spec
from birdlab.spec.experiment import ExperimentSpec
from birdlab.spec.kinds import function_of, nearest
from birdlab.spec.model import LogMelSpec, MultiMelSpec

Wave = npt.NDArray[np.float32]
READ = "crop"
"""The name of the look at a clip before any augmentation."""


@dataclass(frozen=True)
class Sound:
    """A waveform in numbers: level over full scale, peak, and where its power lies.

    rms_db is -inf and centroid_hz NaN for silence.
    """

    rms_db: float
    peak: float
    centroid_hz: float


@dataclass(frozen=True, eq=False)
class Look:
    """A clip after one step.

    step: the name of the augmentation, `crop` before all of them; kind: its kind; drawn: the
    numbers behind it, in words; changed: whether wave, mel, labels or their mask differ from the
    look before; wave: [S]; mel: [C, M, T], 0..1; labels: by class, those above 0, NaN for one
    that is left out of the loss.
    """

    step: str
    kind: str
    drawn: str
    changed: bool
    wave: Wave
    mel: npt.NDArray[np.float32]
    labels: Mapping[str, float]
    sound: Sound


@dataclass(frozen=True, eq=False)
class ShownClip:
    """One clip of an epoch: its recording, and how it looks after each step, `crop` first."""

    recording: str
    looks: tuple[Look, ...]


@dataclass(frozen=True, eq=False)
class ClipShow:
    """The first clips of one epoch of a cell.

    bands_hz: [M] the centre of each band of the spectrogram; None where the front-end is an
    extension's, which does not say.
    """

    stage: str
    fold: int | None
    seed: int
    epoch: int
    sample_rate_hz: int
    bands_hz: npt.NDArray[np.float64] | None
    clips: tuple[ShownClip, ...]

    @property
    def title(self) -> str:
        """Which clips these are, in words."""
        where = "all data" if self.fold is None else f"fold {self.fold}"
        n = f"{len(self.clips)} clips" if len(self.clips) > 1 else "clip"
        return f"the first {n} of epoch {self.epoch} of {self.stage}, {where}, seed {self.seed}"


def measure_sound(wave: npt.NDArray[Any], sample_rate_hz: int) -> Sound:
    """Level, peak and spectral centroid of a waveform [S], -1..1.

    The centroid is the mean frequency of the whole waveform, each weighed by its power.
    """
    power = np.abs(np.fft.rfft(wave.astype(np.float64))) ** 2
    hz = np.fft.rfftfreq(len(wave), 1 / sample_rate_hz)
    rms = float(np.sqrt(np.mean(np.square(wave, dtype=np.float64))))
    return Sound(
        rms_db=20 * float(np.log10(rms)) if rms > 0 else -np.inf,
        peak=float(np.abs(wave).max(initial=0)),
        centroid_hz=float(power @ hz / power.sum()) if power.sum() > 0 else np.nan,
    )


def open_show(
    spec: ExperimentSpec,
    lab: Lab,
    *,
    stage: str | None = None,
    n_clips: int = 6,
    epoch: int = 0,
    progress: Progress = silent,
) -> ClipShow:
    """The first clips of an epoch of the experiment's first cell of a stage (default: the last).

    Plans the experiment and decodes its audio into the store, as training would. Raises SpecError
    for a stage that it has not, and what planning and decoding raise.
    """
    name = stage or spec.stages[-1].name
    names = [known.name for known in spec.stages]
    if name not in names:
        raise SpecError("unknown stage", got=name, expected=nearest(name, names))
    plan = plan_experiment(spec, lab, progress=progress)
    refuse_missing(plan)
    if not build_store(lab, plan, progress):
        plan = plan_experiment(spec, lab, progress=progress)
    cell = next(cell for cell in plan.cells if cell.stage.name == name)
    with job_folder(lab) as folder:
        job = save_job(plan, cell, folder)
        return show_clips(job, clip_source(job, lab), n_clips=n_clips, epoch=epoch)


def show_clips(job: CellJob, source: Any, *, n_clips: int = 6, epoch: int = 0) -> ClipShow:
    """The first clips that the cell of `job` draws in an epoch, after each of its augmentations.

    `source` is the ClipSource of the cell. Waveform augmentations come first, then those of the
    spectrogram, as in training. Trained weights play no part.
    """
    import torch

    from birdlab.sed.augment import augment_mel, augment_wave
    from birdlab.sed.draws import EpochDraws
    from birdlab.sed.loader import read_batch
    from birdlab.sed.sampler import draw_rows

    train, augment = job.stage.train, job.stage.augment
    draws, n_draws = EpochDraws(job.seed, job.fold, epoch), job.steps.per_epoch * job.steps.batch
    source = replace(source, sampler=train.sampler)
    rows = draw_rows(train.sampler, source.targets.primary, n_draws, draws.generator("rows"))
    positions = np.arange(len(rows[:n_clips]))
    rows = source.with_windows(rows[:n_clips], draws, positions)
    waves = [step for step in augment if step.domain == "wave"]
    masks = [step for step in augment if step.domain == "mel"]

    def batch_after(n: int) -> Any:
        stored = read_batch(source, augment, draws, positions, rows)
        return augment_wave(waves[:n], stored.to(torch.device("cpu")), draws, positions)

    batches = [batch_after(n) for n in range(len(waves) + 1)]
    frontend = _build_frontend(job)
    with torch.no_grad():
        mels = [frontend(batch.wave) for batch in batches]
        mels += [augment_mel(masks[: n + 1], mels[-1], draws, positions) for n in range(len(masks))]
    batches += [batches[-1]] * len(masks)
    steps = [*waves, *masks]
    drawn = [[""] * len(rows)] + [
        _drawn_words(step, batches[0], draws.at(positions, step.name), job) for step in steps
    ]
    clips = []
    for i, recording in enumerate(source.name_clips(rows.tolist(), job.names)):
        looks = _looks(job, i, steps, batches, mels, drawn)
        clips.append(ShownClip(recording, looks))
    return ClipShow(
        job.stage.name,
        job.fold,
        job.seed,
        epoch,
        job.sample_rate_hz,
        _band_centres(job.spec.model.frontend),
        tuple(clips),
    )


def _looks(
    job: CellJob,
    i: int,
    steps: Sequence[AugmentationSpec],
    batches: Sequence[Any],
    mels: Sequence[Any],
    drawn: Sequence[Sequence[str]],
) -> tuple[Look, ...]:
    """Clip `i` of the batches as it was read and after each step."""
    looks: list[Look] = []
    for n, (batch, mel) in enumerate(zip(batches, mels, strict=True)):
        name, kind = (steps[n - 1].name, steps[n - 1].kind) if n else (READ, READ)
        wave, image, labels = batch.wave[i].numpy(), mel[i].numpy(), _labels(job, batch, i)
        words, changed = drawn[n][i], False
        if looks:
            before = looks[-1]
            same_labels = str(labels) == str(before.labels)  # NaN is no equal of NaN
            share = float(np.mean(image != before.mel))
            changed = share > 0 or not same_labels or not np.array_equal(wave, before.wave)
            if steps[n - 1].domain == "mel" and changed:
                words = ", ".join(filter(None, (words, f"{share:.0%} of the spectrogram")))
        sound = measure_sound(wave, job.sample_rate_hz)
        looks.append(Look(name, kind, words, changed, wave, image, labels, sound))
    return tuple(looks)


def _labels(job: CellJob, batch: Any, i: int) -> dict[str, float]:
    targets = batch.targets[i].numpy().astype(np.float64)
    if batch.mask is not None:
        targets[~batch.mask[i].numpy()] = np.nan
    return {job.classes.codes[c]: float(targets[c]) for c in np.flatnonzero(targets != 0).tolist()}


def _drawn_words(step: AugmentationSpec, batch: Any, draws: Any, job: CellJob) -> list[str]:
    """What a step drew for each clip of a batch, in words; "" where it leaves the clip alone."""
    drawn = getattr(function_of(step), "drawn", None)
    values = {} if drawn is None else drawn(step, batch, draws)
    words = [
        [f"{name} {_number_words(value[i])}" for name, value in values.items()]
        for i in range(len(draws))
    ]
    got = batch.fetched.get(step.name, {})
    for place, name in zip(got.get("index", ()), job.names(got.get("rows", ())), strict=False):
        words[place].append(f"with {name}")
    chosen = draws.happens(step.p)
    return [", ".join(some) if happens else "" for some, happens in zip(words, chosen, strict=True)]


def _number_words(value: npt.NDArray[np.float64]) -> str:
    return " ".join(f"{number:.3g}" for number in np.atleast_1d(value).tolist())


def _build_frontend(job: CellJob) -> Any:
    """The front-end of the cell's network before its first step."""
    import torch

    from birdlab.sed import frontend as _kinds  # noqa: F401 (registers the kinds)
    from birdlab.sed.draws import torch_seed

    torch.manual_seed(torch_seed(job.seed, job.fold, "train", "init"))
    return function_of(job.spec.model.frontend)(job.spec.model.frontend).eval()


def _band_centres(frontend: Spec) -> npt.NDArray[np.float64] | None:
    """The centres of mel bands in Hz, those of the first channel; None for other front-ends.

    Source: mel(f) = 2595 · log10(1 + f / 700), centres evenly spaced.
    """
    if isinstance(frontend, MultiMelSpec):
        frontend = frontend.channels[0]
    if not isinstance(frontend, LogMelSpec):
        return None
    low, high = (2595 * np.log10(1 + hz / 700) for hz in (frontend.f_min_hz, frontend.f_max_hz))
    mels = np.linspace(low, high, frontend.n_mels + 2)[1:-1]
    centres: npt.NDArray[np.float64] = 700 * (10 ** (mels / 2595) - 1)
    return centres
