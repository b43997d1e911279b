"""Simulated studies with known noise, for tests; as a script it prints the tables of the docs.

python tests/simulations.py
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from birdlab.evaluate.score import FoldTable
from birdlab.study.contrasts import MIN_FOLDS, Contrast, build_block
from birdlab.study.judging import Judgement, Method, decide, judge, on_new_data
from birdlab.study.noise import NoiseFloor, Spread, detectable_delta, paired_se
from birdlab.study.racing import look_at, look_level
from birdlab.study.recordings import weigh_recordists

Floats = npt.NDArray[np.float64]
SEED_SD, FOLD_ARM_SD, FOLD_SD = 0.006, 0.004, 0.02


def draw_scores(
    rng: np.random.Generator,
    n: int,
    effects: Sequence[float],
    n_folds: int,
    n_seeds: int,
    *,
    seed_sd: float = SEED_SD,
    fold_arm_sd: float = FOLD_ARM_SD,
    correlation: float = 0.0,
) -> Floats:
    """Scores [study, arm, fold, seed] of arms that differ by `effects`, the base first.

    correlation: of the noise of any two folds of one arm and seed; its SD stays the same.
    """
    arms = len(effects)
    folds = rng.normal(0.8, FOLD_SD, (n, 1, n_folds, 1))
    own = _noise(rng, fold_arm_sd, (n, arms, n_folds, 1), correlation)
    noise = _noise(rng, seed_sd, (n, arms, n_folds, n_seeds), correlation)
    return folds + own + noise + np.asarray(effects)[:, None, None]


def judge_means(
    means: Floats, *, base: int = 0, alpha: float = 0.05, method: Method = "holm"
) -> list[tuple[Contrast, Judgement]]:
    """Every other arm of [arms, folds] against `base`: what `rank_arms` does to a full table.

    Empty under 3 folds.
    """
    names = [str(row) for row in range(len(means))]
    block = build_block(means, names, names[base])
    tested = [block.contrast(name) for name in names if name != names[base]]
    if means.shape[1] < MIN_FOLDS:
        return []
    judged = judge(tested, alpha, method, len(means))
    return [(c, judged[c.arm]) for c in tested]


def chance_to_find(
    noise: NoiseFloor, delta: float, n_folds: int, n_seeds: int, n_arms: int, alpha: float = 0.05
) -> float:
    """The probability that a study finds a true difference of `delta`; see detectable_delta."""
    if n_folds < MIN_FOLDS:
        return 0.0
    df = n_arms * (n_folds - 1)
    critical = float(special.stdtrit(df, 1 - alpha / (2 * n_arms)))
    return 1 - float(special.nctdtr(df, abs(delta) / paired_se(noise, n_folds, n_seeds), critical))


def _noise(
    rng: np.random.Generator, sd: float, shape: tuple[int, int, int, int], correlation: float
) -> Floats:
    apart = rng.normal(0, sd, shape)
    if not correlation:
        return apart
    together = rng.normal(0, sd, (shape[0], shape[1], 1, shape[3]))
    return np.sqrt(1 - correlation) * apart + np.sqrt(correlation) * together


def race_rounds(scores: Floats, level: float = 0.05) -> npt.NDArray[np.int64]:
    """After which round each arm [study, arm] is stopped, 0 for never; the base is arm 0.

    A stopped arm is in no later look, as in a campaign.
    """
    n, arms, _, n_seeds = scores.shape
    stopped = np.zeros((n, arms), dtype=np.int64)
    for study in range(n):
        racing = list(range(arms))
        for rounds in range(1, n_seeds):
            looks = look_at(scores[study, racing, :, :rounds].mean(axis=-1), 0)
            worse = [
                racing[place]
                for place, look in looks.items()
                if look.p < look_level(n_seeds - 1, look.df, level)
            ]
            stopped[study, worse] = rounds
            racing = [arm for arm in racing if arm not in worse]
            if len(racing) == 1:
                break
    return stopped


def cells_used(stopped: npt.NDArray[np.int64], n_folds: int, n_seeds: int) -> float:
    """The mean number of cells of arms that were stopped after these rounds (0: never)."""
    return float(np.where(stopped == 0, n_seeds, stopped).mean() * n_folds)


def uncorrected_rate(n: int, n_seeds: int) -> float:
    """The share of equal arms that a plain one-sided 5 % test after each round would stop."""
    scores = draw_scores(np.random.default_rng(0), n, [0.0, 0.0], 5, n_seeds)
    means = scores.cumsum(axis=-1)[..., : n_seeds - 1] / np.arange(1, n_seeds)
    t = stats.ttest_rel(means[:, 1], means[:, 0], axis=1, alternative="less")
    return float((t.pvalue.min(axis=-1) < 0.05).mean())


def race_table(n: int = 10_000) -> list[str]:
    """Rows of a Markdown table: what racing does to arms of known difference."""
    rows = [
        "| arms beside the base | equal | worse by .005 | worse by .010 | worse by .020 |",
        "|---|---|---|---|---|",
    ]
    for arms in (1, 2, 3, 4, 10):
        cells = []
        for worse in (0.0, 0.005, 0.010, 0.020):
            rng = np.random.default_rng(arms)
            scores = draw_scores(rng, n, [0.0, -worse, *[0.0] * (arms - 1)], 5, 3)
            arm = race_rounds(scores)[:, 1]
            cells.append(f"{100 * (arm > 0).mean():.1f} %, {cells_used(arm, 5, 3):.1f} cells")
        rows.append(f"| {arms} | " + " | ".join(cells) + " |")
    return rows


def assumed_noise(seed_sd: float = SEED_SD, fold_arm_sd: float = FOLD_ARM_SD) -> NoiseFloor:
    """The noise floor of scores that `draw_scores` makes, as if it were known exactly."""
    none, seed, fold_arm = (Spread(sd, sd, sd) for sd in (0.0, seed_sd, fold_arm_sd))
    return NoiseFloor(5, 5, 0.8, none, none, seed, seed, n_arms=2, fold_arm=fold_arm)


def detectable_table() -> list[str]:
    """Rows of a Markdown table: the difference that 5 folds find in 80 % of studies."""
    rows = ["| seeds | 1 arm | 3 arms | 10 arms |", "|---|---|---|---|"]
    for seeds in (1, 2, 3, 5):
        deltas = [detectable_delta(assumed_noise(), 5, seeds, arms) for arms in (1, 3, 10)]
        rows.append(f"| {seeds} | " + " | ".join(f"{delta:.4f}" for delta in deltas) + " |")
    return rows


def judge_studies(
    means: Floats, *, method: Method = "holm", smallest_effect: float = 0.005
) -> npt.NDArray[np.str_]:
    """The verdict [study, arm] on every arm but the base, which is the first."""
    return np.array(
        [
            [decide(c, said, smallest_effect, 0.05) for c, said in judge_means(m, method=method)]
            for m in means
        ]
    )


def found_share(verdicts: npt.NDArray[np.str_]) -> float:
    """The share of studies with an arm that is better or worse."""
    return float(np.isin(verdicts, ["better", "worse"]).any(axis=1).mean())


def _seeds(n: int) -> str:
    return "1 seed" if n == 1 else f"{n} seeds"


def null_table(n: int = 5_000) -> list[str]:
    """Rows of a Markdown table: studies without an effect that find one (5 folds)."""
    rows = ["| | 1 arm | 3 arms | 10 arms | 10 arms, Dunnett |", "|---|---|---|---|---|"]
    for seeds in (1, 2, 3, 5):
        shares = []
        for arms, method in ((1, "holm"), (3, "holm"), (10, "holm"), (10, "dunnett")):
            rng = np.random.default_rng(100 * seeds + arms)
            means = draw_scores(rng, n, [0.0] * (arms + 1), 5, seeds).mean(axis=-1)
            shares.append(found_share(judge_studies(means, method=method)))
        rows.append(f"| {_seeds(seeds)} | " + " | ".join(f"{100 * s:.1f} %" for s in shares) + " |")
    return rows


def power_table(n: int = 5_000) -> list[str]:
    """Rows of a Markdown table: how often the difference is found that 80 % should find."""
    rows = ["| | 1 arm | 3 arms | 10 arms |", "|---|---|---|---|"]
    for seeds in (1, 2, 3, 5):
        shares = []
        for arms in (1, 3, 10):
            delta = detectable_delta(assumed_noise(), 5, seeds, arms)
            rng = np.random.default_rng(100 * seeds + arms)
            scores = draw_scores(rng, n, [0.0, delta, *[0.0] * (arms - 1)], 5, seeds)
            verdicts = judge_studies(scores.mean(axis=-1))
            shares.append(float((verdicts[:, 0] == "better").mean()))
        rows.append(f"| {_seeds(seeds)} | " + " | ".join(f"{100 * s:.1f} %" for s in shares) + " |")
    return rows


def correlated_table(n: int = 5_000) -> list[str]:
    """Rows of a Markdown table: what folds of an arm that move together do (5 folds, 2 seeds)."""
    rows = [
        "| correlation | verdict, no effect | new data, no effect | verdict, effect | "
        "new data, effect |",
        "|---|---|---|---|---|",
    ]
    delta = detectable_delta(assumed_noise(), 5, 2, 1)
    for correlation in (0.0, 0.02, 0.05, 0.1, 0.2):
        shares = []
        for effect in (0.0, delta):
            rng = np.random.default_rng(0)
            scores = draw_scores(rng, n, [0.0, effect], 5, 2, correlation=correlation)
            judged = [judge_means(means)[0] for means in scores.mean(axis=-1)]
            shares.append(np.mean([said.p < 0.05 for _, said in judged]))
            new = [on_new_data(c, 5) for c, _ in judged]
            shares.append(np.mean([low > 0 or high < 0 for low, high in new]))
        told = " | ".join(f"{100 * s:.1f} %" for s in shares)
        rows.append(f"| {correlation:.2f} | {told} |")
    return rows


def inside_shares(n: int, n_arms: int, *, picked: bool = False) -> tuple[float, float, float]:
    """How often arms worse than the base by .005, the smallest effect, look within noise.

    The share of arms whose 90 % interval lies inside, the share of studies with one, and the share
    of arms called within noise. With `picked` the highest mean is the base, whichever it is, and
    only its comparisons with arms of the other kind count.
    """
    rng = np.random.default_rng(n_arms)
    small = {"seed_sd": 0.002, "fold_arm_sd": 0.001}
    means = draw_scores(rng, n, [0.0] + [-0.005] * n_arms, 5, 2, **small).mean(axis=-1)
    inside, called = [], []
    for study in means:
        base = int(study.mean(axis=1).argmax()) if picked else 0
        judged = judge_means(study, base=base, method="tukey" if picked else "holm")
        apart = [(c, said) for c, said in judged if base == 0 or c.arm == "0"]
        inside.append([max(-said.low90, said.high90) <= 0.005 for _, said in apart])
        called.append([decide(c, said, 0.005, 0.05) == "within noise" for c, said in apart])
    each, within = np.concatenate(inside), np.concatenate(called)
    return float(each.mean()), float(np.mean([any(s) for s in inside])), float(within.mean())


def draw_tables(
    rng: np.random.Generator,
    *,
    n_recordists: int,
    n_each: int = 1,
    n_classes: int = 8,
    n_models: int = 2,
    gain: float = 0.0,
    like: float = 0.7,
) -> tuple[list[FoldTable], dict[str, str]]:
    """Tables of models on the same recordings; the last one hears by `gain` (logits) more.

    Recordists are heard easily or badly, and models differ on them by a SD of `like`.
    """
    person = np.repeat(np.arange(n_recordists), n_each)
    n = len(person)
    primary = rng.integers(0, n_classes, n)
    targets = np.zeros((n, n_classes), bool)
    targets[np.arange(n), primary] = True
    heard = 2 + rng.normal(0, 1, (n_recordists, n_classes))[person]
    shared = rng.normal(0, 1, (n, n_classes)) + targets * heard
    names = tuple(f"r{i}" for i in range(n))
    codes = tuple(f"s{i}" for i in range(n_classes))
    tables = []
    for model in range(n_models):
        own = rng.normal(0, like, (n_recordists, n_classes))[person]
        logits = shared + targets * own + rng.normal(0, 0.5, (n, n_classes))
        logits += targets * (gain if model == n_models - 1 else 0.0)
        probs = 0.999 * special.expit(logits)
        tables.append(FoldTable(names, codes, primary, targets, probs.astype(np.float32)))
    return tables, {name: f"p{i}" for name, i in zip(names, person, strict=True)}


def excluded_share(n: int, n_recordists: int, n_each: int, n_classes: int) -> float:
    """How often the interval over recordists leaves 0 out for models that are alike."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(n):
        (base, arm), recordists = draw_tables(
            rng, n_recordists=n_recordists, n_each=n_each, n_classes=n_classes
        )
        found.append(weigh_recordists({(0, 0): (base, arm)}, recordists, n_draws=200))
    return float(np.mean([not f.low <= 0 <= f.high for f in found]))


