"""What scores of post-processing say, in words."""

from __future__ import annotations

from birdlab.study.post_choice import NONE
from birdlab.study.postprocessing import PostScores
from birdlab.study.recordings import MIN_RECORDISTS
from birdlab.words import count_words

MANY_ALIKE = 0.5
"""A choice that fewer halves than this agree on is not settled."""


def describe_post(scores: PostScores, group: str = "file") -> tuple[str, ...]:
    """The sentences below the table; `group` is what intervals are over, file or recordist."""
    said = [f"{step.title} {step.unchanged}." for step in scores.steps if step.unchanged]
    if scores.n_groups < MIN_RECORDISTS:
        said.append(
            f"{count_words(scores.n_groups, group)}: too few to say what others would do, so there "
            "are no intervals."
        )
    elif any(step.interval for step in scores.steps):
        said.append(
            f"Intervals are 95 %, over {count_words(scores.n_groups, group)} like these; each is "
            "that of its step alone, not corrected for how many are tried. The model is held fixed."
        )
    live = [step for step in scores.steps if not step.unchanged]
    if len(live) > 1:
        said.append(
            f"{len(live)} were tried on the same {group}s: the best of several looks better here "
            "than it is."
        )
    if scores.choice is not None:
        c = scores.choice
        best, often = next(iter(c.chosen.items()))
        settled = "" if often >= MANY_ALIKE * c.n_halves else ", so the choice is not settled"
        named = "no step" if best == NONE else best
        said.append(
            f"Chosen on half of the {group}s ({c.n_halves} halves) the gain is {c.gain_there:+.4f} "
            f"there and {c.gain_elsewhere:+.4f} on the other half; the most frequent choice is "
            f"{named}, {often} times{settled}."
        )
    elif len(live) > 1:
        said.append(f"Too few {group}s or positives to choose on some and to score on others.")
    return tuple(said)
