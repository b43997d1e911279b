"""What is uploaded to an offline notebook: model, predictor, wheels, notebook, metadata, sums."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from birdlab.errors import PromotionError
from birdlab.infer.__main__ import BUNDLE_FILE, MODEL_FILE
from birdlab.infer.card import ModelCard
from birdlab.infer.checksums import SUMS_FILE, checksums_text
from birdlab.infer.models import find_model, weights_beside
from birdlab.infer.session import open_predictor
from birdlab.infer.variants import VARIANTS_FILE, Variant, choose_variant, variants_text
from birdlab.lab import Lab
from birdlab.promote.kaggle import (
    DATASET_FILE,
    KERNEL_FILE,
    NO_USER,
    KaggleNames,
    dataset_metadata,
    kaggle_competition,
    kernel_metadata,
    slug_of,
)
from birdlab.promote.notebook import NOTEBOOK_FILE, NotebookPlan, notebook_text
from birdlab.promote.predictor_file import PREDICTOR_FILE, write_predictor
from birdlab.promote.readme import readme_text
from birdlab.promote.wheels import download_wheels, expect_bytes, name_requirements
from birdlab.recorded import load_record, spec_of
from birdlab.spec.competition import PROFILES, CompetitionSpec

KERNEL_FOLDER = "kernel"
PYTHON, PLATFORM = "3.11", "manylinux_2_28_x86_64"
Tell = Callable[[str], None]
DEADLINE_SHARE = 0.92
"""Of a competition's minutes: 110 of 120. The rest is for what happens around the notebook."""


@dataclass(frozen=True)
class BundleRequest:
    """What to bundle: `model` as in `find_model`, its variant, for which Python and competition.

    `wheels_from`: a folder that holds the wheels, instead of the package index. `force`: take a
    variant that did not pass its gate.
    """

    model: str
    folder: Path
    competition: CompetitionSpec | None = None
    variant: str = "fp32"
    force: bool = False
    python: str = PYTHON
    platform: str = PLATFORM
    wheels: bool = True
    wheels_from: Path | None = None
    user: str = ""
    name: str = ""


@dataclass(frozen=True)
class Bundle:
    """What was written; `deadline_minutes` is that of the notebook."""

    folder: Path
    names: KaggleNames
    n_files: int
    n_wheels: int
    size_bytes: int
    deadline_minutes: int

    @property
    def has_placeholder(self) -> bool:
        """Whether the user's name is still to be put in."""
        return self.names.user == NO_USER


def competition_of(lab: Lab, model: Path) -> CompetitionSpec | None:
    """The competition that a model was trained for: as its first run says, else by its name.

    None when the run is not in the lab and the name is no profile.
    """
    card = open_predictor(model, threads=1).card
    spec_id = slug_of(card.members[0].run)  # the card may be a stranger's: no path comes of it
    if (lab.runs / f"{spec_id}.json").is_file():
        return spec_of(load_record(lab, spec_id)).competition
    return PROFILES.get(card.details.get("competition", ""))


def write_bundle(models: Path, request: BundleRequest, progress: Tell | None = None) -> Bundle:
    """The bundle in `request.folder`, which is new or empty; whole, or nothing of it.

    Raises PredictError for a model or variant that is not there, PromotionError when the folder
    is in use or cannot be written, when wheels cannot be fetched, when names do not fit, and for a
    competition whose submissions hold no probabilities.
    """
    tell = progress or (lambda text: None)
    target = request.folder
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise PromotionError(
            "the folder of the bundle is in use",
            where=str(target),
            expected="a new or an empty folder",
            fix="name another one, or remove it",
        )
    model = find_model(models, request.model)
    variant = _find_variant(model, request)
    tell("the model, once loaded")
    card = open_predictor(model, threads=1, variant=variant).card
    try:
        return _write_files(request, model, variant, card, tell)
    except OSError as error:
        raise PromotionError(
            "the bundle cannot be written",
            where=str(target),
            got=error.strerror or error,
            fix="make room, or name another folder: -o DIR",
        ) from None


