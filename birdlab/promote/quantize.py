"""Networks of members in INT8: their backbones quantised from training clips, their heads not.

What is quantised are convolutions and matrix products with constant weights: weights per output
channel, activations as a whole, by the least and the greatest value that calibration saw. Left as
they are: the front-end, the pooling and the head (few operations, and what they say is the score),
the first layer of a backbone (it sees one channel; in INT8 it doubled the error of a
convnextv2_tiny), and depthwise and one-dimensional convolutions (INT8 gains no time there).
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

from birdlab.errors import PromotionError
from birdlab.promote.blocks import BACKBONE, Mixed, group_layers, leave_blocks

Floats = npt.NDArray[np.float32]

KINDS = ("Conv", "MatMul", "Gemm")
BATCH = 2
"""Windows that calibration gives a network at once, with every activation of theirs."""
TRIED = 16
"""Batches that a network in INT8 is compared on, at most about."""
MOST_MOVED = 0.01
"""How far INT8 may move the probability of a window that it moves most, on average over windows.
Blocks go back to fp32 until it is that little, see promote/blocks.py. Measured on weights trained
on real birds: convnextv2_tiny .003; eca_nfnet_l0 .07, because no layer norms it and a few large
values leave the others a handful of steps, most of all in its first layers."""


class MemberNetwork:
    """The network of a member inside a composed model: a branch that can be taken out and back.

    `output` is the member's; `heard` names the image that the network is given. Raises
    PromotionError when the model has no such branch.
    """

    def __init__(self, model: ModelProto, output: str) -> None:
        self.model, self.output = model, output
        node = next((node for node in model.graph.node if output in node.output), None)
        if node is None or node.op_type != "If":
            raise PromotionError("the file has no branch for a member", got=output)
        self._branch: GraphProto = next(a.g for a in node.attribute if a.name == "then_branch")
        self.heard = _outer_value(self._branch)

    def take_out(self, image_shape: tuple[int, ...]) -> ModelProto:
        """The network as a model of its own: `heard` [B, *image_shape] → probabilities."""
        branch = self._branch
        image = helper.make_tensor_value_info(
            self.heard, TensorProto.FLOAT, ["batch", *image_shape]
        )
        graph = helper.make_graph(
            branch.node, branch.name, [image], branch.output, branch.initializer
        )
        imports, version = self.model.opset_import, self.model.ir_version
        return helper.make_model(graph, opset_imports=imports, ir_version=version)

    def put_back(self, network: ModelProto) -> None:
        """Let `network`, with inputs and outputs as `take_out` gave them, be the branch."""
        output = list(self._branch.output)
        self._branch.CopyFrom(
            helper.make_graph(
                network.graph.node, self._branch.name, [], output, network.graph.initializer
            )
        )
        known = {imported.domain for imported in self.model.opset_import}
        more = [i for i in network.opset_import if i.domain not in known]
        self.model.opset_import.extend(more)


def _outer_value(branch: GraphProto) -> str:
    """The one value that a branch takes from the graph around it."""
    own = {tensor.name for tensor in branch.initializer} | {""}
    own |= {output for node in branch.node for output in node.output}
    outer = {str(name) for node in branch.node for name in node.input} - own
    if len(outer) != 1:
        raise PromotionError(
            "the branch of a member does not hear one image",
            got=", ".join(sorted(outer)) or "none",
            fix="promote the runs again",
        )
    return outer.pop()


def quantize_member(
    model: ModelProto,
    output: str,
    images: Sequence[Floats],
    *,
    most_moved: float = MOST_MOVED,
    kept: Collection[str] = (),
) -> Mixed:
    """The network in INT8 of the member that gives `output`, and which blocks it leaves in fp32.

    It moves by the largest change of a probability in a window, averaged over windows; the blocks
    named in `kept` stay in fp32, and so do others until it moves by `most_moved` at most. `model`,
    a composed one, stays as it is: `MemberNetwork.put_back` takes the network in. `images`: what
    its front-end makes of training clips, [b, channels, mels, frames] each; networks see them one
    batch after another. Raises PromotionError when there is none, or nothing to quantise.
    """
    if not images:
        raise PromotionError("there is no clip to calibrate on")
    part = MemberNetwork(model, output).take_out(images[0].shape[1:])
    chosen = choose_nodes(part.graph)
    if not chosen:
        raise PromotionError(
            "a member has no layer to quantise",
            got=f"{output}: no convolution or matrix product of its backbone",
            fix="deploy it as it is, or in OpenVINO",
        )
    tried = images[:: max(1, len(images) // TRIED)]
    expected = list(_run(part, tried))

    def measure(other: ModelProto) -> float:
        pairs = zip(expected, _run(other, tried), strict=True)
        return float(np.concatenate([np.abs(a - b).max(axis=1) for a, b in pairs]).mean())

    quantised = _quantise(part, chosen, images)
    blocks = group_layers(chosen)
    return leave_blocks(part, quantised, blocks, measure=measure, most=most_moved, kept=kept)


def _quantise(part: ModelProto, chosen: list[str], images: Sequence[Floats]) -> ModelProto:
    """The network with its nodes `chosen` in INT8, by ONNX Runtime's quantiser."""
    reader = _Images(part.graph.input[0].name, images)
    with tempfile.TemporaryDirectory(prefix="birdlab-int8-") as folder, _quiet():
        source, path = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        onnx.save(part, source)  # given a message, the quantiser moves its weights to files
        quantize_static(
            source,
            path,
            reader,
            quant_format=QuantFormat.QDQ,
            nodes_to_quantize=chosen,
            op_types_to_quantize=list(KINDS),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={"MatMulConstBOnly": True},
        )
        return onnx.load(path)


