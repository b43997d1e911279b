"""Small real models in the form that promotion writes, made without torch: a second, not ten."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from birdlab.evaluate.blends import Blend
from birdlab.infer.card import MemberCard, ModelCard

RATE, WINDOW_S, CLASSES = 8_000, 1.0, ("zebfin", "1234", "ädler", "wren")
N_FRAMES = 8
SLOW = 32_768


def build_card(
    n_members: int,
    *,
    blend: Blend | None = None,
    weights: Sequence[float] | None = None,
    ms: Sequence[float | None] | None = None,
    known: Sequence[tuple[str, ...] | None] | None = None,
    rate: int = RATE,
    window_s: float = WINDOW_S,
    details: dict[str, str] | None = None,
    per_pass: int = 1,
) -> ModelCard:
    """The card of a model of `n_members`; an input of several windows has nothing around them."""
    members = tuple(
        MemberCard(
            f"tiny{i}",
            "tiny",
            f"member_{i}",
            1.0 if weights is None else weights[i],
            classes=None if known is None else known[i],
            ms_per_window=None if ms is None else ms[i],
        )
        for i in range(n_members)
    )
    context_s = per_pass * window_s if per_pass > 1 else None
    return ModelCard(
        CLASSES,
        rate,
        window_s,
        details or {},
        context_s,
        members=members,
        blend=blend or Blend(),
        windows_per_pass=per_pass,
    )


def save_tiny_model(path: Path, card: ModelCard, layers: Sequence[int] | None = None) -> Path:
    """The model of `card` with random weights; `layers`: how many slow layers each member has.

    Two clips take about half a millisecond through such a layer.
    """
    from birdlab.promote.compose import compose
    from birdlab.promote.parts import Part, Parts

    n = len(card.members)
    depths = [0] * n if layers is None else layers
    members = tuple(Part(_network(i, depth, card)) for i, depth in enumerate(depths))
    frontend = Part(_frontend(card.input_samples, N_FRAMES * card.windows_per_pass))
    onnx.save(compose(Parts((frontend,), members, (0,) * n), card), path)
    return path


def _frontend(n_samples: int, n_frames: int) -> onnx.ModelProto:
    """wave [B, S] → the log energy of frames [B, F]."""
    nodes = [
        helper.make_node("Reshape", ["wave", "frames"], ["framed"]),
        helper.make_node("Mul", ["framed", "framed"], ["square"]),
        helper.make_node("ReduceMean", ["square", "axis"], ["energy"], keepdims=0),
        helper.make_node("Add", ["energy", "floor"], ["above"]),
        helper.make_node("Log", ["above"], ["mel"]),
    ]
    constants = {
        "frames": np.array([0, n_frames, n_samples // n_frames], np.int64),
        "axis": np.array([2], np.int64),
        "floor": np.array(1e-4, np.float32),
    }
    return _model(nodes, constants, ("wave", [n_samples]), ("mel", [n_frames]))


def _network(seed: int, depth: int, card: ModelCard) -> onnx.ModelProto:
    """mel [B, 8 k] → probs [B k, C] through `depth` slow layers, 0 where the member lacks a class.

    What is said of a window hears the eight frames of that window alone.
    """
    rng = np.random.default_rng(seed)
    member = card.members[seed]
    known = np.array([member.classes is None or code in member.classes for code in card.classes])
    constants = {
        "each": np.array([-1, N_FRAMES], np.int64),
        "ramp": np.linspace(0, 0.01, SLOW, dtype=np.float32),
        "last_axis": np.array([2], np.int64),
        "weight": rng.normal(0, 0.3, (N_FRAMES, len(known))).astype(np.float32),
        "known": known.astype(np.float32),
    }
    nodes = [
        helper.make_node("Reshape", ["mel", "each"], ["own"]),
        helper.make_node("Unsqueeze", ["own", "last_axis"], ["column"]),
        helper.make_node("Add", ["column", "ramp"], ["x0"]),
    ]
    nodes += [helper.make_node("Tanh", [f"x{i}"], [f"x{i + 1}"]) for i in range(depth)]
    nodes += [
        helper.make_node("ReduceMean", [f"x{depth}", "last_axis"], ["mean"], keepdims=0),
        helper.make_node("Add", ["own", "mean"], ["x"]),
        helper.make_node("MatMul", ["x", "weight"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["all"]),
        helper.make_node("Mul", ["all", "known"], ["probs"]),
    ]
    given = N_FRAMES * card.windows_per_pass
    return _model(nodes, constants, ("mel", [given]), ("probs", [len(known)]))


def _model(
    nodes: Sequence[onnx.NodeProto],
    constants: dict[str, np.ndarray],
    given: tuple[str, list[int]],
    gives: tuple[str, list[int]],
) -> onnx.ModelProto:
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape])
        for name, shape in (given, gives)
    ]
    weights = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "part", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