def _write_files(
    request: BundleRequest, model: Path, variant: Variant, card: ModelCard, tell: Tell
) -> Bundle:
    """The bundle of what is known to be there."""
    target = request.folder
    names, minutes = _name(request, model), _deadline_minutes(request.competition)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".bundle-", dir=target.parent) as temporary:
        folder = Path(temporary) / "bundle"
        folder.mkdir()
        tell(_tell_size(request, model, variant, folder))
        _copy_model(model, variant, folder)
        write_predictor(folder / PREDICTOR_FILE)
        if request.wheels:
            tell("the wheels")
        wheels = _fetch_wheels(folder, request, variant) if request.wheels else []
        (folder / BUNDLE_FILE).write_text(_about(request, variant), encoding="utf-8")
        python = request.python if request.wheels else None
        readme = readme_text(card, names, variant, minutes, python, len(wheels))
        (folder / "README.md").write_text(readme, encoding="utf-8")
        files = [*folder.iterdir()]
        (folder / SUMS_FILE).write_text(checksums_text(files), encoding="utf-8")
        _write_kaggle(folder, names, request, variant, minutes)
        if target.exists():
            target.rmdir()
        folder.replace(target)
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    return Bundle(target, names, len(files) + 1, len(wheels), size, minutes)


def _tell_size(request: BundleRequest, model: Path, variant: Variant, folder: Path) -> str:
    """In words how much is about to be written, and how much the disk has left."""
    file = model.parent / variant.file
    needed = sum(path.stat().st_size for path in (file, weights_beside(file)) if path.is_file())
    needed += expect_bytes(variant.engine, request.wheels_from) if request.wheels else 0
    about, free = "about " if request.wheels else "", shutil.disk_usage(folder).free
    return f"{about}{needed / 1e6:,.1f} MB to write, {free / 1e9:,.1f} GB free"


def _fetch_wheels(folder: Path, request: BundleRequest, variant: Variant) -> list[Path]:
    return download_wheels(
        folder,
        name_requirements(variant.engine),
        python=request.python,
        platform=request.platform,
        source=request.wheels_from,
    )


def _find_variant(model: Path, request: BundleRequest) -> Variant:
    """The variant with the name of its file; fp32 is the model itself, whatever it is called."""
    if request.variant == "fp32":
        return Variant("fp32", model.name, "onnxruntime", "fp32", "passed")
    return choose_variant(model.parent, request.variant, force=request.force)


def _copy_model(model: Path, variant: Variant, folder: Path) -> None:
    """The file that the variant runs, with what lies beside it, and a list with this variant."""
    file = MODEL_FILE if variant.name == "fp32" else variant.file
    source = model.parent / variant.file
    shutil.copyfile(source, folder / file)
    data = weights_beside(source)
    if data.is_file():
        shutil.copyfile(data, folder / data.name)
    listed = variants_text({} if variant.name == "fp32" else {variant.name: variant})
    (folder / VARIANTS_FILE).write_text(listed + "\n", encoding="utf-8")


def _name(request: BundleRequest, model: Path) -> KaggleNames:
    of_model = model.parent.name[:12] if model.name == MODEL_FILE else model.stem
    slug = request.name or f"birdlab-{slug_of(of_model)}"[:50].rstrip("-")
    competition = request.competition
    return KaggleNames(
        request.user or NO_USER,
        slug,
        "" if competition is None else kaggle_competition(competition),
    )


def _deadline_minutes(competition: CompetitionSpec | None) -> int:
    if competition is None:
        return 110
    if competition.submission != "row_id_probabilities":
        raise PromotionError(
            "the submissions of this competition hold no probabilities",
            got=f"{competition.name}: {competition.submission}",
            fix="--competition none bundles the model all the same",
        )
    return max(1, int(competition.cpu_minutes * DEADLINE_SHARE))


def _about(request: BundleRequest, variant: Variant) -> str:
    about = {"model": request.model, "variant": variant.name}
    if request.wheels:
        about |= {"python": request.python, "platform": request.platform}
    return json.dumps(about, indent=1) + "\n"


def _write_kaggle(
    folder: Path, names: KaggleNames, request: BundleRequest, variant: Variant, minutes: int
) -> None:
    """The metadata and the notebook, which are no part of the uploaded data set."""
    (folder / DATASET_FILE).write_text(dataset_metadata(names), encoding="utf-8")
    kernel = folder / KERNEL_FOLDER
    kernel.mkdir()
    plan = NotebookPlan(
        dataset=names.slug,
        competition=names.competition,
        deadline_minutes=minutes,
        python=request.python if request.wheels else None,
        variant=variant.name,
        title=names.kernel.replace("-", " "),
    )
    (kernel / NOTEBOOK_FILE).write_text(notebook_text(plan), encoding="utf-8")
    (kernel / KERNEL_FILE).write_text(kernel_metadata(names, NOTEBOOK_FILE), encoding="utf-8")
