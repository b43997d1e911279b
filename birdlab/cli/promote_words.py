"""What `birdlab promote` says: what is about to happen, the gates, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from birdlab.promote.promote import Promotion
    from birdlab.promote.request import PromotionRequest
    from birdlab.study.ensemble_gates import Gate


def plan_lines(records: Sequence[dict[str, Any]], request: PromotionRequest) -> list[str]:
    """What is about to be promoted, how."""
    shares = request.shares if isinstance(request.shares, str) else "given"
    over = {"all": "folds and seeds"}.get(request.soup, request.soup)
    how = {
        "full": "each trained once more on all its data",
        "folds": "all their fold and seed models",
        "averaged": f"the mean of the weights of each one's models over {over}",
    }
    lines = [
        f"promote as @{request.alias}: {how[request.weights]}, {request.blend}, {shares} shares"
    ]
    for record in records:
        score = record["scores"].get("cv/padded_cmap")
        told = "" if score is None else f"  padded cmAP {score:.4f}"
        lines.append(f"  {record['name'] or '(no name)'} ({record['spec_id']}){told}")
    if request.variants:
        lines.append(f"  variants: {', '.join(request.variants)}")
    return lines


def say_gates(gates: Sequence[Gate], say: Callable[[str], None]) -> None:
    """Say the table of gates."""
    from birdlab.cli.gates import count_states, gate_lines
    from birdlab.cli.progress import console

    say("\n".join(["", *gate_lines(gates, console.width), "", count_states(gates)]))


def promotion_words(p: Promotion, request: PromotionRequest) -> str:
    """What was promoted: file, parity, registry, cost, and against which gates."""
    from birdlab.words import count_words

    cases = p.parity.by_case
    worst = max(cases, key=lambda case: cases[case])
    place = (
        "not registered"
        if p.registered is None
        else f"{p.registered[0]}, version {p.registered[1]}"
    )
    c = p.costs
    fits = "fits" if c.needed_minutes <= c.limit_minutes else "does NOT fit"
    against = [g.name for g in p.gates if g.state in ("not met", "no evidence")]
    forced = [f"  forced    against: {', '.join(against)} ({request.reason})"] if against else []
    return "\n".join(
        [
            f"promoted {p.name} as @{p.alias}",
            f"  file      {p.path}  ({p.export.size_bytes / 1e6:.1f} MB, "
            f"{count_words(p.export.n_members, 'model')} on "
            f"{count_words(p.export.n_frontends, 'front-end')})",
            f"  parity    torch and file at most {cases[worst]:.1e} apart, on {worst} "
            f"({len(cases)} cases); a clip alone and in a batch {p.parity.batch_invariance:.1e}",
            f"  registry  {place}",
            f"  cost      {c.ms_per_window:.1f} ms a window of one core; "
            f"{c.predicted_minutes:.1f} min for the competition's soundscapes on {c.cores} cores, "
            f"{c.needed_minutes:.1f} with its margin, limit {c.limit_minutes:g} ({fits})",
            *forced,
            "",
            f"next: birdlab predict SOUNDSCAPES -o submission.csv --model @{p.alias} | "
            f"birdlab bundle @{p.alias} -o DIR",
        ]
    )
