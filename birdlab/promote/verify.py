"""Is a promoted model still what was promoted? Its file, and what its fold models say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from birdlab.errors import PromotionError
from birdlab.infer.models import PromotedModel, hash_model
from birdlab.infer.session import OnnxPredictor
from birdlab.lab import Lab
from birdlab.plan import Plan, Progress, silent
from birdlab.promote.members import plan_of
from birdlab.promote.parity import TOLERANCE
from birdlab.promote.reproduce import Place, find_places, reproduce_folds, score_exported
from birdlab.promote.reproduction import Reproduction
from birdlab.tracking.index import load_record


@dataclass(frozen=True)
class Verification:
    """What was found: whether the file has the content that its card states, and each run.

    runs: by name; anew: the runs whose fold models are no members of the file, so that they were
    exported anew by the same code and compared.
    """

    model: str
    is_intact: bool
    runs: Mapping[str, Reproduction]
    anew: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether all is as it was."""
        return self.is_intact and all(found.passed for found in self.runs.values())


def verify_model(
    lab: Lab,
    model: PromotedModel,
    *,
    tolerance: float = TOLERANCE,
    threads: int | None = None,
    progress: Progress = silent,
) -> Verification:
    """What the fold models behind a promoted model say of the recordings they were validated on.

    From the audio files through ONNX, against the stored outputs. Members of the file are asked
    themselves; where it holds models of all data, the fold models are exported anew. Raises
    PromotionError where the file, weights or audio are gone, or data changed.
    """
    if not model.path.is_file():
        raise PromotionError(
            "the file of the model is gone", where=str(model.path), fix="promote its runs again"
        )
    predictor = OnnxPredictor(model.path, threads=threads)
    runs: dict[str, Reproduction] = {}
    anew = []
    for spec_id in model.runs:
        record = load_record(lab, spec_id)
        plan, name = plan_of(lab, record), str(record["name"] or spec_id)
        places = find_places(predictor.card, plan)
        if places:
            own = _cells_at(plan, places)
            runs[name] = score_exported(
                lab, own, predictor, places, tolerance=tolerance, progress=progress
            )
        else:
            anew.append(name)
            runs[name] = reproduce_folds(
                lab, plan, tolerance=tolerance, threads=threads, progress=progress
            )
    stated = model.card.get("sha256")
    is_intact = stated is None or stated == hash_model(model.path)
    return Verification(model.name, is_intact, runs, tuple(anew))


def _cells_at(plan: Plan, places: Mapping[Place, int]) -> Plan:
    """The plan with those cells alone that are members of a file."""
    kept = (cell for cell in plan.final_cells if (cell.fold, cell.seed) in places)
    return replace(plan, cells=tuple(kept))