if __name__ == "__main__":
    print("stopped, and cells of 15 that the arm used on average (5 folds, 3 seeds)\n")
    print("\n".join(race_table()))
    for n_seeds in (3, 5, 10):
        rate = 100 * uncorrected_rate(20_000, n_seeds)
        print(f"\na plain 5 % test after each round of {n_seeds} seeds stops {rate:.1f} %")
    print("\ntrue difference found in 80 % of studies (5 folds)\n")
    print("\n".join(detectable_table()))
    print("\nstudies without an effect that find one (5 folds)\n")
    print("\n".join(null_table()))
    print("\nfound, of the difference that is to be found in 80 % (5 folds)\n")
    print("\n".join(power_table()))
    print("\nfolds of an arm that move together: an arm is better or worse (5 folds, 2 seeds)\n")
    print("\n".join(correlated_table()))
    print("\na difference of the smallest effect: 90 % interval inside for an arm, for any arm of")
    print("a study, and arms called within noise\n")
    for n_arms in (1, 3, 10):
        for picked in (False, True):
            shares = inside_shares(1_000 if picked else 5_000, n_arms, picked=picked)
            told = ", ".join(f"{100 * share:.1f} %" for share in shares)
            print(f"{n_arms} arms, base {'picked' if picked else 'named'}: {told}")
    print("\nmodels that are alike: the interval over recordists leaves 0 out\n")
    for people, each, classes in ((10, 10, 8), (20, 5, 8), (60, 2, 8), (200, 2, 30), (600, 2, 120)):
        rate = 100 * excluded_share(400, people, each, classes)
        print(f"{people} recordists with {each} recordings each, {classes} classes: {rate:.1f} %")
