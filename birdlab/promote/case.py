"""What a promotion is about: the runs by name, their plans, and the share of each in the blend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from birdlab.errors import BirdlabError, PromotionError
from birdlab.evaluate.score import score_run
from birdlab.lab import Lab
from birdlab.plan import Plan
from birdlab.promote.agreement import find_sounds
from birdlab.promote.chains import Chain, settle_chain
from birdlab.promote.champion import blend_runs
from birdlab.promote.members import plan_of
from birdlab.promote.request import PromotionRequest
from birdlab.runtables import load_fold_tables
from birdlab.study.blending import fit_shares
from birdlab.study.ensemble import align_members

Record = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Case:
    """The runs to promote and how.

    records, plans: of each run by its name, in the order in which they were given; chain: what
    becomes of windows; shares: of the runs, None for equal ones; told: in words, how shares came
    about.
    """

    lab: Lab
    request: PromotionRequest
    records: Mapping[str, Record]
    plans: Mapping[str, Plan]
    chain: Chain
    shares: tuple[float, ...] | None = None
    told: tuple[str, ...] = ()

    @property
    def first(self) -> Plan:
        """The plan of the first run: it says the columns, the competition and its data."""
        return next(iter(self.plans.values()))

    @property
    def spec_ids(self) -> list[str]:
        """The ids of the runs."""
        return [str(record["spec_id"]) for record in self.records.values()]

    @cached_property
    def score(self) -> dict[str, Any]:
        """The out-of-fold score of the blend: metric, value, folds, rows; empty where runs share
        none.

        It is that of the fold models: models on all data have no score of their own.
        """
        try:
            runs = [
                load_fold_tables(self.lab, record, self.chain.steps_for(record))
                for record in self.records.values()
            ]
            tables = blend_runs(runs, self.request.blend, self.shares)
        except BirdlabError:
            return {}
        return {
            "metric": "padded_cmap",
            "value": score_run(tables)["cv/padded_cmap"],
            "folds": len({fold for fold, _ in tables}),
            "rows": len({name for table in tables.values() for name in table.recordings}),
        }


def open_case(lab: Lab, records: Sequence[Record], request: PromotionRequest) -> Case:
    """The runs of some records, all of whose scored cells are trained, with their shares.

    Raises PromotionError for no run, one that is named twice, shares that are not one per run,
    runs whose data changed or whose weights are gone, and a folder without soundscapes; else as
    `settle_chain`.
    """
    if not records:
        raise PromotionError("there is no run to promote", fix="birdlab promote RUN")
    ids = [str(record["spec_id"]) for record in records]
    if len(set(ids)) < len(ids):
        raise PromotionError("a run is named twice", got=", ".join(ids), expected="each run once")
    if isinstance(request.shares, tuple) and len(request.shares) != len(records):
        raise PromotionError(
            "give one share per run",
            got=f"{len(request.shares)} for {len(records)}",
            expected="as many shares as runs",
        )
    names = [str(record["name"]) for record in records]
    called = [n if n and names.count(n) == 1 else i for n, i in zip(names, ids, strict=True)]
    plans = {name: plan_of(lab, r) for name, r in zip(called, records, strict=True)}
    by_name = dict(zip(called, records, strict=True))
    if request.soundscapes is not None:
        find_sounds(lab, plans[called[0]], request.soundscapes)
    chain = settle_chain(plans, request)
    shares, told = _share(lab, by_name, request, chain)
    return Case(lab, request, by_name, plans, chain, shares, told)


def _share(
    lab: Lab, records: Mapping[str, Record], request: PromotionRequest, chain: Chain
) -> tuple[tuple[float, ...] | None, tuple[str, ...]]:
    """The shares of the runs, None for equal ones, and in words how they were fitted."""
    if request.shares != "fitted" or len(records) < 2:
        return (request.shares if isinstance(request.shares, tuple) else None), ()
    tables = {
        name: load_fold_tables(lab, record, chain.steps_for(record))
        for name, record in records.items()
    }
    members = align_members(tables)
    if len(members.names) < len(records):
        raise PromotionError(
            "shares can be fitted only on rows and folds that the runs have in common",
            got=" ".join(members.left_out),
            fix="give --shares equal, or a number per run",
        )
    fitted = fit_shares(members, request.blend)
    return (None if fitted.shrunk else fitted.weights), fitted.sentences