def _run(network: ModelProto, images: Sequence[Floats]) -> Iterator[Floats]:
    """What a network says of each batch of images."""
    session = _open(network)
    name = network.graph.input[0].name
    for batch in images:
        yield session.run(None, {name: batch})[0]


def _open(model: ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def choose_nodes(graph: GraphProto) -> list[str]:
    """The names of the nodes that are put into INT8, see the module."""
    weights = {tensor.name: tensor.dims for tensor in graph.initializer}
    layers = [node for node in graph.node if _is_layer(node, weights)]
    return [node.name for node in layers[1:] if not _is_thin(node, weights[node.input[1]])]


def hear_images(model: ModelProto, heard: str, windows: Floats) -> Iterator[Floats]:
    """What a front-end of a composed model makes of windows [n, samples], a few at a time.

    `heard` names its output; no member is computed.
    """
    session = _open(_frontend(model, heard))
    for start in range(0, len(windows), BATCH):
        yield session.run([heard], {"wave": windows[start : start + BATCH]})[0]


def _frontend(model: ModelProto, heard: str) -> ModelProto:
    """The part of a composed model that makes `heard` of the wave."""
    needed, nodes = {heard}, []
    for node in reversed(model.graph.node):
        if needed & set(node.output):
            nodes.append(node)
            needed |= set(node.input)
            inner = [a.g for a in node.attribute if a.HasField("g")]
            needed |= {name for graph in inner for n in graph.node for name in n.input}
    output = helper.make_tensor_value_info(heard, TensorProto.FLOAT, None)
    constants = [tensor for tensor in model.graph.initializer if tensor.name in needed]
    graph = helper.make_graph(nodes[::-1], "heard", model.graph.input[:1], [output], constants)
    imports, version = model.opset_import, model.ir_version
    return helper.make_model(graph, opset_imports=imports, ir_version=version)


def _is_layer(node: NodeProto, weights: dict[str, list[int]]) -> bool:
    """Is it a convolution or a matrix product of the backbone, by constant weights?"""
    named = BACKBONE in node.name and node.op_type in KINDS
    return named and len(node.input) > 1 and node.input[1] in weights


def _is_thin(node: NodeProto, dims: list[int]) -> bool:
    """Is it a convolution channel by channel, or along one axis?"""
    if node.op_type != "Conv":
        return False
    group = next((a.i for a in node.attribute if a.name == "group"), 1)
    return len(dims) < 4 or (group > 1 and dims[1] == 1)


class _Images(CalibrationDataReader):  # type: ignore[misc]
    """Images one batch after another, under the name of the network's input."""

    def __init__(self, name: str, images: Sequence[Floats]) -> None:
        self._batches = iter({name: batch} for batch in images)

    def get_next(self) -> dict[str, Floats] | None:
        """The next batch; None after the last."""
        return next(self._batches, None)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back the advice that the quantiser gives to the root logger."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(level)
