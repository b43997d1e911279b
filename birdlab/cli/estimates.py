"""What a command will take, told before it starts; nothing is made up where nobody knows yet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from birdlab.cli.voice import print_note
from birdlab.durations import in_time

if TYPE_CHECKING:
    from birdlab.cli.common import Place
    from birdlab.lab import Lab
    from birdlab.plan import Plan
    from birdlab.sweep.estimate import Estimate


def announce_runs(lab: Lab, place: Place) -> Callable[[Sequence[Plan]], None]:
    """What says of the plans of runs how many cells they lack and how long these will take.

    It says nothing where all are there. The room of a cluster is not known here: there it is as
    many cells at once as jobs, or one.
    """

    def tell(plans: Sequence[Plan]) -> None:
        from birdlab.cellfiles import is_trained
        from birdlab.cellorder import find_lacking
        from birdlab.sweep.dryrun import slots_for
        from birdlab.sweep.estimate import estimate_plans, load_cards
        from birdlab.words import count_words

        cells = {cell.cell_id: cell for plan in plans for cell in plan.cells}
        lacking = [c for c in find_lacking(lab, list(cells.values())) if not is_trained(lab, c)]
        if not lacking:
            return
        jobs = place.jobs or lab.file.jobs
        slots = slots_for(lacking, lab, jobs) if place.is_here else jobs or 1
        cached = cells.keys() - {cell.cell_id for cell in lacking}
        estimate = estimate_plans(plans, cached, load_cards(lab), slots)
        print_note(
            f"{count_words(len(lacking), 'cell')} to train ({estimate.steps:,} steps), "
            f"{len(cached)} cached; time {time_words(estimate)}"
        )

    return tell


def time_words(estimate: Estimate, batches: float | None = None) -> str:
    """The time in words; of a search the time of so many batches like the first."""
    if not estimate.to_train and batches is None:
        return "none: every cell is in the cache"
    if estimate.seconds is None:
        return "unknown: no cell of this network, window and length is finished"
    about = "at least" if estimate.unmeasured else "about"
    unknown = f"; {estimate.unmeasured} cells of unknown cost" if estimate.unmeasured else ""
    what = "" if batches is None else " for all points, less what is in the cache,"
    several = f"with {estimate.slots} cells at once"
    return (
        f"{about} {in_time(estimate.seconds * (batches or 1))}{what} "
        f"{several if estimate.slots > 1 else 'one cell after another'}, as {estimate.measured} "
        f"finished cells like them took{unknown}"
    )
