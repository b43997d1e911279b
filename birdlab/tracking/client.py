"""The MLflow client of a lab: on a migrated store, without minutes of waiting for a dead server."""

from __future__ import annotations

import logging
import os
from contextlib import nullcontext
from typing import Any

from filelock import FileLock

from birdlab.errors import TrackingError
from birdlab.lab import Lab, hide_password
from birdlab.tracking.schema import bring_up_to_date

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"  # it prints user and password

REQUEST_TIMEOUT_S = 10
"""After so long without a word from a server a request has failed, and is tried again later."""


_FINAL_CODES = {
    "BAD_REQUEST",
    "INVALID_PARAMETER_VALUE",
    "PERMISSION_DENIED",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_DOES_NOT_EXIST",
    "UNAUTHENTICATED",
}
"""What a store says that it will say again."""


def unreachable() -> tuple[type[Exception], ...]:
    """What is raised when a store cannot be reached or refuses."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, SQLAlchemyError, OSError


def may_pass(error: Exception) -> bool:
    """Whether the same request may succeed later: the store was away, busy or in trouble."""
    if not isinstance(error, unreachable()):
        return False
    return getattr(error, "error_code", "") not in _FINAL_CODES


def limit_requests() -> None:
    """Let requests to a server be tried once, for REQUEST_TIMEOUT_S, unless the user says more."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(REQUEST_TIMEOUT_S))


def open_client(lab: Lab) -> Any:
    """An MLflow client on the lab's store, whose database is migrated by one process alone.

    Raises what `unreachable` names. Requests to a server are tried once and give up after
    REQUEST_TIMEOUT_S, unless the user set MLflow's variables: who needs more tries waits himself.
    """
    limit_requests()
    from mlflow.tracking import MlflowClient

    lab.stores.mkdir(parents=True, exist_ok=True)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # its errors are raised
    for name in ("mlflow", "alembic"):  # migrations are told at INFO; they are no news
        logging.getLogger(name).setLevel(logging.WARNING)
    folder = lab.stores / "tracking"
    folder.mkdir(exist_ok=True)
    served = lab.tracking_uri.startswith("http")  # a server migrates its database itself
    with nullcontext() if served else FileLock(folder / "migration.lock"):
        if not lab.server_uri:
            bring_up_to_date(lab.stores / "mlflow.db")
        client = MlflowClient(tracking_uri=lab.tracking_uri, registry_uri=lab.tracking_uri)
        client.search_experiments(max_results=1)
    return client


def connect(lab: Lab) -> Any:
    """As `open_client`, with TrackingError in words where the store cannot be used."""
    try:
        return open_client(lab)
    except unreachable() as error:
        raise TrackingError(
            "the MLflow store cannot be used",
            where=hide_password(lab.tracking_uri),
            got=first_line(error),
            fix="check tracking_uri in birdlab.toml; training needs no tracker: --no-mlflow",
        ) from None


def first_line(error: BaseException) -> str:
    """An error in one line of at most 200 characters, without passwords of addresses."""
    lines = hide_password(str(error)).splitlines() or [type(error).__name__]
    return lines[0] if len(lines[0]) <= 200 else lines[0][:197] + "..."


class Experiments:
    """The MLflow experiment of each project, made on first use."""

    def __init__(self, lab: Lab, client: Any) -> None:
        self.lab, self.client = lab, client
        self._known: dict[str, str] = {}

    def __getitem__(self, project: str) -> str:
        """Its id; a new one keeps its artifacts in the lab, unless the user has a server."""
        if project not in self._known:
            self._known[project] = self._find(project)
        return self._known[project]

    def _find(self, project: str) -> str:
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(project)
        if found is None:
            is_own = not self.lab.server_uri
            place = self.lab.artifacts.resolve().as_uri() if is_own else None
            try:
                return str(self.client.create_experiment(project, artifact_location=place))
            except MlflowException:  # another driver made it at this moment
                found = self.client.get_experiment_by_name(project)
                if found is None:
                    raise
        return str(found.experiment_id)
