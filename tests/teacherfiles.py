"""ONNX files that are teachers in tests: graphs small enough to compute by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from birdlab.infer.card import ModelCard

GRAPH_WEIGHTS = np.array([[1.0, -2.0, 3.0], [0.5, 0.25, -1.0]], np.float32)


def save_teacher(
    path: Path,
    n_samples: int,
    *,
    kind: str = "probs",
    batch: str | int = "B",
    n_classes: int = 3,
    card: ModelCard | None = None,
) -> Path:
    """A graph whose logits are linear in the mean and the mean square of each window.

    Outputs: `scores` [B, n_classes], as probabilities or logits, and `pooled` [B, 2]. With a `card`
    it is a promoted file, whose output is `probs`, and may give several windows per pass.
    """
    per_pass = 1 if card is None else card.windowing.windows_per_pass
    scores = "scores" if card is None else "probs"
    weights = np.resize(GRAPH_WEIGHTS, (2, n_classes))
    said = batch if per_pass == 1 else "BK"
    nodes = [
        helper.make_node("Reshape", ["given", "windows"], ["wave"]),
        helper.make_node("ReduceMean", ["wave", "axis"], ["mean"], keepdims=1),
        helper.make_node("Mul", ["wave", "wave"], ["square"]),
        helper.make_node("ReduceMean", ["square", "axis"], ["power"], keepdims=1),
        helper.make_node("Concat", ["mean", "power"], ["pooled"], axis=1),
        helper.make_node("MatMul", ["pooled", "weights"], ["logits"]),
        helper.make_node("Sigmoid" if kind == "probs" else "Identity", ["logits"], [scores]),
    ]
    graph = helper.make_graph(
        nodes,
        "teacher",
        [helper.make_tensor_value_info("given", TensorProto.FLOAT, [batch, per_pass * n_samples])],
        [
            helper.make_tensor_value_info(scores, TensorProto.FLOAT, [said, n_classes]),
            helper.make_tensor_value_info("pooled", TensorProto.FLOAT, [said, 2]),
        ],
        [
            numpy_helper.from_array(np.array([-1, n_samples], np.int64), "windows"),
            numpy_helper.from_array(np.array([1], np.int64), "axis"),
            numpy_helper.from_array(weights, "weights"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    if card is not None:
        helper.set_model_props(model, card.to_metadata())
    onnx.save(model, path)
    return path


def logits_of(waves: npt.NDArray[np.float32], n_classes: int = 3) -> npt.NDArray[np.float64]:
    """What the graph says, computed in NumPy."""
    given = waves.astype(np.float64)
    pooled = np.stack([given.mean(axis=1), (given**2).mean(axis=1)], axis=1)
    return np.asarray(pooled @ np.resize(GRAPH_WEIGHTS, (2, n_classes)).astype(np.float64))
