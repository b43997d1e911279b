"""The bad input campaign: hostile files and words, each given to a real command in a child.

`python -m tests.badinput` runs it; docs/robustness.md says what it looks for.
"""

from __future__ import annotations

import sys
from pathlib import Path

_BESIDE = str(Path(__file__).parents[1])
if _BESIDE not in sys.path:  # the other helpers of tests are modules beside this package
    sys.path.append(_BESIDE)
