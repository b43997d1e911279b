"""What a run is one of: its split, its family of backbones, its checkpoint rule, its lineage."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from birdlab.lab import Lab
from birdlab.recorded import is_foreign, iter_line

ATTRIBUTES = ("split", "family", "checkpoint", "lineage")

_SIZE = re.compile(
    r"[a-z]?\d.*|[smlbh]|x+[sl]|atto|femto|pico|nano|micro|mini|tiny|small|medium|base|large"
    r"|x+large|huge|giant|lite\d*"
)
_NUMBERED = re.compile(r"([a-z]+?(?:v\d+)?)(?:\d+[a-z]*)?")


def name_attributes(lab: Lab, records: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """ATTRIBUTES of each run, in the order of the records; "" where nothing is known.

    A run from a foreign ledger has what its columns said. A foreign model has the split of the
    runs that were scored on the same rows.
    """
    splits = {
        record["evaluation"]["rows_hash"]: _split(record["spec"])
        for record in records
        if not is_foreign(record)
    }
    lineages = find_lineages(lab, records)
    named = []
    for record in records:
        if is_foreign(record):
            known = {"split": splits.get(record["evaluation"]["rows_hash"], "")}
        else:
            known = _of_spec(record["spec"])
        known = {"lineage": lineages[record["spec_id"]]} | known | record.get("attributes", {})
        named.append({key: str(known.get(key, "")) for key in ATTRIBUTES})
    return named


def family_of(backbone: str) -> str:
    """The family of a network by its name: what stands before its size and its training.

    `tf_efficientnetv2_s_in21k` is `efficientnetv2`, `eca_nfnet_l0` is `eca_nfnet`, `resnet34d` is
    `resnet`. The name is cut at a dot, loses a leading `tf_`, and ends before the first word after
    the first that is a size: s, tiny, b0, 050 and the like. Words may be joined by -, as
    people write them: `EfficientNet-B0` is `efficientnet`.
    """
    words = backbone.strip().lower().replace("-", "_")
    name = words.partition(".")[0].removeprefix("tf_")
    first, *rest = name.split("_")
    numbered = _NUMBERED.fullmatch(first)
    if numbered is not None and numbered[1] != first:
        return numbered[1]
    sizes = [place for place, word in enumerate(rest) if _SIZE.fullmatch(word)]
    return "_".join([first, *rest[: sizes[0] if sizes else len(rest)]])


def find_lineages(lab: Lab, records: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The lineage of each run by its id: runs that share a sweep or a cell have the same.

    A cell is shared where one run goes on from another, or both start from one pretraining; one
    cell of each seed is followed back. A lineage is called by its sweeps, else by its oldest run.
    """
    groups = _Groups()
    for record in records:
        run = ("run", record["spec_id"])
        for sweep in record["sweeps"]:
            groups.join(run, ("sweep", sweep))
        for cell in record["cells"]:
            groups.join(run, ("cell", cell["cell_id"]))
        for cell_id in _first_cells(record):
            for earlier in iter_line(lab, cell_id):
                groups.join(run, ("cell", earlier))
    sweeps: dict[Any, set[str]] = {}
    oldest: dict[Any, str] = {}
    for record in records:
        root = groups.root(("run", record["spec_id"]))
        sweeps.setdefault(root, set()).update(record["sweeps"])
        oldest.setdefault(root, record["spec_id"])
    roots = {r["spec_id"]: groups.root(("run", r["spec_id"])) for r in records}
    return {run: ", ".join(sorted(sweeps[root])) or oldest[root] for run, root in roots.items()}


class _Groups:
    """Things that were joined, directly or through others."""

    def __init__(self) -> None:
        self._above: dict[tuple[str, str], tuple[str, str]] = {}

    def root(self, thing: tuple[str, str]) -> tuple[str, str]:
        """What stands for the group of a thing."""
        path = []
        while (above := self._above.get(thing, thing)) != thing:
            path.append(thing)
            thing = above
        self._above.update(dict.fromkeys(path, thing))
        return thing

    def join(self, one: tuple[str, str], two: tuple[str, str]) -> None:
        """Put two things into one group."""
        self._above[self.root(two)] = self.root(one)


def _first_cells(record: Mapping[str, Any]) -> Iterable[str]:
    """A cell of each seed of a run with several stages; none of any other run."""
    if is_foreign(record) or len(record["spec"]["stages"]) < 2:
        return ()
    return {cell["seed"]: cell["cell_id"] for cell in reversed(record["cells"])}.values()


def _of_spec(spec: Mapping[str, Any]) -> dict[str, str]:
    backbone = spec["model"]["backbone"]
    family = family_of(backbone) if isinstance(backbone, str) else str(backbone["kind"])
    return {"split": _split(spec), "family": family, "checkpoint": checkpoint_of(spec)}


def _split(spec: Mapping[str, Any]) -> str:
    """The folds in words, and the data set that they cut: `stratified 5 of birdclef-2023`."""
    data = spec["data"]
    folds = data["folds"]
    kind = str(folds["kind"]).replace("_", " ")
    number = f" {folds['n']}" if "n" in folds else ""
    seed = f", seed {folds['seed']}" if folds.get("seed", 42) != 42 else ""
    return f"{kind}{number} of {data['base']}{seed}"


def checkpoint_of(spec: Mapping[str, Any]) -> str:
    """Which weights of the last stage of a recorded spec are kept, in words."""
    train = spec["stages"][-1]["train"]
    average = train.get("average")
    if average:
        return f"average of the {average['of']} {average['k']}"
    if train.get("checkpoint", "last") == "best":
        return "best epoch"
    if train.get("early_stop"):
        return "early stop"
    return "moving average" if train.get("ema_decay") else "last"
