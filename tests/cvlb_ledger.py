"""The real ledger of 2025 as pairs of CV and leaderboard score; as a script it prints its study.

python tests/cvlb_ledger.py [birdclef2025_cv_lb_ledger.csv]
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from birdlab.study.cvlb import compare_estimators, study_cv_lb
from birdlab.tracking.attributes import family_of

LEDGER_2025 = Path(__file__).parents[2] / "shared" / "data" / "birdclef2025_cv_lb_ledger.csv"
MAIN_SPLIT = "cv_split_base_and_prev_comps_XCsnipet28032025_group_allbirds_hdf5"
NOLEAK_SPLIT = "cv_split_base_and_prev_comps_XCsnipet28032025_group_allrarebirds_hdf5_noleak"
ESTIMATORS = {
    "mean of folds": lambda table: table["cv_mean_auc"],
    "pooled": lambda table: table["cv_pooled_oof_auc"],
    "mean - SD": lambda table: table["cv_mean_auc"] - _folds(table).std(axis=1),
    "worst fold": lambda table: _folds(table).min(axis=1),
    **{f"fold {k}": lambda table, k=k: _folds(table)[k] for k in range(5)},
}


def build_pairs(table: pd.DataFrame, estimator: str = "mean of folds") -> pd.DataFrame:
    """The experiments that have a public score, in the columns that `study_cv_lb` reads."""
    table = table[table["lb_public"].notna()].reset_index(drop=True)
    return pd.DataFrame(
        {
            "run": table["experiment"],
            "name": table["experiment"] + " " + table["backbone"],
            "cv": ESTIMATORS[estimator](table),
            "lb": table["lb_public"],
            "fold_scores": _folds(table).to_numpy().tolist(),
            "split": table["split"],
            "family": [family_of(name) for name in table["backbone"]],
            "checkpoint": table["checkpoint"],
        }
    )


def _folds(table: pd.DataFrame) -> pd.DataFrame:
    return table["cv_fold_aucs"].str.split(";", expand=True).astype(float)


def main(path: Path) -> None:
    table = pd.read_csv(path)
    study = study_cv_lb(build_pairs(table), metric="macro AUC", lb_from=0.9)
    compared = compare_estimators({name: build_pairs(table, name) for name in ESTIMATORS})
    print(study.answer, *study.sentences, "", sep="\n")
    for name in ("spearman", "kendall", "pearson", "rounding", "resolution"):
        print(getattr(study, name))
    pd.set_option("display.width", 250, "display.max_columns", 30, "display.max_rows", 60)
    short = {MAIN_SPLIT: "main", NOLEAK_SPLIT: "noleak"}
    tables = ("bands", "groups", "partial", "shares", "fold_noise")
    for shown in (*(getattr(study, name).replace(short) for name in tables), study.influence[:5]):
        print(f"\n{shown.round(4).to_string(max_colwidth=30)}")
    print(f"\n{study.best.candidates.round(4)}\n\n{study.curve.iloc[::9].round(4)}")
    print(f"\n{compared.table.round(3)}\n", *compared.sentences, *study.methods, sep="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else LEDGER_2025)
