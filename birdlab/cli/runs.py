"""`birdlab runs`, `birdlab show` and `birdlab diff`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from birdlab.cli.common import RunArgument, load_result_spec

if TYPE_CHECKING:
    import pandas as pd


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.command("runs")(runs)
    app.command("show", context_settings={"ignore_unknown_options": True})(show)
    app.command("diff", context_settings={"ignore_unknown_options": True})(diff)


def runs(
    sweep: Annotated[str, typer.Option(help="Only the arms of this sweep.")] = "",
    sort: Annotated[str, typer.Option(help="score, or date (default).")] = "date",
    json_: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """List runs with their deltas and scores, the newest last.

    Example: birdlab runs --sweep lr --sort score
    """
    from birdlab.cli.progress import print_lines
    from birdlab.errors import SpecError
    from birdlab.lab import open_lab
    from birdlab.tracking.index import load_runs

    if sort not in ("date", "score"):
        raise SpecError("unknown order", got=sort, expected="date or score")
    table = load_runs(open_lab(extensions=False))
    if sweep:
        table = table[[sweep in sweeps for sweeps in table["sweeps"]]]
    if sort == "score":
        table = table.sort_values("cv/padded_cmap", na_position="first")
    if json_:
        typer.echo(table.to_json(orient="records", indent=1))
        return
    if table.empty:
        print_lines("no runs yet; begin with: birdlab run experiments/baseline.yaml")
        return
    lines = _table_lines(table)
    groups = table[["rows_hash", "classes_hash", "n_folds"]].drop_duplicates()
    if len(groups) > 1:
        lines.append(
            f"\nthese runs were scored on {len(groups)} different sets of rows, classes or folds: "
            "scores compare within a set only"
        )
    print_lines("\n".join(lines))


def _table_lines(table: pd.DataFrame) -> list[str]:
    """A line a run; scores of soundscapes where any run has them, chosen scores with a star."""
    scapes = table["cv/soundscapes_padded_cmap"].notna().any()
    heard = f"{'soundscapes':>11} {'AUC':>6}  " if scapes else ""
    lines = [
        f"{'run':<12}  {'padded cmAP':>11}  {'sd':>6} {'floor':>6} {'AUC':>6}  {heard}"
        f"{'folds':>5} {'seeds':>5} {'rows':>6} {'classes':>7}  name"
    ]
    for row in table.to_dict("records"):
        delta = f"  [{row['delta']}]" if row["delta"] not in ("base", row["name"]) else ""
        if scapes:
            heard = f"{row['cv/soundscapes_padded_cmap']:>11.4f} "
            heard += f"{row['cv/soundscapes_macro_auc']:>6.4f}  "
        lines.append(
            f"{row['run']:<12}  {row['cv/padded_cmap']:>11.4f}{'*' if row['chosen'] else ' '} "
            f"{row['cv/padded_cmap_sd']:>6.4f} {row['floor']:>6.4f} {row['cv/macro_auc']:>6.4f}  "
            f"{heard}{row['n_folds']:>5} {row['n_seeds']:>5} {row['n_rows']:>6} "
            f"{row['n_classes']:>7}  {row['name']}{delta}"
        )
    chosen = table[table["chosen"] != ""]
    if len(chosen):
        lines.append(
            "\n* the rows that are scored also picked the weights, which raises the score:"
        )
        lines += [f"  {row['run']}  {row['chosen']}" for row in chosen.to_dict("records")]
    return lines


def show(run: RunArgument) -> None:
    """Show one run: scores, folds, cells, settings that matter.

    Example: birdlab show lr:best
    """
    import pandas as pd

    from birdlab.cli.progress import print_lines
    from birdlab.evaluate.score import chosen_sentence
    from birdlab.lab import open_lab
    from birdlab.spec.diff import flatten, title_of
    from birdlab.tracking.resolve import resolve_run

    record = resolve_run(open_lab(), run)
    spec = load_result_spec(record)
    cells = pd.DataFrame(record["cells"]).drop(columns=["eval_id"], errors="ignore")
    lines = [f"{record['name']}  {record['spec_id']}  {title_of(record['delta'])}"]
    if record.get("chosen"):
        lines.append(chosen_sentence(record["chosen"]))
    lines += [
        f"  {key:<24} {value:.4f}" for key, value in record["scores"].items() if value is not None
    ]
    lines += ["", cells.to_string(index=False), ""]
    lines += [f"  {key:<32} {value}" for key, value in flatten(spec).items()]
    print_lines("\n".join(lines))


def diff(
    a: Annotated[str, typer.Argument(metavar="RUN")],
    b: Annotated[str, typer.Argument(metavar="RUN")],
) -> None:
    """Show what differs between two runs: settings, then scores.

    Example: birdlab diff baseline lr:best
    """
    from birdlab.cli.progress import print_lines
    from birdlab.lab import open_lab
    from birdlab.spec.diff import diff_specs
    from birdlab.tracking.resolve import resolve_run

    lab = open_lab()
    one, two = resolve_run(lab, a), resolve_run(lab, b)
    changes = diff_specs(load_result_spec(one), load_result_spec(two))
    width = max([len(key) for key, _, _ in changes] + [20])
    lines = [f"{'':<{width}}  {one['spec_id']:<20} {two['spec_id']}"]
    lines += [f"{key:<{width}}  {x!s:<20} {y!s}" for key, x, y in changes]
    alike = _same_evaluation(one, two)
    lines.append("")
    for key in _COMPARED:
        x, y = one["scores"].get(key), two["scores"].get(key)
        if x is not None and y is not None:
            same = alike["soundscapes" if "soundscapes" in key else "folds"]
            gap = f"  {y - x:+.4f}" if same else "  (other rows, classes or folds: no difference)"
            lines.append(f"{key:<{width}}  {x:<20.4f} {y:.4f}{gap}")
    chosen = [record.get("chosen", "") for record in (one, two)]
    if any(chosen):
        said = [text or "fixed beforehand" for text in chosen]
        lines.append(f"{'weights':<{width}}  {said[0]:<20} {said[1]}")
    print_lines("\n".join(lines))


_COMPARED = (
    "cv/padded_cmap",
    "cv/macro_auc",
    "cv/soundscapes_padded_cmap",
    "cv/soundscapes_macro_auc",
)


def _same_evaluation(one: dict[str, Any], two: dict[str, Any]) -> dict[str, bool]:
    """Whether two runs were scored on the same recordings, and on the same soundscapes."""

    def same(*keys: str) -> bool:
        a, b = one["evaluation"], two["evaluation"]
        return all(a.get(key) == b.get(key) for key in ("classes_hash", "folds", *keys))

    return {"folds": same("rows_hash"), "soundscapes": same("soundscapes_hash")}
