"""The summary of a sweep on the disk, and its run in MLflow that carries tables and figures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from birdlab.lab import Lab, write_whole
from birdlab.recorded import load_json
from birdlab.spec.identity import digest
from birdlab.tracking.client import Experiments
from birdlab.tracking.links import current_link, new_attempt, store_name

CARD, LINK = "summary.json", "mlflow.json"
_AGAIN = "remove the file: birdlab sweep writes the summary anew"
_LINK_AGAIN = "remove the file: MLflow gets the summary anew"


def summary_folder(lab: Lab, name: str) -> Path:
    """Where the page, the tables and the card of a sweep's summary lie."""
    return lab.stores / "sweeps" / name


def save_summary(
    lab: Lab,
    name: str,
    *,
    project: str,
    arms: Mapping[str, str],
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
    files: Mapping[str, str],
) -> bool:
    """Whether the summary says something new; then it is written, each file whole.

    arms: spec id by title; files: text by name, which may name folders. Files that an older
    summary had and this one has not are removed. The card is written last.
    """
    folder = summary_folder(lab, name)
    card = {
        "project": project,
        "arms": dict(arms),
        "metrics": dict(metrics),
        "tags": dict(tags),
        "files": {file: digest(text) for file, text in files.items()},
    }
    text = json.dumps(card, indent=1, sort_keys=True)
    path = folder / CARD
    before = load_json(path, _AGAIN) if path.is_file() else {}
    if json.dumps(before, indent=1, sort_keys=True) == text:  # as text, NaN is NaN
        return False
    for file in before.get("files", {}).keys() - files.keys():
        (folder / file).unlink(missing_ok=True)
    for file, content in files.items():
        write_whole(folder / file, content)
    write_whole(path, text)
    return True


def summarised(lab: Lab) -> list[str]:
    """The sweeps that have a summary."""
    return sorted(path.parent.name for path in (lab.stores / "sweeps").glob(f"*/{CARD}"))


def load_summary_link(lab: Lab, name: str) -> dict[str, Any]:
    """parent, attempt, logged, store of a summary's run; empty before it was logged."""
    path = summary_folder(lab, name) / LINK
    link = load_json(path, _LINK_AGAIN) if path.is_file() else {}
    return link if link.get("store", "") == store_name(lab) else {}


def begin_link(lab: Lab, name: str) -> dict[str, Any]:
    """The link of a summary into the store in use, made where there is none."""
    link = load_summary_link(lab, name)
    if not link:
        link = {"attempt": new_attempt(), "store": store_name(lab)}
        write_whole(summary_folder(lab, name) / LINK, json.dumps(link))
    return link


def is_due(lab: Lab, name: str) -> bool:
    """Whether MLflow was not told the newest summary of a sweep."""
    return load_summary_link(lab, name).get("logged") != _content(lab, name)


def write_summary(lab: Lab, client: Any, name: str) -> str:
    """The id of the run that now carries the summary; found by its tag if its id was lost."""
    folder = summary_folder(lab, name)
    with FileLock(folder / ".write"):
        card, content = load_json(folder / CARD, _AGAIN), _content(lab, name)
        link = begin_link(lab, name)
        run_id = _find(client, link) or _create(lab, client, name, card, link)
        write_whole(folder / LINK, json.dumps({**link, "parent": run_id}))
        for key, value in card["metrics"].items():
            client.log_metric(run_id, key, value)
        for key, value in card["tags"].items():
            client.set_tag(run_id, key, value)
        client.log_dict(run_id, _arms(lab, card["arms"]), "arms.json")
        for file in [*card["files"], *card.get("pages", ())]:  # older cards name pages apart
            client.log_text(run_id, (folder / file).read_text(encoding="utf-8"), file)
        client.set_terminated(run_id, "FINISHED")
        client.set_tag(run_id, "birdlab.logged", content)
        write_whole(folder / LINK, json.dumps({**link, "parent": run_id, "logged": content}))
    return run_id


def _content(lab: Lab, name: str) -> str:
    return digest((summary_folder(lab, name) / CARD).read_text(encoding="utf-8"))


def _arms(lab: Lab, arms: Mapping[str, str]) -> list[dict[str, str]]:
    return [
        {"arm": title, "spec_id": spec, "mlflow_run_id": current_link(lab, spec)["parent"]}
        for title, spec in arms.items()
    ]


def _find(client: Any, link: Mapping[str, Any]) -> str:
    experiments = [e.experiment_id for e in client.search_experiments()]
    found = client.search_runs(experiments, f"tags.`birdlab.attempt` = '{link['attempt']}'")
    return str(found[0].info.run_id) if found else ""


def _create(
    lab: Lab, client: Any, name: str, card: Mapping[str, Any], link: Mapping[str, Any]
) -> str:
    tags = {
        "birdlab.kind": "sweep",
        "birdlab.sweep": name,
        "birdlab.attempt": link["attempt"],
        "mlflow.source.name": "birdlab",
    }
    experiment = Experiments(lab, client)[card["project"]]
    return str(client.create_run(experiment, run_name=f"sweep {name}", tags=tags).info.run_id)
