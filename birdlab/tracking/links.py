"""Links: what MLflow holds of each run, and what it still has to be told. No MLflow here.

The link of a run is a small file beside its record. Whoever wants MLflow to change writes the
wish there first, so a kill at any moment loses none; a marker in `tracking/open/` says that a
link holds a wish, so that a command finds them without reading every link.

    store      which MLflow the ids are of          parent, children   ids of runs there
    attempt    names the try that the parent is of  drivers            processes that train it
    project, name  of a parent that is to be made   logged             digest of what was written
    due        set when a record is to be written   ended              earlier tries to be ended
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from birdlab.lab import Lab, hide_password, write_whole
from birdlab.processes import is_gone, own_process
from birdlab.recorded import link_path, load_link
from birdlab.spec.identity import canonical_json

Link = dict[str, Any]


def store_name(lab: Lab) -> str:
    """What tells one MLflow from another: a server's address without its password, "" for ours."""
    return hide_password(lab.server_uri)


def current_link(lab: Lab, spec_id: str) -> Link:
    """The link of a run into the store in use; one that holds nothing when there is none."""
    link, store = load_link(lab, spec_id), store_name(lab)
    known = hide_password(link.get("store", "")) == store
    lost = not store and not (lab.stores / "mlflow.db").is_file() and link.get("parent")
    fresh: Link = {"parent": "", "children": {}, "logged": "", "attempt": "", "drivers": []}
    fresh |= {"due": "", "ended": [], "project": "", "name": "", "store": store}
    if known and lost:
        return fresh | {key: link[key] for key in ("due", "drivers") if key in link}
    return fresh | (link if known else {})


@contextmanager
def edit_link(lab: Lab, spec_id: str) -> Iterator[Link]:
    """The link of a run to change in place; written at the end if it changed. Takes milliseconds.

    No call to MLflow belongs inside: another process may wait for the same link.
    """
    with FileLock(_lock_path(lab, spec_id, "edit")):
        link = current_link(lab, spec_id)
        before = canonical_json(link)
        yield link
        marker = lab.open_runs / spec_id
        is_open = bool(link["drivers"] or link["due"] or link["ended"])
        if is_open and not marker.is_file():
            marker.parent.mkdir(parents=True, exist_ok=True)
            marker.touch()
        if canonical_json(link) != before:
            write_whole(link_path(lab, spec_id), canonical_json(link))
        if not is_open:
            marker.unlink(missing_ok=True)


@contextmanager
def writing(lab: Lab, spec_id: str) -> Iterator[None]:
    """Alone in writing a run to MLflow, which may take as long as the server does."""
    with FileLock(_lock_path(lab, spec_id, "write")):
        yield


def open_links(lab: Lab) -> list[str]:
    """The runs whose link holds a wish, or which a driver is training."""
    return sorted(p.name for p in lab.open_runs.iterdir()) if lab.open_runs.is_dir() else []


def abandoned_links(lab: Lab) -> list[str]:
    """Those of them that every process which would see to them has left."""
    return [s for s in open_links(lab) if all(map(is_gone, owners(current_link(lab, s))))]


def wish(link: Link) -> None:
    """Ask for what the lab holds of a run to be written."""
    link["due"] = f"{own_process()} {time.time_ns()}"


def begin(link: Link, project: str, name: str) -> None:
    """Say that this driver trains the run, as a try of its own unless another driver is at it."""
    mine, others = own_process(), living(link)
    if not others and link["attempt"]:
        end(link, "KILLED", "the process that trained it died")
    link["drivers"] = sorted({*others, mine})
    link["attempt"] = link["attempt"] or new_attempt()
    link |= {"project": project, "name": name}


def end(link: Link, status: str, note: str) -> None:
    """Turn the try that is open into one that has ended as `status`, to be written."""
    if link["attempt"] or link["parent"]:
        kept = {key: link[key] for key in ("parent", "attempt", "project", "name")}
        by, at_ms = own_process(), round(time.time() * 1000)
        link["ended"].append({**kept, "status": status, "note": note, "by": by, "at_ms": at_ms})
    link |= {"parent": "", "attempt": "", "children": {}, "drivers": [], "logged": ""}


def living(link: Mapping[str, Any]) -> list[str]:
    """The processes that train the run and are not known to be gone."""
    return [driver for driver in link["drivers"] if not is_gone(driver)]


def owners(link: Link) -> set[str]:
    """The drivers that will see to what the link asks for, unless they died."""
    said = {entry["by"] for entry in link["ended"]} | set(link["drivers"])
    return said | ({link["due"].split(" ")[0]} if link["due"] else set())


def new_attempt() -> str:
    """A name for one try to train a run, unlike any other."""
    return uuid.uuid4().hex[:16]


def _lock_path(lab: Lab, spec_id: str, purpose: str) -> Path:
    """One of 256 lock files, so that they do not grow with the runs."""
    folder = lab.stores / "tracking" / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{spec_id[:2]}.{purpose}"
