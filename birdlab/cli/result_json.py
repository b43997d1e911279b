"""Results of long commands as `--json` prints them: plain data under names that stay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from birdlab.cli.common import table_rows

if TYPE_CHECKING:
    from birdlab.lab import Lab
    from birdlab.plan import Plan
    from birdlab.promote.budget import Budget
    from birdlab.promote.promote import Promotion
    from birdlab.runresult import RunResult
    from birdlab.study.ensemble_gates import Gate
    from birdlab.study.stored_sweep import StoredSweep
    from birdlab.sweep.dryrun import ModelCheck, SweepPlan
    from birdlab.sweep.estimate import Estimate
    from birdlab.sweep.result import SweepResult


def run_json(result: RunResult) -> dict[str, Any]:
    """A run: its id, scores, what was trained for it, and a row per fold and seed."""
    return {
        "run": result.spec_id,
        "name": result.spec.name,
        "delta": result.note.delta,
        "scores": result.scores,
        "trained": result.trained,
        "cached": result.cached,
        "chosen": result.chosen,
        "stopped_at": result.stopped_at,
        "cells": table_rows(result.cells),
    }


def plan_json(plan: Plan, lab: Lab) -> dict[str, Any]:
    """What a run would do: its id, rows, and its cells with the steps of those not in the cache."""
    from birdlab.cellfiles import is_finished

    known = not plan.unknown_stages
    return {
        "run": plan.spec_id if known else None,
        "name": plan.spec.name,
        "rows": len(plan.rows.table),
        "classes": len(plan.data.classes),
        "cells": [
            {
                "cell_id": cell.cell_id if known else None,
                "title": cell.title,
                "steps": cell.steps.total,
                "cached": known and is_finished(lab, cell),
            }
            for cell in plan.cells
        ],
        "missing": list(plan.missing),
        "notes": list(plan.notes),
    }


def sweep_json(result: SweepResult, stored: StoredSweep) -> dict[str, Any]:
    """A sweep: every arm with its run or its error, the ranking, and what is said of it."""
    from birdlab.cli.summaries import trained_cells
    from birdlab.runresult import RunResult
    from birdlab.study.lab_bets import judge_sweep

    ranking = result.ranking
    arms = []
    for arm, r in result.arms:
        said: dict[str, Any] = {"arm": arm.title, "delta": arm.delta, "run": None, "score": None}
        if isinstance(r, RunResult):
            said |= {"run": r.spec_id, "score": r.cv, "stopped_at": r.stopped_at, "error": ""}
        else:
            said |= {"stopped_at": "", "error": r.what}
        arms.append(said)
    return {
        "sweep": stored.name,
        "best": result.scored[0][0].title if result.scored else None,
        "trained": len(trained_cells(result)),
        "arms": arms,
        "base": None if ranking is None else ranking.base,
        "ranking": [] if ranking is None else table_rows(ranking.table),
        "sentences": [*(() if ranking is None else ranking.sentences), *result.race_sentences],
        "bets": list(judge_sweep(stored).sentences),
    }


def sweep_plan_json(plan: SweepPlan, estimate: Estimate, check: ModelCheck) -> dict[str, Any]:
    """What a sweep would do: arms, cells, seconds (null where nobody knows), bad networks."""
    return {
        "sweep": plan.sweep.spec.name,
        "points": plan.n_points,
        "arms": [
            {
                "arm": arm.title,
                "delta": arm.delta,
                "run": None if arm_plan.unknown_stages else arm_plan.spec_id,
                "cells": len(arm_plan.cells),
                "cached": sum(cell.cell_id in plan.cached for cell in arm_plan.cells),
            }
            for arm, arm_plan in plan.arms
        ],
        "cells": estimate.cells,
        "cached": estimate.cached,
        "steps": estimate.steps,
        "seconds": estimate.seconds,
        "cells_of_unknown_cost": estimate.unmeasured,
        "bad": [{"arms": list(titles), "error": error.what} for titles, error in check.bad],
    }


def gates_json(gates: Sequence[Gate]) -> list[dict[str, str]]:
    """Gates in their order: state is met, notice, not met or no evidence."""
    return [
        {
            "gate": gate.name,
            "state": gate.state,
            "found": gate.number,
            "wanted": gate.threshold,
            "helps": gate.command,
        }
        for gate in gates
    ]


def promotion_json(p: Promotion) -> dict[str, Any]:
    """A promoted model: its name, file, alias, gates, parity and cost."""
    return {
        "model": p.name,
        "path": str(p.path),
        "alias": p.alias,
        "registered": None if p.registered is None else p.registered[0],
        "version": None if p.registered is None else str(p.registered[1]),
        "size_bytes": p.export.size_bytes,
        "members": p.export.n_members,
        "parity": p.parity.by_case,
        "ms_per_window": p.costs.ms_per_window,
        "minutes": p.costs.predicted_minutes,
        "needed_minutes": p.costs.needed_minutes,
        "limit_minutes": p.costs.limit_minutes,
        "gates": gates_json(p.gates),
    }


def budget_json(b: Budget) -> dict[str, Any]:
    """The minutes of a submission by part, and what of it fits."""
    line, fit = b.line, b.fit
    return {
        "workload": b.workload,
        "windows": b.workload.count_windows(b.machine["window_s"]),
        "processor": b.machine["processor"],
        "cores": b.cores,
        "decode_minutes": line.decode_minutes,
        "mel_minutes": line.mel_minutes,
        "members": [
            {"member": name, "ms_per_window": timed["ms_per_window"], "minutes": minutes}
            for name, timed, minutes in zip(
                b.members, b.machine["members"], line.member_minutes, strict=True
            )
        ],
        "startup_minutes": line.startup_minutes,
        "total_minutes": line.total_minutes,
        "needed_minutes": line.needed_minutes,
        "limit_minutes": line.limit_minutes,
        "fits": line.fits,
        "members_that_fit": {
            "first": fit.prefix,
            "cheapest": [b.members[i] for i in fit.most],
            "more_of_each": list(fit.more),
        },
    }
