"""The picture of the README: from a YAML file to verdicts, CV against the leaderboard, one file.

birdlab sweep experiments/lr.yaml, birdlab lb score of some runs, then: python docs/picture.py LAB.
Writes docs/images/overview.svg; every interval and point is one of that lab.
"""

from __future__ import annotations

import json
import sys
from html import escape
from pathlib import Path
from typing import Any

IMAGE = Path(__file__).parent / "images" / "overview.svg"
INK, SOFT, BLUE, LINE = "#1f2933", "#5f6c7b", "#1769aa", "#cbd2d9"
BOX, GAP, TOP, HEIGHT = 216, 28, 14, 214
TITLES = (
    ("1  a few lines of YAML", "birdlab sweep lr.yaml"),
    ("2  real, or noise?", "birdlab report lr"),
    ("3  can CV be trusted?", "birdlab dashboard"),
    ("4  one ONNX file", "birdlab promote lr:best"),
)


def text(x: float, y: float, said: str, *, size: int = 12, color: str = INK, more: str = "") -> str:
    """A line of text that begins at x, y, in pixels."""
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{color}" {more}>{escape(said)}</text>'
    )


def draw_lines(x: float, lines: list[str], *, mono: bool = True) -> list[str]:
    """Lines of text in a box that begins at x."""
    more = 'font-family="monospace" xml:space="preserve"' if mono else ""
    return [text(x + 12, TOP + 58 + 19 * i, said, more=more) for i, said in enumerate(lines)]


def draw_verdicts(x: float, ranking: list[dict[str, Any]]) -> list[str]:
    """The difference of each arm to the base with its interval, and the verdict below its name."""
    others = [row for row in ranking if row["low"] is not None]
    low, high = min(row["low"] for row in others), max(row["high"] for row in others)

    def place(value: float) -> float:
        return x + 80 + (BOX - 94) * (value - low) / (high - low)

    bottom = TOP + 52 + 36 * len(others)
    parts = [f'<path d="M{place(0):g} {TOP + 50}V{bottom}" stroke="{LINE}" stroke-width="2"/>']
    for i, row in enumerate(others):
        y = TOP + 68 + 36 * i
        parts += [
            text(x + 12, y + 4, row["arm"], size=11),
            f'<path d="M{place(row["low"]):g} {y}H{place(row["high"]):g}" '
            f'stroke="{BLUE}" stroke-width="2"/>',
            f'<circle cx="{place(row["delta"]):g}" cy="{y}" r="4" fill="{BLUE}"/>',
            text(x + 80, y + 17, row["verdict"].split(",")[0], size=10, color=SOFT),
        ]
    return [
        *parts,
        text(x + 12, bottom + 10, "difference to the best rate, 95 %", size=10, color=SOFT),
    ]


def draw_scatter(x: float, points: list[tuple[float, float]]) -> list[str]:
    """A point for each submitted run: its CV score to the right, its public score upwards."""
    across, up = zip(*points, strict=True)
    left, width, floor, tall = x + 26, BOX - 42, TOP + 164, 112

    def at(value: float, values: tuple[float, ...]) -> float:
        return (value - min(values)) / (max(values) - min(values))

    dots = [
        f'<circle cx="{left + 8 + (width - 16) * at(a, across):.1f}" '
        f'cy="{floor - 8 - (tall - 16) * at(b, up):.1f}" r="4" fill="{BLUE}" fill-opacity=".65"/>'
        for a, b in points
    ]
    axes = (
        f'<path d="M{left:g} {floor - tall}V{floor}H{left + width:g}" '
        f'stroke="{LINE}" stroke-width="2" fill="none"/>'
    )
    turned = f'transform="rotate(-90 {x + 18:g} {floor:g})"'
    return [
        axes,
        *dots,
        text(left, floor + 16, f"CV score of {len(points)} runs", size=10, color=SOFT),
        text(x + 18, floor, "public score", size=10, color=SOFT, more=turned),
    ]


def draw(parts: list[list[str]]) -> str:
    """The whole picture on a light card of its own, so that it reads on a dark page as well."""
    width = 4 * BOX + 3 * GAP + 28
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT + 2 * TOP}" '
        f'width="{width}" font-family="system-ui, sans-serif" role="img" '
        'aria-label="A YAML file, its verdicts, CV against the leaderboard, one ONNX file">',
        f'<rect width="{width}" height="{HEIGHT + 2 * TOP}" rx="8" fill="#f5f7fa"/>',
    ]
    for i, ((title, command), inner) in enumerate(zip(TITLES, parts, strict=True)):
        x = 14 + i * (BOX + GAP)
        out.append(
            f'<rect x="{x}" y="{TOP}" width="{BOX}" height="{HEIGHT}" rx="6" '
            f'fill="#fff" stroke="{LINE}"/>'
        )
        out += [text(x + 12, TOP + 26, title, size=14, more='font-weight="600"'), *inner]
        out.append(
            text(x + 12, TOP + HEIGHT - 12, command, color=BLUE, more='font-family="monospace"')
        )
        if i:
            middle = TOP + HEIGHT / 2
            out.append(f'<path d="M{x - 20} {middle - 6}l10 6l-10 6z" fill="{SOFT}"/>')
    return "\n".join([*out, "</svg>"]) + "\n"


def read_points(lab: Any) -> list[tuple[float, float]]:
    """CV and public score of every run that was submitted on public files, by padded cmAP."""
    from birdlab.study.ledger import load_ledger
    from birdlab.tracking.index import load_runs

    scores = load_runs(lab).set_index("run")["cv/padded_cmap"]
    ledger = load_ledger(lab.ledger)
    told = ledger.dropna(subset=["public"])[["run", "public"]].drop_duplicates("run", keep="last")
    pairs = ((scores.get(run), public) for run, public in told.itertuples(index=False))
    return [(float(cv), float(public)) for cv, public in pairs if cv is not None and cv == cv]


if __name__ == "__main__":
    from birdlab.lab import open_lab

    home = open_lab(Path(sys.argv[1]) if sys.argv[1:] else None)
    record = json.loads((home.root / home.file.stores / "sweeps" / "lr.json").read_text())
    yaml = ["base: baseline.yaml", "name: lr", "grid:", "  train.optimizer.lr:"]
    rates = record["spec"]["grid"]["train.optimizer.lr"]["values"]
    yaml.append("   [" + ", ".join(f"{rate:g}"[1:] for rate in rates) + "]")
    yaml.append("cells: {folds: [0, 1, 2]}")
    gates = [
        "gates, each with its figure",
        "trained once more on all data",
        "the file equals its models",
    ]
    gates += ["the CPU budget holds", "then the alias @champion"]
    x = [14 + i * (BOX + GAP) for i in range(4)]
    IMAGE.write_text(
        draw(
            [
                draw_lines(x[0], yaml),
                draw_verdicts(x[1], record["ranking"]),
                draw_scatter(x[2], read_points(home)),
                draw_lines(x[3], gates, mono=False),
            ]
        ),
        encoding="utf-8",
    )
    print(IMAGE)
