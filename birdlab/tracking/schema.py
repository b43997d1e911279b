"""The level of MLflow's database, and a database brought to what the installed MLflow expects."""

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
        return _level(database)


def _level(database: sqlite3.Connection) -> str:
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


def bring_up_to_date(path: Path) -> None:
    """Make MLflow's SQLite database, or migrate one that is of an older MLflow.

    That happens in a copy, which takes the place of the database at the end: MLflow refuses one
    whose migration was cut short. One of a newer MLflow stays as it is. One process at a time may
    call it. Raises OSError where the file cannot be read or copied, and what SQLAlchemy raises.
    """
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    try:
        if path.is_file() and not _copy_if_old(path, part):
            return
        _migrate(part)
        part.replace(path)
    except sqlite3.Error as error:
        raise OSError(f"{path.name}: {error}") from error
    finally:
        part.unlink(missing_ok=True)


def _copy_if_old(path: Path, part: Path) -> bool:
    """Whether the database is of an older MLflow, or of none yet: then `part` is a copy of it."""
    with closing(sqlite3.connect(path)) as database:
        level = _level(database)
        if level and level not in known_levels()[1:]:
            return False
        with closing(sqlite3.connect(part)) as copy:
            database.backup(copy)
    return True


def _migrate(path: Path) -> None:
    from mlflow.store.db import utils

    engine = utils.create_sqlalchemy_engine(f"sqlite:///{path}")
    try:
        if utils._all_tables_exist(engine):
            utils._upgrade_db(engine)
        else:
            utils._initialize_tables(engine)
    finally:
        engine.dispose()
