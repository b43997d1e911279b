"""`birdlab compare`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from birdlab.cli.common import JsonOption
from birdlab.cli.voice import print_json

if TYPE_CHECKING:
    import pandas as pd

    from birdlab.lab import Lab
    from birdlab.spec.estimators import EstimatorSpec
    from birdlab.study.compare import Comparison
    from birdlab.study.noise import NoiseFloor
    from birdlab.study.shrinkage import EffectPrior

SPECIES_SHOWN = ("code", "support", "ap_a", "ap_b", "delta", "low", "high", "q")


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("compare", context_settings={"ignore_unknown_options": True})(compare)


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN RUN ...", help="Two runs or more, named as in `show`."),
    ],
    base: Annotated[str, typer.Option(help="The run the others are compared with.")] = "",
    metric: Annotated[
        str, typer.Option(help="padded_cmap, macro_auc, cmap_min5, or a kind of your own.")
    ] = "padded_cmap",
    pad: Annotated[int | None, typer.Option(min=1, help="Rows of ones of the padded cmAP.")] = None,
    smallest_effect: Annotated[
        float, typer.Option(min=0, help="Smaller differences do not matter.")
    ] = 0.005,
    species: Annotated[int, typer.Option(min=0, help="So many species, both ways.")] = 5,
    draws: Annotated[
        int, typer.Option(min=0, help="Weightings of recordists; 0 leaves them and species out.")
    ] = 1000,
    costs: Annotated[
        bool, typer.Option("--costs", help="Also what the differences cost, as `birdlab value`.")
    ] = False,
    json_: JsonOption = False,
) -> None:
    """Compare runs on the recordings, classes, folds and seeds they share, from stored outputs.

    The base is --base, else the first. Nothing is trained.

    Example: birdlab compare baseline lr:best
    """
    from birdlab.cli.progress import print_lines
    from birdlab.cli.value_words import no_value_line, value_json, value_lines, weigh_runs
    from birdlab.lab import open_lab
    from birdlab.study.rescoring import build_estimator

    lab = open_lab()
    named = [base, *runs] if base else runs
    estimator = build_estimator(metric, pad=pad)
    found = compare_named(lab, named, estimator, smallest_effect, draws)
    weighed = weigh_runs(lab, *found) if costs and found[0].ranking is not None else None
    if json_:
        value = None if weighed is None else value_json(*weighed)
        print_json(_plain(*found) | ({"value": value} if costs else {}))
        return
    lines = _lines(*found, species)
    if costs:
        lines += ["", *([no_value_line(found[0])] if weighed is None else value_lines(*weighed))]
    print_lines("\n".join(lines))


def compare_named(
    lab: Lab, named: list[str], metric: EstimatorSpec, smallest_effect: float, n_draws: int
) -> tuple[Comparison, dict[str, dict[str, Any]]]:
    """The comparison, and the record of each run by what it is called in it, the base first."""
    from birdlab.cli.common import name_records
    from birdlab.errors import ResolveError
    from birdlab.runtables import load_fold_tables
    from birdlab.study.compare import HEADLINE, compare_runs
    from birdlab.study.run_tables import RunTables
    from birdlab.study.splits import count_split_folds
    from birdlab.tracking.evidence import load_recordists
    from birdlab.tracking.resolve import resolve_run

    called = name_records([resolve_run(lab, text) for text in named])
    if len(called) < 2:
        raise ResolveError("a comparison needs two runs", got=", ".join(named))
    recordists: dict[str, str] = {}
    for record in called.values():
        recordists = load_recordists(lab, record) | recordists
    tables = [RunTables(name, load_fold_tables(lab, r)) for name, r in called.items()]
    comparison = compare_runs(
        tables,
        recordists,
        metric=metric,
        smallest_effect=smallest_effect,
        noise=_noise(lab, list(called.values())) if metric == HEADLINE else None,
        split_folds=count_split_folds(next(iter(called.values()))),
        prior=_prior(lab, list(called.values())) if metric == HEADLINE else None,
        n_draws=n_draws,
    )
    return comparison, called


def _noise(lab: Lab, records: list[dict[str, Any]]) -> NoiseFloor | None:
    """The noise floor of the rows of the runs, None where they differ or none was measured."""
    from birdlab.study.noise_file import load_noise

    data = {(r["evaluation"]["rows_hash"], r["evaluation"]["classes_hash"]) for r in records}
    return load_noise(lab, *data.pop()) if len(data) == 1 else None


def _prior(lab: Lab, records: list[dict[str, Any]]) -> EffectPrior | None:
    """How the effects of the lab's sweeps are distributed, these runs among themselves left out."""
    from birdlab.study.other_effects import load_prior

    runs = [record["spec_id"] for record in records]
    return load_prior(lab, records[0]["evaluation"]["rows_hash"], runs=runs)


