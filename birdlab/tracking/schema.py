"""The level of MLflow's database against what the installed MLflow expects, read only."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path


def database_level(path: Path) -> str:
    """The migration that a SQLite database of MLflow is at; "" for one that never was migrated.

    The file is not changed. Raises sqlite3.Error where it is no such database.
    """
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
        damaged = database.execute("PRAGMA quick_check(1)").fetchone()
        if damaged[0] != "ok":
            raise sqlite3.DatabaseError(str(damaged[0]))
        tables = database.execute("SELECT name FROM sqlite_master WHERE name = 'alembic_version'")
        if tables.fetchone() is None:
            return ""
        row = database.execute("SELECT version_num FROM alembic_version").fetchone()
        return "" if row is None else str(row[0])


def known_levels() -> list[str]:
    """The migrations that the installed MLflow knows, the newest first."""
    from alembic.script import ScriptDirectory
    from mlflow.store.db.utils import _get_alembic_config

    script = ScriptDirectory.from_config(_get_alembic_config(db_url=""))
    return [revision.revision for revision in script.walk_revisions()]
