"""The commands by what they are for, as the help and README's map list them."""

from __future__ import annotations

PURPOSES: dict[str, tuple[str, ...]] = {
    "Start": ("init", "new", "schema", "doctor"),
    "Data": ("data", "augment"),
    "Train": ("run", "sweep", "status", "stop", "extend", "rerun", "cell"),
    "Look": ("runs", "show", "diff", "report", "dashboard", "ui"),
    "Learn": (
        *("noise", "compare", "value", "why", "suspects", "ideas", "bets"),
        *("rescore", "post", "pseudo"),
    ),
    "Leaderboard": ("lb",),
    "Deploy": ("ensemble", "promote", "models", "verify", "budget", "bundle", "predict"),
    "Upkeep": ("gc", "export", "import", "mlflow"),
}
