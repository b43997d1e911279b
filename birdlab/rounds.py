"""Rounds of pseudo-labels: an experiment cut after each of them, and the run that is taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from birdlab.errors import BirdlabError, DataError
from birdlab.runresult import RunNote, RunResult
from birdlab.spec.experiment import ExperimentSpec
from birdlab.spec.identity import canonical_json
from birdlab.spec.teaching import RoundsSpec

Pair = tuple[ExperimentSpec, RunNote]
Outcome = RunResult | BirdlabError
RunAll = Callable[[Sequence[Pair], Mapping[str, str]], list[Outcome]]
"""Runs plain experiments; the mapping leads from titles of rounds to those they belong to."""


@dataclass(frozen=True)
class Cut:
    """An experiment as it stands after a round; number 0 is before the first.

    stage: the stage of the round, or the last one before the first round.
    """

    number: int
    stage: str
    spec: ExperimentSpec


@dataclass(frozen=True)
class Choice:
    """Which round is taken, by its place among the scores, and whether no further one is run."""

    taken: int
    is_over: bool


@dataclass(frozen=True, eq=False)
class RoundsResult:
    """The rounds of an experiment that were run, in order, and the place of the one taken.

    scores: the declared score of each; left: the numbers of the rounds that were not run.
    """

    rule: RoundsSpec
    cuts: tuple[Cut, ...]
    results: tuple[RunResult, ...]
    scores: tuple[float, ...]
    taken: int
    left: tuple[int, ...] = ()

    @property
    def sentence(self) -> str:
        """Which round is taken and why."""
        by, cuts, scores = self.rule.by, self.cuts, self.scores
        best, later = scores[self.taken], range(self.taken + 1, len(cuts))
        said = f"round {cuts[self.taken].number} is taken"
        if cuts[self.taken].number == 0:
            said += ", without pseudo-labels"
        if not later:
            only = len(cuts) == 1
            return f"{said}: {by} {best:.4f}" + (
                ", the only round." if only else " is the highest, in the last round."
            )
        least = f", not more than {self.rule.min_gain:g} above" if self.rule.min_gain else " after"
        turned = "; ".join(
            f"round {cuts[i].number} turned over: {by} {scores[i]:.4f}{least} {best:.4f}"
            for i in later
        )
        unrun = f"; not run: round {', '.join(map(str, self.left))}" if self.left else ""
        return f"{said}: {turned}{unrun}."


def cut_rounds(spec: ExperimentSpec) -> tuple[Cut, ...]:
    """The experiment before its first round and after each, without `rounds`: plain experiments.

    A round is a stage with `pseudo`; stages after it belong to it up to the next round. Stages on
    data sets of their own are left out where a cut would end with them: nothing scores these. So
    there is no round 0 where no stage before the first round is trained on the folds.
    """
    begins = [i for i, stage in enumerate(spec.stages) if stage.pseudo is not None]
    cuts = []
    for number, (begin, end) in enumerate(pairwise([0, *begins, len(spec.stages)])):
        scored = [i for i in range(begin, end) if spec.stages[i].data is None]
        if not scored:
            continue
        stages = spec.stages[: scored[-1] + 1]
        name = f"{spec.name[:180] or 'run'}, round {number}"
        changes = {"stages": stages, "rounds": None, "name": name}
        cuts.append(
            Cut(number, spec.stages[begin if number else scored[-1]].name, _copy(spec, changes))
        )
    return tuple(cuts)


def _copy(spec: ExperimentSpec, changes: Mapping[str, object]) -> ExperimentSpec:
    return spec.model_copy(update=dict(changes))


def choose_round(scores: Sequence[float], rule: RoundsSpec) -> Choice:
    """The last of some scores, in the order of rounds, that gained, and whether the rounds end.

    A score gains when it is more than `min_gain` above that of the last one that gained; the first
    does in any case. The rounds end after `patience` scores in a row that do not gain.
    """
    taken = 0
    for place, score in enumerate(scores):
        if score > scores[taken] + rule.min_gain:
            taken = place
    return Choice(taken, len(scores) - 1 - taken >= rule.patience)


@dataclass(eq=False)
class _Walk:
    """One experiment on its way through its rounds; one without rounds has a single step."""

    spec: ExperimentSpec
    note: RunNote
    cuts: tuple[Cut, ...]
    results: list[RunResult] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    error: BirdlabError | None = None
    is_over: bool = False

    def next_pair(self) -> Pair | None:
        """The experiment to run next; None where nothing is left."""
        done = len(self.results)
        if self.error is not None or self.is_over:
            return None
        if self.spec.rounds is None:
            return (self.spec, self.note)
        cut = self.cuts[done]
        said = f"round {cut.number} of {self.note.title or self.spec.name}"
        return cut.spec, replace(self.note, title=cut.spec.name, sweep="", rounds=said)

    def take(self, outcome: Outcome) -> None:
        """Note what came out of the experiment that was run last."""
        if isinstance(outcome, BirdlabError):
            self.error = outcome
            return
        self.results.append(outcome)
        rule = self.spec.rounds
        if rule is None:
            self.is_over = True
            return
        score = outcome.scores.get(f"cv/{rule.by}")
        if score is None:
            self.error = _no_score(rule, outcome)
            return
        self.scores.append(score)
        choice = choose_round(self.scores, rule)
        self.is_over = choice.is_over or len(self.results) == len(self.cuts)

    def found(self) -> RoundsResult:
        """The rounds that were run."""
        assert self.spec.rounds is not None
        done = len(self.results)
        taken = choose_round(self.scores, self.spec.rounds).taken
        left = tuple(cut.number for cut in self.cuts[done:])
        ran = tuple(self.results)
        return RoundsResult(
            self.spec.rounds, self.cuts[:done], ran, tuple(self.scores), taken, left
        )


def run_rounds(specs: Sequence[Pair], run: RunAll) -> list[Outcome]:
    """The result of each experiment in order, of one with `rounds` that of the round taken.

    First everything that has no rounds runs, with the first cut of what has; then the next cuts,
    as long as the declared score gains. A run that several need alike is run once. The run that is
    taken gets the name of its experiment in the end, and its title in the sweep. An experiment one
    round of which fails has its error.
    """
    walks = [
        _Walk(spec, note, cut_rounds(spec) if spec.rounds is not None else ())
        for spec, note in specs
    ]
    while open_walks := [(w, pair) for w in walks if (pair := w.next_pair()) is not None]:
        for walk, outcome in _run_once(open_walks, run):
            walk.take(outcome)
    return _settle(walks, run)


def _run_once(open_walks: Sequence[tuple[_Walk, Pair]], run: RunAll) -> list[tuple[_Walk, Outcome]]:
    """Run what is next, equal experiments once, under the name of one without rounds if any."""
    by_content: dict[str, list[tuple[_Walk, Pair]]] = {}
    for walk, pair in sorted(open_walks, key=lambda found: found[0].spec.rounds is not None):
        key = canonical_json([pair[0], pair[0].cells, pair[0].evaluate.estimators])
        by_content.setdefault(key, []).append((walk, pair))
    firsts = [group[0] for group in by_content.values()]
    titles = {pair[1].title: walk.note.title for walk, pair in firsts}
    outcomes = run([pair for _, pair in firsts], titles)
    return [
        (walk, outcome)
        for group, outcome in zip(by_content.values(), outcomes, strict=True)
        for walk, _ in group
    ]


def _settle(walks: Sequence[_Walk], run: RunAll) -> list[Outcome]:
    """The outcomes in order; the runs that are taken are noted as what was asked for."""
    noted = {(w.note.sweep, w.results[0].spec_id) for w in walks if w.results and not w.cuts}
    outcomes: dict[int, Outcome] = {}
    due: list[tuple[int, Pair]] = []
    for place, walk in enumerate(walks):
        if walk.error is not None or not walk.cuts:
            outcomes[place] = walk.error or walk.results[0]
            continue
        found = walk.found()
        one = found.results[found.taken]
        outcomes[place] = _with_rounds(replace(one, note=walk.note), found)
        if (walk.note.sweep, one.spec_id) not in noted:
            noted.add((walk.note.sweep, one.spec_id))
            spec = _copy(found.cuts[found.taken].spec, {"name": walk.spec.name})
            due.append((place, (spec, replace(walk.note, rounds=found.sentence))))
    titles = {pair[1].title: pair[1].title for _, pair in due}
    taken = run([pair for _, pair in due], titles) if due else []
    for (place, _), outcome in zip(due, taken, strict=True):
        if isinstance(outcome, RunResult):
            outcome = _with_rounds(outcome, walks[place].found())
        outcomes[place] = outcome
    return [outcomes[place] for place in range(len(walks))]


def _with_rounds(taken: RunResult, found: RoundsResult) -> RunResult:
    """The run that is taken, with its rounds and the cells that all of them trained."""
    trained = frozenset[str]().union(*(result.trained_cells for result in found.results))
    cells = found.results[-1].trained + found.results[-1].cached
    return replace(taken, trained_cells=trained, cached=cells - len(trained), rounds=found)


def _no_score(rule: RoundsSpec, result: RunResult) -> DataError:
    known = ", ".join(name.removeprefix("cv/") for name in result.scores)
    return DataError(
        f"the rounds are judged by {rule.by}, of which this run has no score",
        where="rounds.by",
        got=result.spec.name,
        expected=f"one of {known}",
        fix="`birdlab show` says what a run has; name a score that every round gets",
    )
