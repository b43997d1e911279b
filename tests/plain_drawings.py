"""The drawings of docs/statistics_plain.md: simulated studies of known truth, judged by birdlab.

python tests/plain_drawings.py writes docs/images/intervals.svg and docs/images/best_of_many.svg;
always the same.
"""

from __future__ import annotations

from html import escape
from itertools import pairwise
from pathlib import Path

import numpy as np
from simulations import draw_scores, judge_means
from winner_simulations import Outcome, simulate

from birdlab.study.judging import decide

IMAGES = Path(__file__).parents[1] / "docs" / "images"
INK, SOFT, BLUE, LINE, ORANGE, GREEN = (
    "#1f2933", "#5f6c7b", "#1769aa", "#cbd2d9", "#b45309", "#15803d",
)  # fmt: skip
WIDTH, LEFT, RIGHT, TOP = 720, 20, 700, 64
TRUTH, STUDIES = 0.01, 20
"""How much better one recipe is, and how often it is tried."""
ARMS = (4, 10, 20, 40)


def text(x: float, y: float, said: str, color: str = SOFT, anchor: str = "start") -> str:
    """A line of text at x, y, in pixels."""
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="13" fill="{color}" '
        f'text-anchor="{anchor}">{escape(said)}</text>'
    )


def line(x: float, y: float, to_x: float, to_y: float, color: str, more: str = "") -> str:
    """A straight line, in pixels."""
    way = f"M{x:.1f} {y:.1f}L{to_x:.1f} {to_y:.1f}"
    return f'<path d="{way}" stroke="{color}" stroke-width="2" {more}/>'


def dot(x: float, y: float, color: str) -> str:
    """A point, in pixels."""
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{color}"/>'


def page(height: int, title: str, parts: list[str]) -> str:
    """A drawing on a light card of its own, so that it reads on a dark page as well."""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
            f'width="{WIDTH}" font-family="system-ui, sans-serif" role="img" '
            f'aria-label="{escape(title)}">',
            f'<rect width="{WIDTH}" height="{height}" rx="8" fill="#f5f7fa"/>',
            text(LEFT, 26, title, INK),
            *parts,
            "</svg>\n",
        ]
    )


def draw_intervals() -> str:
    """Studies of the same two recipes: the interval of each, and whether it says so."""
    rng = np.random.default_rng(7)
    means = draw_scores(rng, STUDIES, [0.0, TRUTH], 5, 2).mean(axis=-1)
    judged = [judge_means(study)[0] for study in means]
    low = min(-0.005, min(said.low for _, said in judged))
    high = max(said.high for _, said in judged)

    def at(value: float) -> float:
        return LEFT + 10 + (RIGHT - LEFT - 20) * (value - low) / (high - low)

    bottom = TOP + 14 * STUDIES
    parts = [
        line(at(0), TOP, at(0), bottom, SOFT),
        line(at(TRUTH), TOP, at(TRUTH), bottom, GREEN, 'stroke-dasharray="5 4"'),
        text(at(0), TOP - 8, "no difference", SOFT, "middle"),
        text(at(TRUTH), TOP - 8, f"the truth, +{TRUTH:g}", GREEN, "middle"),
    ]
    found = missed = 0
    for place, (contrast, said) in enumerate(judged):
        y = TOP + 10 + 14 * place
        better = decide(contrast, said, 0.005, 0.05) == "better"
        color = BLUE if better else ORANGE
        found += better
        missed += not said.low <= TRUTH <= said.high
        parts += [line(at(said.low), y, at(said.high), y, color), dot(at(contrast.delta), y, color)]
    parts += [
        text(LEFT, bottom + 28, f"better: {found} of {STUDIES}", BLUE),
        text(LEFT + 140, bottom + 28, f"undecided: {STUDIES - found}", ORANGE),
        text(LEFT + 280, bottom + 28, f"interval without the truth in it: {missed}", INK),
    ]
    title = f"The same two recipes, {STUDIES} studies of 5 folds, 2 seeds: difference in score"
    return page(bottom + 46, title, parts)


def draw_best() -> str:
    """What the best of equal arms shows, what birdlab expects of it, and what it is worth."""
    outcomes: list[Outcome] = [simulate([0.0] * 500, arms, seed=arms) for arms in ARMS]
    tall, most = 220, 0.014
    rows = (
        ("the best arm shows", ORANGE, [o.shown for o in outcomes]),
        ("birdlab expects", BLUE, [o.expected for o in outcomes]),
        ("it is worth", GREEN, [o.true for o in outcomes]),
    )
    bottom, width = TOP + tall, RIGHT - 170

    def at(place: int, value: float) -> tuple[float, float]:
        return LEFT + 70 + (width - 110) * place / (len(ARMS) - 1), bottom - tall * value / most

    parts = []
    for value in (0.0, 0.005, 0.01):
        y = at(0, value)[1]
        parts += [
            line(LEFT + 50, y, width, y, LINE),
            text(LEFT, y + 4, f"{value:+.3f}" if value else "0"),
        ]
    for name, color, values in rows:
        points = [at(place, value) for place, value in enumerate(values)]
        parts += [line(*one, *two, color) for one, two in pairwise(points)]
        parts += [dot(*point, color) for point in points]
        parts.append(text(width + 12, points[-1][1] + 4, name, color))
    parts += [
        text(at(place, 0)[0], bottom + 24, f"{arms} arms", SOFT, "middle")
        for place, arms in enumerate(ARMS)
    ]
    title = (
        "Arms that all equal the base: the difference of the best one to it, mean of 500 studies"
    )
    return page(bottom + 42, title, parts)


if __name__ == "__main__":
    for name, drawing in (("intervals", draw_intervals()), ("best_of_many", draw_best())):
        (IMAGES / f"{name}.svg").write_text(drawing, encoding="utf-8")
        print(IMAGES / f"{name}.svg")
