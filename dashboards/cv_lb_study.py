"""How a study of CV against the leaderboard is laid out: sentences, tables, figures."""

from __future__ import annotations

from dash import html

from birdlab.study import cvlb_figures as figures
from birdlab.study import cvlb_tables as words
from birdlab.study.cvlb import CvLbStudy, EstimatorComparison
from birdlab.study.cvlb_shake import Shake
from birdlab.study.figures import label_above
from dashboards.parts import Part, figure_part, table_part


def lay_out_sentences(study: CvLbStudy) -> Part:
    """The findings of a study as a list of sentences."""
    return html.Ul([html.Li(sentence) for sentence in study.sentences])


def lay_out_study(study: CvLbStudy) -> list[Part]:
    """The sections of a study: the relation, the order of runs, the runs, public and private."""
    return [
        *_lay_out_relation(study),
        *_lay_out_order(study),
        *_lay_out_runs(study),
        *(_lay_out_shake(study.shake) if study.shake else []),
    ]


def _lay_out_relation(study: CvLbStudy) -> list[Part]:
    rounding = study.rounding
    rounded = (
        [
            f"Leaderboard scores have {rounding.digits} decimals, and {rounding.tied:.1%} of the "
            f"pairs are tied: rounding alone puts Spearman anywhere from {rounding.low:+.2f} to "
            f"{rounding.high:+.2f}."
        ]
        if rounding.digits is not None and rounding.low == rounding.low
        else []
    )
    return [
        html.H2("How strong is the relation"),
        table_part(words.statistics_words(study), "cv_lb_statistics", title="correlations"),
        html.Ul([html.Li(text) for text in (*rounded, *study.methods)], className="soft"),
        html.H2("Does it hold at the top"),
        table_part(words.bands_words(study), "cv_lb_bands", title="bands", data=study.bands),
        html.H2("Does it hold in parts"),
        table_part(words.groups_words(study), "cv_lb_groups", title="groups", data=study.groups),
    ]


def _lay_out_order(study: CvLbStudy) -> list[Part]:
    curve = (
        [
            figure_part(
                figures.plot_resolution(study.curve, study.resolution),
                "cv-lb-resolution",
                title="resolution",
            ),
            html.P(
                "Pairs of runs with at least this CV gap: how many the leaderboard orders as CV "
                "does. Dotted: 80 %. Upright: the smallest gap from which on it is 80 % or more.",
                className="soft",
            ),
        ]
        if len(study.curve)
        else []
    )
    return [
        html.H2("Which CV gaps mean something"),
        *curve,
        table_part(words.shares_words(study), "cv_lb_gaps", title="gaps", data=study.shares),
    ]


def _lay_out_runs(study: CvLbStudy) -> list[Part]:
    candidates = words.best_words(study.best)
    best = (
        [
            html.H2("Is the CV-best the leaderboard-best"),
            table_part(candidates, "cv_lb_best", title="candidates", data=study.best.candidates),
            html.Ul([html.Li(text) for text in study.best.left_out], className="soft"),
        ]
        if len(candidates)
        else []
    )
    influence = table_part(
        words.influence_words(study), "cv_lb_influence", title="influence", data=study.influence
    )
    noise = (
        [
            html.H2("How much folds scatter"),
            table_part(words.noise_words(study), "cv_lb_folds", title="scatter of folds"),
        ]
        if len(study.fold_noise)
        else []
    )
    return [*best, html.H2("Which runs carry the relation"), influence, *noise]


def _lay_out_shake(shake: Shake) -> list[Part]:
    return [
        html.H2("Between public and private"),
        table_part(words.regrets_words(shake), "cv_lb_regrets", title="regret of choices"),
        table_part(words.moves_words(shake), "cv_lb_moves", title="moves", data=shake.moves),
    ]


def lay_out_estimators(comparison: EstimatorComparison) -> list[Part]:
    """How well each CV estimate predicts the leaderboard; empty for fewer than two of them."""
    if len(comparison.table) < 2 or "low" not in comparison.table:
        return []
    table = words.estimators_words(comparison)
    return [
        html.H2("Which CV estimate predicts the leaderboard"),
        html.Ul([html.Li(text) for text in comparison.sentences]),
        figure_part(
            label_above(figures.plot_estimators(comparison)),
            "cv-lb-estimator-figure",
            title="estimators",
        ),
        html.P(
            "Bars: 95 % intervals. Dotted: what the best of as many estimates reaches one time in "
            "20 when the leaderboard is shuffled.",
            className="soft",
        ),
        table_part(table, "cv_lb_estimators", title="estimators", data=comparison.table),
        html.Ul([html.Li(text) for text in comparison.left_out], className="soft"),
    ]
