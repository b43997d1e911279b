"""The drawings of the statistics in plain words are those that their script makes now."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from plain_drawings import IMAGES, draw_best, draw_intervals


@pytest.mark.parametrize(
    ("name", "draw"),
    [
        ("intervals", draw_intervals),
        pytest.param("best_of_many", draw_best, marks=pytest.mark.slow),
    ],
)
def test_drawings_are_fresh(name: str, draw: Callable[[], str]) -> None:
    assert (IMAGES / f"{name}.svg").read_text(encoding="utf-8") == draw()


def test_the_page_says_what_the_drawing_of_intervals_shows() -> None:
    drawing = draw_intervals()
    assert "better: 8 of 20" in drawing and "undecided: 12" in drawing
    assert "interval without the truth in it: 1<" in drawing
    page = (IMAGES.parent / "statistics_plain.md").read_text(encoding="utf-8")
    assert "one interval of the twenty leaves it out" in page
    assert "Twelve studies do not find the difference" in page
