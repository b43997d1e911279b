"""What can be heard in soundscapes of the demo that are given out without labels."""

from __future__ import annotations

import numpy as np
import pandas as pd

from birdlab.data.demo.parts import build_part
from birdlab.data.demo.rendering import render_plan
from birdlab.data.demo.settings import DemoSettings, Part
from birdlab.data.demo.tables import mark_rows


def find_truth(settings: DemoSettings, part: Part = "unlabelled") -> pd.DataFrame:
    """The labels of all windows of a part's soundscapes: row_id, a float32 column a class.

    They are no file of the data set: each soundscape is made once more, which takes as long as
    making it did. So labels of a teacher can be held against what was sung.
    """
    world = build_part(settings, part)
    rows = [
        row
        for plan in world.soundscapes
        for row in mark_rows(plan, world.codes, render_plan(settings, plan).audible)
    ]
    table = pd.DataFrame(rows, columns=["row_id", *world.codes])
    return table.astype(dict.fromkeys(world.codes, np.float32))
