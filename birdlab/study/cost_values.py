"""What a gain costs: each verdict of a ranking beside what its arm takes more than the base."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from birdlab.durations import in_time
from birdlab.study.arm_costs import ArmCosts
from birdlab.study.pareto import find_undominated
from birdlab.study.ranking import Ranking
from birdlab.study.value_words import value_sentences

NAN = float("nan")
DECIDED = ("better", "worse")
"""Verdicts that give a ratio; of all others the interval is shown."""
ALIKE = 0.02
"""CPU times of one window that differ by less than this share are taken for equal."""
MIN_MODELS = 3
"""Fewer models of both arms say nothing of how far hours scatter."""
UNKNOWN: Mapping[str, Any] = {
    "kind": "",
    "device": "",
    "train_hours": NAN,
    "model_hours": NAN,
    "cpu_ms": NAN,
    "unknown": 0,
    "processor": "",
}
"""What is known of an arm without costs."""
VALUE_COLUMNS = (
    *("arm", "mean", "delta", "low", "high", "verdict", "expected", "kind", "device"),
    *("train_hours", "model_hours", "extra_hours", "extra_low", "extra_high", "gain_per_hour"),
    *("hours_words", "cpu_ms", "extra_cpu_ms", "gain_per_cpu_ms", "cpu_words"),
    *("hours_beside", "cpu_ms_beside", "pareto_hours", "pareto_cpu", "pareto"),
)


@dataclass(frozen=True, eq=False)
class CostValues:
    """A ranking read as gains for what they cost.

    `table`, a row per arm in the order of the ranking: arm, mean, delta, low, high, verdict and
    expected (NaN where the ranking has none) as in Ranking.table; kind, device, train_hours,
    model_hours and cpu_ms as in ArmCosts.table;
    extra_hours: what training one model takes longer than that of the base, mean over the folds and
    seeds that both have, with extra_low and extra_high its 95 % interval over them (NaN under 3);
    NaN where the two were trained on other devices or a time is unknown;
    gain_per_hour: delta / extra_hours, only where the verdict is better or worse and the extra
    hours are told apart from none; hours_words: the same in words for every arm;
    extra_cpu_ms, gain_per_cpu_ms, cpu_words: the same for the CPU time of a window;
    hours_beside, cpu_ms_beside: model_hours and cpu_ms of arms on the base's device and processor,
    all whose cells have known times, else NaN;
    pareto_hours, pareto_cpu: whether no arm has a score as high for less; pareto: in all three.
    `sentences`: what gains most for its cost, and what may not be concluded.
    """

    base: str
    table: pd.DataFrame
    sentences: tuple[str, ...]


def value_table(ranking: Ranking, costs: ArmCosts) -> CostValues:
    """The verdicts of a ranking beside what its arms cost; arms without costs have NaN there.

    A ratio is the difference over the mean extra cost, as if that were exact. An arm that is not
    decided has the interval of its difference in words, beside its extra cost, and no ratio.
    """
    told = {str(row["arm"]): row for row in costs.table.to_dict("records")}
    base = told.get(ranking.base, UNKNOWN)
    longer = _extra_hours(costs.models, ranking.base)
    rows = []
    for arm in ranking.table.to_dict("records"):
        own = told.get(str(arm["arm"]), UNKNOWN)
        hours = longer.get(str(arm["arm"]), Extra())
        cpu_ms = _extra_cpu(base, own)
        rows.append(
            {
                **{name: arm.get(name, NAN) for name in VALUE_COLUMNS[:7]},
                **{name: own[name] for name in UNKNOWN if name in VALUE_COLUMNS},
                "extra_hours": hours.mean,
                "extra_low": hours.low,
                "extra_high": hours.high,
                "gain_per_hour": _ratio(arm, hours),
                "hours_words": _words(arm, hours, "an hour", lambda h: in_time(3600 * h)),
                "extra_cpu_ms": cpu_ms.mean,
                "gain_per_cpu_ms": _ratio(arm, cpu_ms),
                "cpu_words": _words(arm, cpu_ms, "a millisecond", lambda ms: f"{ms:.3g} ms"),
                "hours_beside": own["model_hours"] if _is_alike(base, own, "device") else NAN,
                "cpu_ms_beside": own["cpu_ms"] if _is_alike(base, own, "processor") else NAN,
            }
        )
    table = pd.DataFrame(rows)
    table["pareto_hours"] = find_undominated(table["mean"], table["hours_beside"])
    table["pareto_cpu"] = find_undominated(table["mean"], table["cpu_ms_beside"])
    table["pareto"] = find_undominated(table["mean"], table["hours_beside"], table["cpu_ms_beside"])
    said = value_sentences(table, ranking.base)
    return CostValues(ranking.base, table[list(VALUE_COLUMNS)], tuple(said))


@dataclass(frozen=True)
class Extra:
    """What an arm costs more than the base, and the 95 % interval of that, NaN where unknown."""

    mean: float = NAN
    low: float = NAN
    high: float = NAN

    @property
    def is_told(self) -> bool:
        """Whether it is known and told apart from nothing."""
        return not np.isnan(self.mean) and self.mean != 0 and not self.low <= 0 <= self.high


def _extra_hours(models: pd.DataFrame, base: str) -> dict[str, Extra]:
    """How many hours longer a model of each arm takes, over the folds and seeds that both have.

    An arm without such pairs, or with one on another device, is not in it.
    """
    both = models[models["arm"] != base].merge(
        models[models["arm"] == base], on=["fold", "seed"], suffixes=("", "_base")
    )
    both["alike"] = (both["device"] == both["device_base"]) & (both["device"] != "")
    both["longer"] = both["hours"].astype(float) - both["hours_base"].astype(float)
    pairs = both.groupby("arm", sort=False)[["longer", "alike"]]
    return {str(arm): _interval(of["longer"].to_numpy()) for arm, of in pairs if of["alike"].all()}


def _interval(found: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Extra:
    mean, n = float(found.mean()), len(found)
    if n < MIN_MODELS or np.isnan(mean):
        return Extra(mean)
    half = float(stats.t.ppf(0.975, n - 1) * found.std(ddof=1) / np.sqrt(n))
    return Extra(mean, mean - half, mean + half)


def _extra_cpu(base: Mapping[str, Any], own: Mapping[str, Any]) -> Extra:
    """How much longer a window takes; unknown where it was measured on another processor."""
    if own is base or not own["processor"] or base["processor"] != own["processor"]:
        return Extra()
    around = ALIKE * base["cpu_ms"]
    extra = float(own["cpu_ms"] - base["cpu_ms"])
    return Extra(extra, extra - around, extra + around)


def _is_alike(base: Mapping[str, Any], own: Mapping[str, Any], name: str) -> bool:
    """Whether costs of an arm may be laid beside those of the base."""
    known = name == "processor" or own["unknown"] == 0
    return bool(base[name] and base[name] == own[name] and known)


def _ratio(arm: Mapping[str, Any], extra: Extra) -> float:
    if arm["verdict"] not in DECIDED or not extra.is_told:
        return NAN
    return float(arm["delta"] / extra.mean)


def _words(arm: Mapping[str, Any], extra: Extra, unit: str, show: Callable[[float], str]) -> str:
    """The gain for its cost in words: a ratio only where the verdict gives one."""
    if np.isnan(extra.mean):
        return ""
    amount = show(abs(extra.mean)) + (" more" if extra.mean > 0 else " less")
    if not extra.is_told:
        amount = "as much"
    match arm["verdict"]:
        case "better" if not extra.is_told or extra.mean < 0:
            return f"free: better for {amount}"
        case "better":
            return f"{arm['delta'] / extra.mean:+.3g} {unit}"
        case "worse" if extra.is_told and extra.mean < 0:
            return f"loses {arm['delta'] / extra.mean:.3g} {unit} saved"
        case "worse":
            return f"worse, for {amount}"
        case "within noise":
            return f"as good, for {amount}"
    interval = "" if np.isnan(arm["low"]) else f": {arm['low']:+.4f} to {arm['high']:+.4f}"
    return f"{arm['verdict']}{interval} for {amount}"