def _lines(found: Comparison, records: dict[str, dict[str, Any]], n_species: int) -> list[str]:
    from birdlab.cli.summaries import table_lines
    from birdlab.recorded import name_remarks

    lines = [*found.sentences]
    if found.ranking is not None:
        lines += ["", *table_lines(found.ranking), ""]
        lines += [f"  {sentence}" for sentence in found.ranking.sentences]
    if found.crossed:
        lines += ["", *(f"  {said.sentence(found.shared.base)}" for said in found.crossed)]
    if found.recordings:
        lines += [
            "",
            "Over other recordings like these, by padded cmAP (the networks as they are):",
        ]
    lines += [f"  {arm}: {said.sentence}" for arm, said in found.recordings.items()]
    for arm, table in found.species.items():
        if n_species and not table.empty:
            lines += ["", *_species_lines(table, arm, found.shared.base, n_species)]
    warnings = [*found.shared.left_out, *name_remarks(records)]
    return [*lines, *([""] if warnings else []), *warnings]


def _species_lines(table: pd.DataFrame, arm: str, base: str, n: int) -> list[str]:
    """The species that gain and lose most, with how sure that is."""
    import pandas as pd

    ends = table if len(table) <= 2 * n else pd.concat([table.head(n), table.tail(n)])
    sure = int((table["q"] <= 0.05).sum())
    shown = ends[list(SPECIES_SHOWN)].to_string(
        index=False, float_format=lambda value: f"{value:.4f}", na_rep=""
    )
    return [
        f"Species, {arm} (b) against {base} (a): {sure} of {len(table)} differ at a share of 5 % "
        "false finds (q).",
        *(f"  {line}".rstrip() for line in shown.splitlines()),
    ]


def _plain(found: Comparison, records: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The comparison as JSON takes it; null where there is no number."""
    from dataclasses import asdict

    import pandas as pd

    from birdlab.cli.common import table_rows
    from birdlab.recorded import name_remarks

    shared = found.shared
    return {
        "base": shared.base,
        "runs": {name: record["spec_id"] for name, record in records.items()},
        "metric": found.metric,
        "n_recordings": len(shared.recordings),
        "classes": list(shared.codes),
        "folds": list(shared.folds),
        "seeds": {name: shared.seeds(name) for name in (shared.base, *shared.arms)},
        "scores": table_rows(found.scores),
        "arms": [] if found.ranking is None else table_rows(found.ranking.table),
        "crossed": table_rows(pd.DataFrame([asdict(said) for said in found.crossed])),
        "recordings": {
            arm: {"delta": r.delta, "low": r.low, "high": r.high, "n_recordists": r.n_recordists}
            for arm, r in found.recordings.items()
        },
        "species": {arm: table_rows(table) for arm, table in found.species.items()},
        "sentences": [
            *found.sentences,
            *(() if found.ranking is None else found.ranking.sentences),
            *(said.sentence(shared.base) for said in found.crossed),
        ],
        "left_out": [*shared.left_out, *name_remarks(records)],
    }
