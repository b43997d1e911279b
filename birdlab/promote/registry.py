"""The MLflow Model Registry: a promoted file under a name, a version and an alias."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import mlflow.onnx
import numpy as np
import onnx
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import Schema, TensorSpec

from birdlab.errors import PromotionError, TrackingError
from birdlab.infer.card import ModelCard
from birdlab.infer.models import hash_model, weights_beside
from birdlab.lab import Lab, hide_password
from birdlab.tracking.client import (
    connect,
    first_line,
    limit_requests,
    may_pass,
    unreachable,
)

REQUIREMENTS = ["numpy", "onnx", "onnxruntime"]
SHA256 = "birdlab.sha256"
_NOT_THERE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""What a store says of an alias, or of a registered model, that it does not have."""

T = TypeVar("T")


@dataclass(frozen=True)
class RegisteredModel:
    """A version in the registry; `uri` is what MLflow loads it by."""

    name: str
    version: str
    alias: str
    run_id: str

    @property
    def uri(self) -> str:
        """`models:/name@alias`."""
        return f"models:/{self.name}@{self.alias}"


def register_model(
    onnx_path: Path,
    card: ModelCard,
    *,
    tracking_uri: str,
    name: str,
    run_id: str,
    alias: str = "candidate",
    tags: Mapping[str, str] | None = None,
) -> RegisteredModel:
    """The version of the registered model `name` that holds this file, as `models:/name@alias`.

    The file is logged once as a model of MLflow's ONNX flavour, with signature and input example,
    to the existing run `run_id`: one of the same content and run has its version already, which
    gets the `tags` anew. They carry the lineage. The alias is set last. Raises PromotionError when
    the store refuses.
    """
    limit_requests()
    client = MlflowClient(tracking_uri, registry_uri=tracking_uri)
    sha256 = hash_model(onnx_path)
    lineage = {key: str(value) for key, value in (tags or {}).items()} | {SHA256: sha256}
    try:
        version = _version_of(client, name, sha256)
        if version is None:
            source = _log_flavour(client, onnx_path, card, run_id, _place(sha256))
            created = client.create_model_version(
                name, source, run_id=run_id, tags=lineage, description=describe(card)
            )
            version = str(created.version)
        else:
            for key, value in lineage.items():
                client.set_model_version_tag(name, version, key, value)
        client.set_registered_model_alias(name, alias, version)
    except unreachable() as error:
        raise PromotionError(
            "the model cannot be registered",
            where=f"{hide_password(tracking_uri)}, run {run_id}, model {name}",
            got=first_line(error),
            fix=f"the file itself is fine: birdlab predict --model {onnx_path}",
        ) from None
    return RegisteredModel(name, version, alias, run_id)


def alias_version(lab: Lab, name: str, alias: str) -> str | None:
    """The version of a registered model that has the alias in MLflow; None where none has.

    Raises TrackingError where MLflow cannot be reached.
    """
    try:
        found = _asked(lab, lambda client: client.get_model_version_by_alias(name, alias))
    except MlflowException as error:
        if error.error_code in _NOT_THERE:
            return None
        raise _refused(lab, error) from None
    return str(found.version)


def point_alias(lab: Lab, name: str, alias: str, version: str | None) -> None:
    """Put the alias of a registered model at a version; None: take it away.

    Raises TrackingError where MLflow cannot be reached, PromotionError where it lacks the version.
    """
    try:
        if version is None:
            _asked(lab, lambda client: client.delete_registered_model_alias(name, alias))
        else:
            _asked(lab, lambda client: client.set_registered_model_alias(name, alias, version))
    except MlflowException as error:
        raise _refused(lab, error) from None


def _asked(lab: Lab, ask: Callable[[Any], T]) -> T:
    client = connect(lab)
    try:
        return ask(client)
    except MlflowException:
        raise
    except unreachable() as error:
        raise _refused(lab, error) from None


def _refused(lab: Lab, error: Exception) -> TrackingError | PromotionError:
    """TrackingError where MLflow may answer later, PromotionError for what it will say again."""
    kind = TrackingError if may_pass(error) else PromotionError
    return kind(
        "the model registry cannot be used" if may_pass(error) else "MLflow refuses the alias",
        where=hide_password(lab.tracking_uri),
        got=first_line(error),
        fix="check tracking_uri in birdlab.toml, and that MLflow still has the version",
    )


def describe(card: ModelCard) -> str:
    """A model in a sentence, as MLflow's page of a version shows it."""
    backbones = ", ".join(dict.fromkeys(m.backbone for m in card.members if m.backbone))
    of = f" ({backbones})" if backbones else ""
    n = len(card.members)
    return (
        f"{n} member{'s' * (n != 1)}{of}, blend: {card.blend}. "
        f"{len(card.classes)} classes, windows of {card.windowing}."
    )


def _version_of(client: MlflowClient, name: str, sha256: str) -> str | None:
    """The newest version of the registered model that holds this content; None for none.

    The registered model is made where there is none.
    """
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
        return None
    query = f"name = '{name}' and tags.`{SHA256}` = '{sha256}'"
    held = [
        int(found.version)
        for found in client.search_model_versions(query)
        if client.list_artifacts(found.run_id, _place(sha256))
    ]
    return str(max(held)) if held else None


def _place(sha256: str) -> str:
    """Where a run keeps the file: apart by content, since a run may be part of several."""
    return f"models/{sha256[:12]}"


def _log_flavour(
    client: MlflowClient, onnx_path: Path, card: ModelCard, run_id: str, place: str
) -> str:
    """Where the run holds the file as a model of MLflow, after it was logged there."""
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder) / "model"
        _save_flavour(onnx_path, card, local)
        client.log_artifacts(run_id, str(local), place)
    return f"{client.get_run(run_id).info.artifact_uri}/{place}"


def _save_flavour(onnx_path: Path, card: ModelCard, folder: Path) -> None:
    """The ONNX file as a folder that MLflow can load and serve.

    The signature names the waveform and the blend alone; the graph's other input and outputs are
    optional.
    """
    wave = np.zeros((1, card.input_samples), dtype=np.float32)
    signature = ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(np.float32), (-1, card.input_samples), "wave")]),
        outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, len(card.classes)), "probs")]),
    )
    with warnings.catch_warnings():
        # MLflow says this of types of its own while it is imported
        warnings.filterwarnings("ignore", message=".*Any type hint is inferred as AnyType")
        mlflow.onnx.save_model(
            onnx.load(onnx_path),
            folder,
            signature=signature,
            input_example={"wave": wave},
            pip_requirements=REQUIREMENTS,
            onnx_execution_providers=["CPUExecutionProvider"],
            save_as_external_data=weights_beside(onnx_path).is_file(),
        )
