"""What `birdlab run`, `extend` and `sweep` say when they are done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from birdlab.cli.rounds_words import summarise_rounds
from birdlab.words import count_words

if TYPE_CHECKING:
    import pandas as pd

    from birdlab.runresult import RunResult
    from birdlab.study.ranking import Ranking
    from birdlab.study.stored_sweep import StoredSweep
    from birdlab.sweep.result import SweepResult


def summarise_run(result: RunResult) -> str:
    """A run in a few lines: what was trained, its scores, how they came about, what is next."""
    trained = (
        "nothing was trained: every cell is in the cache"
        if result.trained == 0
        else f"{count_words(result.trained, 'cell')} trained, {result.cached} from the cache"
    )
    lines = [f"{result.spec.name}  spec {result.spec_id}  ({trained})"]
    if not result.scores:
        lines.append("trained on all data: no validation, no score")
        return "\n".join(lines)
    s = result.scores
    cmap_sd, auc_sd = (s.get(f"cv/{name}_sd") for name in ("padded_cmap", "macro_auc"))
    if result.rounds is not None:
        lines[1:1] = [*summarise_rounds(result.rounds), ""]
    folds, seeds = result.cells["fold"].nunique(), result.cells["seed"].nunique()
    rows, classes = result.cells["n_rows"].iloc[0], result.cells["n_classes"].iloc[0]
    lines += [
        f"  padded cmAP  {s['cv/padded_cmap']:.4f}  ("
        + ("" if cmap_sd is None else f"sd over folds {cmap_sd:.4f}, ")
        + f"pooled {s['cv/padded_cmap_pooled']:.4f}, floor {s['cv/floor']:.4f})",
        f"  macro AUC    {s['cv/macro_auc']:.4f}"
        + ("" if auc_sd is None else f"  (sd {auc_sd:.4f})"),
        f"  top-1        {s['cv/top1']:.4f}",
        *_more_scores(result),
        f"  over {count_words(folds, 'fold')}, {count_words(seeds, 'seed')}, "
        f"about {int(rows)} recordings a fold, "
        f"{int(classes)} classes",
        "",
        "next: birdlab ui | birdlab lb score "
        + result.spec_id
        + " | birdlab promote "
        + result.spec_id,
    ]
    return "\n".join(lines)


def _more_scores(result: RunResult) -> list[str]:
    """Lines for what not every run has: soundscapes, weights that scored rows picked, leaks."""
    s, lines = result.scores, []
    for name in ("soundscapes", "synthetic"):
        scored = [
            f"{words} {s[f'cv/{name}_{metric}']:.4f}"
            for metric, words in (("padded_cmap", "padded cmAP"), ("macro_auc", "macro AUC"))
            if f"cv/{name}_{metric}" in s
        ]
        lines += [f"  {name:<11}  {', '.join(scored)}"] if scored else []
    if result.chosen:
        lines.append(f"  chosen       {result.chosen}, by the rows it is scored on: it flatters")
    accepted = result.spec.data.accept_leaks
    if accepted:
        lines.append(f"  accepted     {', '.join(accepted)}: what scored rows taught flatters")
    return lines


def in_a_line(result: SweepResult) -> str:
    """A sweep in one line: its best arm, how many were stopped and failed."""
    parts = [f"{len(result.scored)} of {len(result.arms)} arms scored"]
    if result.scored:
        best, run = result.scored[0]
        parts.append(f"best {best.title} {run.cv:.4f}")
    if result.stopped:
        parts.append(f"{len(result.stopped)} stopped by the race")
    if result.failed:
        parts.append(f"{len(result.failed)} failed")
    return ", ".join(parts)


def summarise_sweep(result: SweepResult) -> str:
    """A sweep in words: its ranking, what the race stopped, what failed and why."""
    return "\n".join([_ranked(result), *_unscored(result)])


def summarise_costs(sweep: StoredSweep, trained: frozenset[str]) -> str:
    """The cheapest better arm of a sweep, and what the cache saved; `trained` are the cells of this
    call. What the race saved stands in its own sentences.
    """
    from birdlab.study.arm_costs import needed_cells
    from birdlab.study.savings import call_sentence
    from birdlab.study.value_words import cheapest_sentence

    cells = sweep.cell_costs
    needed = {one for record in sweep.runs.values() for one in needed_cells(record, cells)}
    cheapest = "" if sweep.values is None else cheapest_sentence(sweep.values.table)
    said = (cheapest, sweep.savings.cache_sentence, call_sentence(trained, needed, cells))
    return "\n".join(f"  {sentence}" for sentence in said if sentence)


def trained_cells(result: SweepResult) -> frozenset[str]:
    """The cells that were trained for a sweep in this call."""
    runs = [run for _, run in (*result.scored, *result.stopped)]
    return frozenset[str]().union(*(run.trained_cells for run in runs))


def _unscored(result: SweepResult) -> list[str]:
    lines = [""] if result.race else []
    lines += [f"  {sentence}" for sentence in result.race_sentences]
    if result.failed:
        n = len(result.failed)
        lines += ["", "1 arm has no score:" if n == 1 else f"{n} arms have no score:"]
    for arm, error in result.failed:
        lines.append(f"  {arm.title}: {error.what}")
        lines += [f"    {text}" for text in (error.where, error.got, error.fix) if text]
    return lines


def _ranked(result: SweepResult) -> str:
    if not result.scored:
        return f"\nsweep {result.sweep.spec.name}: no arm has a score"
    trained = len(trained_cells(result))
    floor = result.scored[0][1].scores["cv/floor"]
    head = (
        "nothing was trained: every cell is in the cache"
        if trained == 0
        else f"{count_words(trained, 'cell')} trained"
    )
    lines = ["", f"sweep {result.sweep.spec.name}: {head}"]
    if result.ranking is None:
        lines += [f"  {a.title}  {r.cv:.4f}" for a, r in result.scored]
        return "\n".join(lines)
    lines += [
        f"padded cmAP, mean over folds; floor {floor:.4f}; differences to {result.ranking.base}",
        "",
        *table_lines(result.ranking),
    ]
    lines += [f"  {a.title}: score chosen by {r.chosen}" for a, r in result.scored if r.chosen]
    lines += [f"  {a.title}: {r.rounds.sentence}" for a, r in result.scored if r.rounds]
    lines += ["", *(f"  {sentence}" for sentence in result.ranking.sentences)]
    lines += [f"  {sentence}" for found in result.interactions for sentence in found.sentences]
    if result.sweep.spec.optuna is not None:
        from birdlab.study.importance_words import importance_sentence

        shares = result.importance
        lines.append(
            f"  {importance_sentence(result.sweep.spec.optuna, shares, len(result.scored))}"
        )
    if result.sweep.spec.expect:
        lines.append(f"  expected: {result.sweep.spec.expected}")
    return "\n".join(lines)


def table_lines(ranking: Ranking) -> list[str]:
    """The arms, the highest mean first; with a noise floor the differences in multiples of it.

    What an arm is worth stands beside what it shows, where that is known.
    """
    table = ranking.table.sort_values("mean", ascending=False)
    width = max(len("arm"), *(len(str(arm)) for arm in table["arm"]))
    known = {
        "delta": ["" if arm == ranking.base else f"{d:+.4f}" for arm, d in _pairs(table, "delta")],
        "expected": [_signed(value) for _, value in _pairs(table, "expected")],
        "x noise": ["" if n != n else f"{n:+.1f}" for _, n in _pairs(table, "noise_multiples")],
    }
    shown = {name: texts for name, texts in known.items() if name == "delta" or any(texts)}
    places = {name: max(len(name), 8 if name == "delta" else 7) for name in shown}
    head = "".join(f"{name:>{places[name]}}  " for name in shown)
    lines = [f"  {'arm':<{width}}  {'mean':>7} {'sd':>7}  {head}{'interval':<19}  verdict"]
    for place, row in enumerate(table.to_dict("records")):
        interval = "" if row["low"] != row["low"] else f"{row['low']:+.4f} .. {row['high']:+.4f}"
        sd = "" if row["sd"] != row["sd"] else f"{row['sd']:.4f}"
        said = ", ".join(text for text in (row["verdict"], row["more_seeds"]) if text)
        numbers = "".join(f"{texts[place]:>{places[name]}}  " for name, texts in shown.items())
        lines.append(
            f"  {row['arm']:<{width}}  {row['mean']:7.4f} {sd:>7}  {numbers}{interval:<19}  {said}"
        )
    return lines


def _pairs(table: pd.DataFrame, column: str) -> list[tuple[str, float]]:
    """Arm and number of each row."""
    return list(zip(table["arm"], table[column], strict=True))


def _signed(value: float) -> str:
    return "" if value != value else f"{value:+.4f}"
