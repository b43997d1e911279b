"""The MLflow Model Registry: a promoted file under a name, a version and an alias."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import mlflow.onnx
import numpy as np
import onnx
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import Schema, TensorSpec

from birdlab.errors import PromotionError
from birdlab.infer.card import ModelCard

REQUIREMENTS = ["numpy", "onnx", "onnxruntime"]


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
    alias: str,
    run_id: str,
    tags: Mapping[str, str] | None = None,
) -> RegisteredModel:
    """The new version of the registered model `name`, reachable as `models:/name@alias`.

    The file is logged as a model of MLflow's ONNX flavour, with signature and input example,
    to the existing run `run_id`; `tags` carry the lineage. The alias moves last, so a failure
    leaves the earlier version in service. Raises PromotionError when the store refuses.
    """
    client = MlflowClient(tracking_uri, registry_uri=tracking_uri)
    try:
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder) / "model"
            _save_flavour(onnx_path, card, local)
            client.log_artifacts(run_id, str(local), "model")
        source = f"{client.get_run(run_id).info.artifact_uri}/model"
        if not client.search_registered_models(f"name = '{name}'"):
            client.create_registered_model(name)
        version = client.create_model_version(
            name, source, run_id=run_id, tags={k: str(v) for k, v in (tags or {}).items()}
        )
        client.set_registered_model_alias(name, alias, version.version)
    except MlflowException as error:
        raise PromotionError(
            "the model cannot be registered",
            where=f"{tracking_uri}, run {run_id}, model {name}",
            got=str(error).splitlines()[0],
            fix=f"the file itself is fine: birdlab predict --model {onnx_path}",
        ) from None
    return RegisteredModel(name, str(version.version), alias, run_id)


def _save_flavour(onnx_path: Path, card: ModelCard, folder: Path) -> None:
    """The ONNX file as a folder that MLflow can load and serve."""
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
            save_as_external_data=False,
        )
