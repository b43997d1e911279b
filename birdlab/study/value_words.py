"""What a table of gains and costs says, in sentences."""

from __future__ import annotations

import pandas as pd

from birdlab.durations import in_time
from birdlab.words import list_some


def value_sentences(table: pd.DataFrame, base: str) -> list[str]:
    """What gains most for its cost, what comes free, what may not be concluded.

    table: as CostValues.table. Only arms whose verdict is decided are given a price.
    """
    others = table[table["arm"] != base]
    kind = str(table.loc[table["arm"] == base, "kind"].iloc[0])
    unit = f"{kind}-hour" if kind in ("GPU", "CPU") else "hour"
    said = [
        *_most_for(others, "hours", "gain_per_hour", f"{unit} of training a model"),
        *_most_for(others, "cpu", "gain_per_cpu_ms", "CPU millisecond a window"),
    ]
    better = others[others["verdict"] == "better"]
    if better.empty:
        said.insert(0, _no_price(others))
    return [*said, *_frontier(table), *_apart(others)]


def cheapest_sentence(table: pd.DataFrame) -> str:
    """The arm that costs least to train of those shown to be better; "" where none is, or none has
    hours that can be laid beside those of the base.

    table: as CostValues.table.
    """
    better = table[(table["verdict"] == "better") & table["extra_hours"].notna()]
    if better.empty:
        return ""
    top = better.loc[better["extra_hours"].idxmin()]
    told = top["extra_hours"] != 0 and not top["extra_low"] <= 0 <= top["extra_high"]
    more = "more" if top["extra_hours"] > 0 else "less"
    cost = f"{in_time(3600 * abs(top['extra_hours']))} {more}" if told else "as many hours"
    ms = ""
    if top["extra_cpu_ms"] == top["extra_cpu_ms"]:
        ms = f", {top['extra_cpu_ms']:+.3g} CPU ms a window"
    which = "The cheapest arm" if len(better) > 1 else "The one arm"
    return (
        f"{which} shown to be better is {top['arm']}: {top['delta']:+.4f} for {cost} a model{ms}."
    )


def _most_for(others: pd.DataFrame, which: str, ratio: str, unit: str) -> list[str]:
    """The arm that gains most for one kind of cost, and those that cost nothing more."""
    better = others[others["verdict"] == "better"]
    free = better[better[f"{which}_words"].str.startswith("free")]
    priced = better[better[ratio] > 0].sort_values(ratio, ascending=False, kind="stable")
    said = []
    if len(free):
        n = "gains" if len(free) == 1 else "gain"
        said.append(f"{list_some(free['arm'])} {n} for no more of it: free, by {unit}.")
    if len(priced):
        top = priced.iloc[0]
        open_ = others[others["verdict"].isin(["undecided", "no verdict"])]
        beside = f" ({list_some(open_['arm'])} not decided)" if len(open_) else ""
        said.append(
            f"Nothing that costs more gains more per {unit} than {top['arm']}: "
            f"{top[ratio]:+.3g} ({top['delta']:+.4f}){beside}."
        )
    return said


def _no_price(others: pd.DataFrame) -> str:
    """Why no gain has a price, and the highest that was seen."""
    told = "Not enough evidence for a price: no arm is shown to be better."
    there = others[others["delta"] > 0]
    if there.empty:
        return f"{told} None was seen to gain."
    top = there.loc[there["delta"].idxmax()]
    interval = "" if top["low"] != top["low"] else f" ({top['low']:+.4f} to {top['high']:+.4f})"
    cost = ""
    if top["extra_low"] <= 0 <= top["extra_high"]:
        cost = ", for as much time"
    elif top["extra_hours"] == top["extra_hours"]:
        sign = "more" if top["extra_hours"] > 0 else "less"
        cost = f", for {in_time(3600 * abs(top['extra_hours']))} {sign} a model"
    return f"{told} Most was seen of {top['arm']}: {top['delta']:+.4f}{interval}{cost}."


def _frontier(table: pd.DataFrame) -> list[str]:
    """Which arms none beats in score and cost at once."""
    said = []
    for column, words in (("pareto_hours", "hours"), ("pareto_cpu", "CPU milliseconds")):
        front = table[table[column]]
        if len(front):
            open_ = front[~front["verdict"].isin(["better", "worse", "base"])]
            beside = f"; not shown to differ: {list_some(open_['arm'])}" if len(open_) else ""
            said.append(
                f"Not beaten in score and {words} at once, by what was seen: "
                f"{list_some(front['arm'])}{beside}."
            )
    return said


def _apart(others: pd.DataFrame) -> list[str]:
    """Arms whose hours cannot be laid beside those of the base."""
    bare = others[others["extra_hours"].isna()]
    if bare.empty:
        return []
    return [
        f"Hours not compared with the base (other devices, unknown times, or no fold and seed in "
        f"common): {list_some(bare['arm'])}."
    ]
