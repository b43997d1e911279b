"""The README of a bundle: what it holds, under which licence, how it is uploaded and tried."""

from __future__ import annotations

import html
import json

from birdlab import __version__
from birdlab.infer.card import ModelCard
from birdlab.infer.variants import Variant
from birdlab.promote.kaggle import NO_USER, KaggleNames

NO_LICENCE = (
    "The model does not say under which licences the recordings were published that it learned "
    "from. Find that out before you share or sell it."
)


def readme_text(
    card: ModelCard,
    names: KaggleNames,
    variant: Variant,
    deadline_minutes: int,
    python: str | None,
    n_wheels: int,
) -> str:
    """The README in Markdown. `python` is that of the wheels, None for a bundle without.

    What the model's card says is quoted as code, so that no name in it becomes markup.
    """
    parts = [
        f"# {names.slug.replace('-', ' ')}",
        f"A promoted model of birdlab {__version__} and all that an offline notebook needs to make "
        "a submission with it.",
        _table(variant, python, n_wheels),
        _licence(card),
        _upload(names, deadline_minutes),
        _by_hand(python),
        _BENCHMARK,
        _model(card),
    ]
    return "\n\n".join(parts) + "\n"


def _table(variant: Variant, python: str | None, n_wheels: int) -> str:
    model = "model.onnx" if variant.name == "fp32" else variant.file
    rows = [
        (model, f"the model: waveform in, probabilities out ({variant.name})"),
        ("predictor.pyz", "all code that runs it, in one file; `--help` lists its options"),
        ("variants.json, bundle.json", "which form of the model is run"),
        ("SHA256SUMS", "of every uploaded file; the predictor compares them at its start"),
    ]
    if python is not None:
        rows.append((f"{n_wheels} wheels", f"the packages for Python {python}"))
        rows.append(("requirements.txt", "their versions and hashes"))
    rows.append(("dataset-metadata.json, kernel/", "for Kaggle's command line; not uploaded"))
    lines = ["## What is in it", "", "| file | what it is |", "|---|---|"]
    return "\n".join([*lines, *(f"| {name} | {what} |" for name, what in rows)])


def _licence(card: ModelCard) -> str:
    said = card.details.get("licence")
    notice = (
        NO_LICENCE
        if not said
        else "\n".join(f"> {html.escape(_plain(line), quote=False)}" for line in said.splitlines())
    )
    return (
        f"## Licence\n\n{notice}\n\nThe code of birdlab in predictor.pyz is under the MIT licence. "
        "Each wheel holds the licence of its package."
    )


def _upload(names: KaggleNames, deadline_minutes: int) -> str:
    first = (
        f"Put your user name in the place of `{NO_USER}` in dataset-metadata.json and "
        "kernel/kernel-metadata.json first (or bundle with --user).\n\n"
        if names.user == NO_USER
        else ""
    )
    competition = (
        f"The notebook reads the test soundscapes of {names.competition}. "
        if names.competition
        else "No competition is named: the notebook reads /kaggle/input/soundscapes. "
    )
    return (
        "## Upload\n\n"
        f"{first}    kaggle datasets create -p .    # later: kaggle datasets version -p . -m TEXT\n"
        "    kaggle kernels push -p kernel\n\n"
        f"{competition}It needs no internet, "
        f"leaves members out when {deadline_minutes} minutes would not do, and always writes a "
        "submission: without test soundscapes the sample submission as it is."
    )


def _by_hand(python: str | None) -> str:
    install = (
        "    python -m venv --system-site-packages env     # any Python with its own numpy, ...\n"
        if python is None
        else f"    python{python} -m venv env\n"
        "    env/bin/pip install --no-deps --require-hashes -r requirements.txt\n"
    )
    return (
        f"## By hand\n\n{install}"
        "    env/bin/python predictor.pyz predict SOUNDSCAPES -o submission.csv\n\n"
        "Without pyarrow no table of all windows is written beside the submission."
    )


_BENCHMARK = """\
## How long will it take?

Measure the machine that will run it, there, in a minute:

    python predictor.pyz benchmark -o machine.json

and bring the file back to the lab:

    birdlab budget --machine machine.json"""


def _model(card: ModelCard) -> str:
    members = "\n".join(
        f"- `{_plain(member.name)}` `{_plain(member.backbone) or 'model'}`, "
        f"weight {member.weight:g}"
        for member in card.members
    )
    lineage = "".join(
        f"\n- {key}: `{_plain(card.details[key])}`"
        for key in ("competition", "spec_ids", "data", "metric")
        if key in card.details
    )
    return (
        f"## The model\n\n{len(card.classes)} classes, windows of {card.window_s:g} s at "
        f"{card.sample_rate_hz} Hz, {len(card.members)} member"
        f"{'s' * (len(card.members) != 1)}, blend: {card.blend}\n\n{members}{lineage}"
    )


def _plain(text: str) -> str:
    """A text that cannot end the code span or the line it stands in."""
    return json.dumps(text, ensure_ascii=False)[1:-1].replace("`", "'").replace("\\", "")
