"""What `birdlab models` says, as lines of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from birdlab.infer.models import PromotedModel
    from birdlab.promote.catalogue import ModelLine
    from birdlab.promote.history import AliasMove

NOT_KNOWN = "-"
Said = tuple["ModelLine", "pd.DataFrame", Mapping[str, Any]]


def list_words(lines: Sequence[ModelLine], lost: Mapping[str, str]) -> list[str]:
    """Two lines a model: its figures, then where it is in service and what it is made of."""
    if not lines:
        return ["nothing was promoted yet; begin with: birdlab promote RUN"]
    out = [
        f"{'model':<16}  {'promoted':<16}  {'weights':<8}  {'members':>7}  {'score':>6}  "
        f"{'minutes':>7}  {'size':>8}"
    ]
    for line in lines:
        out.append(
            f"{line.name:<16}  {_at(line.promoted_at):<16}  {line.weights or NOT_KNOWN:<8}  "
            f"{_or_not(line.n_members):>7}  {_or_not(line.score, '.4f'):>6}  "
            f"{_or_not(line.minutes, '.2f'):>7}  {_size(line):>8}"
        )
        out.append(f"    {'  '.join(_second_line(line))}")
    for alias, name in lost.items():
        out.append(f"@{alias} names {name}, whose file is gone: birdlab models rollback")
    return out


def _second_line(line: ModelLine) -> list[str]:
    parts = [" ".join(f"@{alias}" for alias in line.aliases)] if line.aliases else []
    parts.append(f"of {', '.join(line.runs)}")
    parts += [f"in MLflow {line.version}"] if line.version else ["not in MLflow"]
    parts += list(line.variants)
    if line.forced:
        parts.append(f"FORCED: {line.reason}")
    return parts


def show_words(
    model: PromotedModel,
    line: ModelLine,
    members: pd.DataFrame,
    parity: pd.DataFrame,
    moves: Sequence[AliasMove],
) -> list[str]:
    """Everything that is known of one model."""
    out = [f"{line.name}  {' '.join(f'@{alias}' for alias in line.aliases)}".rstrip(), ""]
    out += [f"  {name:<12} {value}" for name, value in _facts(line, model).items()]
    if len(members):
        out += ["", "members", *_indented(members)]
    if len(parity):
        out += ["", "largest difference of a probability between the file and the trained models"]
        out += _indented(parity, "{:.1e}".format)
    if moves:
        out += ["", "history"]
        out += [f"  {_at(move.at)}  {_move(move)}" for move in moves]
    return [*out, "", f"next: birdlab verify {line.name} | birdlab predict SOUNDSCAPES "
            f"-o submission.csv --model {line.name}"]  # fmt: skip


def _facts(line: ModelLine, model: PromotedModel) -> dict[str, str]:
    card = model.card
    facts = {
        "promoted": _at(line.promoted_at),
        "runs": ", ".join(line.runs),
        "weights": line.weights or "",
        "blend": str(card.get("blend") or ""),
        "score": "" if line.score is None else f"{line.score:.4f} {line.metric or ''}".rstrip(),
        "cost": _cost(line),
        "file": f"{model.path} ({_size(line)})",
        "sha256": str(card.get("sha256") or ""),
        "MLflow": line.version or "not registered",
        "code": " ".join(
            str(part) for part in (card.get("commit") or "", "dirty" if card.get("dirty") else "")
        ).strip(),
        "data": str(card.get("data_hash") or ""),
        "variants": "; ".join(line.variants),
        "FORCED": line.reason if line.forced else "",
    }
    return {name: text for name, text in facts.items() if text}


def _cost(line: ModelLine) -> str:
    if line.minutes is None:
        return ""
    limit = "" if line.limit_minutes is None else f", limit {line.limit_minutes:g}"
    return f"{line.minutes:.2f} min for the competition's soundscapes{limit}"


def compare_words(one: Said, other: Said) -> list[str]:
    """What two models have different, side by side, and which members they share."""
    (a, members_a, card_a), (b, members_b, card_b) = one, other
    rows = {
        "in service": (" ".join(f"@{x}" for x in s.aliases) or NOT_KNOWN for s in (a, b)),
        "promoted": (_at(s.promoted_at) for s in (a, b)),
        "runs": (", ".join(s.runs) for s in (a, b)),
        "weights": (s.weights or NOT_KNOWN for s in (a, b)),
        "members": (_or_not(s.n_members) for s in (a, b)),
        "blend": (str(c.get("blend") or NOT_KNOWN) for c in (card_a, card_b)),
        "classes": (str(len(c.get("classes", ()))) for c in (card_a, card_b)),
        "score": (_or_not(s.score, ".4f") for s in (a, b)),
        "minutes": (_or_not(s.minutes, ".2f") for s in (a, b)),
        "size": (_size(s) for s in (a, b)),
    }
    pairs = {name: tuple(values) for name, values in rows.items()}
    width = max(len(a.name), *(len(left) for left, _ in pairs.values()))
    out = [f"  {'':<10}  {a.name:<{width}}  {b.name}"]
    out += [f"  {name:<10}  {left:<{width}}  {right}" for name, (left, right) in pairs.items()]
    classes = [set(card.get("classes", ())) for card in (card_a, card_b)]
    if classes[0] != classes[1]:
        alone = [len(classes[i] - classes[1 - i]) for i in (0, 1)]
        out.append(f"  classes of one alone: {alone[0]} of the first, {alone[1]} of the second")
    return out + _members_apart(members_a, members_b)


def _members_apart(a: pd.DataFrame, b: pd.DataFrame) -> list[str]:
    if "name" not in a or "name" not in b:
        return []
    parts = {
        "members of both": a[a["name"].isin(b["name"])],
        "of the first alone": a[~a["name"].isin(b["name"])],
        "of the second alone": b[~b["name"].isin(a["name"])],
    }
    return [f"  {title}: {_backbones(part)}" for title, part in parts.items()]


def _backbones(members: pd.DataFrame) -> str:
    """How many members of which backbone."""
    names = members["backbone"] if "backbone" in members else members["name"]
    counts = names.value_counts(sort=False)
    return ", ".join(f"{n} {name}" for name, n in counts.items()) or "none"


def likeness_words(found: pd.DataFrame, n_windows: int, n_classes: int) -> list[str]:
    """How alike two models rank windows: the mean over classes, and the classes least alike."""
    told = found["rho"].dropna()
    out = ["", f"rank correlation of their predictions over {n_windows} windows"]
    if told.empty:
        return [*out, "  no class has probabilities that change in both"]
    out.append(
        f"  mean over {_classes(len(told))} {told.mean():.3f}, lowest {told.min():.3f}, "
        f"highest {told.max():.3f}"
    )
    if len(told) < len(found):
        n = len(found) - len(told)
        out.append(f"  {_classes(n)} never change{'s' * (n == 1)} in one of them: left out")
    if n_classes:
        out += _indented(found[found["rho"].notna()].head(n_classes), "{:.3f}".format)
    return out


def _classes(n: int) -> str:
    return "1 class" if n == 1 else f"{n} classes"


def move_words(move: AliasMove) -> list[str]:
    """What was moved, and what is next."""
    here = f" and in MLflow ({move.version})" if move.version else ""
    undo = f"birdlab models rollback --alias {move.alias}"
    if move.kind == "rollback":
        undo = f"birdlab models alias {move.before} {move.alias}"
    can_undo = move.before not in ("", move.model)
    return [
        f"{_move(move)}, in the lab{here}",
        f"next: birdlab predict SOUNDSCAPES -o submission.csv --model @{move.alias}",
        *([f"undo: {undo}"] if can_undo else []),
    ]


def _move(move: AliasMove) -> str:
    came = f" (before: {move.before})" if move.before and move.before != move.model else ""
    back = "went back to" if move.kind == "rollback" else "is"
    why = f": {move.why}" if move.why else ""
    return f"@{move.alias} {back} {move.model}{came}{why}"


def _indented(table: pd.DataFrame, floats: Any = "{:.4g}".format) -> list[str]:
    text = table.to_string(index=False, float_format=floats, na_rep="")
    return [f"  {line}".rstrip() for line in text.splitlines()]


def _at(moment: str) -> str:
    return moment[:16].replace("T", " ")


def _or_not(value: Any, form: str = "") -> str:
    return NOT_KNOWN if value is None else format(value, form)


def _size(line: ModelLine) -> str:
    return "gone" if line.size_mb is None else f"{line.size_mb:.1f} MB"
