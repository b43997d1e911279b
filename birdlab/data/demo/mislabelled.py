"""The demo competition with wrong labels planted in its recordings, and which ones they are."""

from __future__ import annotations

import csv
import os
import shutil
from collections import Counter
from pathlib import Path

import pandas as pd

from birdlab.data.demo.settings import DemoSettings, build_generator
from birdlab.data.demo.world import RecordingPlan, World, build_world

SHARE = 0.08
"""The part of all recordings that get a wrong label."""
FEWEST = 3
"""A species keeps at least so many recordings of its own; a rarer one keeps all."""
COLUMNS = ("recording", "given", "true", "how", "moved_from")
METADATA = "train_metadata.csv"


def find_mislabelled(settings: DemoSettings) -> pd.DataFrame:
    """The planted errors: recording (as the data set names it), given, true, how, moved_from.

    A share of `SHARE` of the recordings, half of them called like the look-alike of their species
    (`how` is "look-alike"), the others like any other species ("random"). The label given is never
    that of a species that sings in the background, so that each is wrong. A species keeps at least
    `FEWEST` of its recordings. Nothing is rendered: it follows from the plan.
    """
    world = build_world(settings)
    rng = build_generator(settings.seed, "mislabelled")
    n = round(SHARE * len(world.recordings))
    spare = Counter(plan.primary for plan in world.recordings)
    spare.subtract(dict.fromkeys(world.codes, FEWEST))
    order = [world.recordings[i] for i in rng.permutation(len(world.recordings))]
    order = [plan for plan in order if spare[plan.primary] > 0]
    rows: dict[str, tuple[str, str, str, str, str]] = {}
    for how, most in (("look-alike", n // 2), ("random", n)):
        for plan in order:
            wrong = _wrong_labels(how, plan, world)
            given = str(rng.choice(wrong)) if wrong else ""
            free = plan.filename not in rows and spare[plan.primary] > 0
            if len(rows) < most and free and given:
                spare[plan.primary] -= 1
                name = f"{given}/{Path(plan.filename).name}"
                rows[plan.filename] = (name, given, plan.primary, how, plan.filename)
    return pd.DataFrame(sorted(rows.values()), columns=list(COLUMNS))


def _wrong_labels(how: str, plan: RecordingPlan, world: World) -> list[str]:
    """The labels that a recording can be given by mistake in one of the two ways."""
    twins = {a: b for pair in world.lookalikes for a, b in (pair, pair[::-1])}
    twin = twins.get(plan.primary)
    absent = [code for code in world.codes if code not in (plan.primary, *plan.background)]
    return [code for code in absent if (code == twin) == (how == "look-alike")]


def link_competition(root: Path, partial: Path) -> None:
    """Fill the folder `partial` with the competition in `root`, linked where links are possible."""
    shutil.copytree(root, partial, copy_function=_link, dirs_exist_ok=True)


def _link(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)
    return target


def relabel_competition(partial: Path, settings: DemoSettings) -> None:
    """Plant the errors in the competition in `partial`: table rows, and the folders of the files.

    A table is written anew, never in place: it may be linked to that of another folder.
    """
    planted = find_mislabelled(settings).set_index("moved_from")
    names = {s.code: (s.scientific_name, s.common_name) for s in build_world(settings).species}
    path = partial / METADATA
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        if row["filename"] not in planted.index:
            continue
        wrong = planted.loc[row["filename"]]
        target = partial / "train_audio" / wrong["recording"]
        target.parent.mkdir(exist_ok=True)
        (partial / "train_audio" / row["filename"]).rename(target)
        row["filename"], row["primary_label"] = wrong["recording"], wrong["given"]
        row["scientific_name"], row["common_name"] = names[wrong["given"]]
    rows.sort(key=lambda row: (row["primary_label"], row["filename"]))
    path.unlink()
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
