"""The data sets that go with the demo competition, made of the same world.

`environment`: short clips of everyday noise, in the manner of ESC-50; background for training.
`soundscapes`: labelled ones of the split `train`, from sites that no leaderboard looks at.
`unlabelled`: ones without labels, from the sites of the leaderboard at other hours.
`phones`: more recordings of the same species by other people, half of them at low sample rates.
`mislabelled`: the competition itself with wrong labels planted in its table (`mislabelled`).
"""

from __future__ import annotations

from dataclasses import replace

from birdlab.data.demo.environment import EVENTS
from birdlab.data.demo.settings import SAMPLE_RATE_HZ, DemoSettings, Part, build_generator
from birdlab.data.demo.world import (
    BackgroundPlan,
    RecordingPlan,
    SoundscapePlan,
    World,
    build_world,
    draw_species,
    plan_recordings,
    plan_soundscapes,
)

CLIPS_PER_EVENT = 4
CLIP_S = 5.0
"""ESC-50 has 40 clips of 5 s of each of its 50 kinds of sound."""
PHONE_RATES_HZ = (16_000, 22_050, 24_000, *[SAMPLE_RATE_HZ] * 3)
"""The sample rates of phones, each as likely as the others."""


def build_part(settings: DemoSettings, part: Part) -> World:
    """The plan of one part; its species are those of the competition with these settings."""
    world = build_world(settings)
    if part in ("competition", "mislabelled"):
        return world
    empty = replace(world, recordings=(), backgrounds=(), soundscapes=())
    if part == "environment":
        return replace(empty, backgrounds=_plan_environment())
    if part == "soundscapes":
        return replace(empty, soundscapes=_plan_training_soundscapes(settings, world))
    if part == "unlabelled":
        return replace(empty, soundscapes=_plan_unlabelled_soundscapes(settings, world))
    return replace(empty, recordings=_plan_phones(settings))


def _plan_environment() -> tuple[BackgroundPlan, ...]:
    return tuple(
        BackgroundPlan(f"{kind}-{i}.ogg", kind, CLIP_S, "event")
        for kind in EVENTS
        for i in range(CLIPS_PER_EVENT)
    )


def _plan_training_soundscapes(settings: DemoSettings, world: World) -> tuple[SoundscapePlan, ...]:
    """Half as many soundscapes as the competition has, with sites and names of their own."""
    rng = build_generator(settings.seed, "soundscapes", "train")
    sizes = {"train": max(1, settings.n_soundscapes // 2)}
    plans = plan_soundscapes(settings, world.codes, sizes, rng)
    return tuple(
        replace(plan, filename=f"train_{plan.filename}", site=f"train-{plan.site}")
        for plan in plans
    )


def _plan_unlabelled_soundscapes(
    settings: DemoSettings, world: World
) -> tuple[SoundscapePlan, ...]:
    """Five for every two of the competition, dealt evenly to the sites of the leaderboard."""
    rng = build_generator(settings.seed, "soundscapes", "unlabelled")
    sizes = {"unlabelled": settings.n_soundscapes * 5 // 2}
    plans = plan_soundscapes(settings, world.codes, sizes, rng)
    sites = sorted({plan.site for plan in world.soundscapes if plan.split != "unlabelled"})
    return tuple(
        replace(plan, filename=f"hour_{plan.filename}", site=sites[i % len(sites)])
        for i, plan in enumerate(plans)
    )


def _plan_phones(settings: DemoSettings) -> tuple[RecordingPlan, ...]:
    """Half as many recordings as the competition has; none of its recordists made any."""
    rng = build_generator(settings.seed, "recordings", "phones")
    n = max(settings.n_recordings // 2, settings.n_species * settings.rarest)
    plans = plan_recordings(replace(settings, n_recordings=n), draw_species(settings)[0], rng)
    rates = rng.choice(PHONE_RATES_HZ, size=len(plans))
    return tuple(
        replace(
            plan,
            filename=plan.filename.replace("/DM", "/PH"),
            recordist=f"{plan.recordist} (phone)",
            author=plan.author and f"{plan.author} (phone)",
            rate_hz=int(rate),
        )
        for plan, rate in zip(plans, rates, strict=True)
    )
