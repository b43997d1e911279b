"""Blocks of a network in INT8: which of them go back to fp32, so that the whole stays the same.

A layer whose values have a few large ones among many small ones loses the small ones in INT8, and
one such layer can spoil a network. Blocks are tried alone; the one that moves the probabilities
most goes back to fp32 first, until the network as a whole moves them little enough.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import groupby

import onnx
from onnx import ModelProto, TensorProto

from birdlab.errors import PromotionError

BACKBONE = "model.backbone"
"""In the name of a node, where it was traced."""
WHOLE = "all"
"""Stands for every block of a network."""


@dataclass(frozen=True)
class Block:
    """Layers that follow each other in one part of a backbone; `nodes` are their names."""

    name: str
    nodes: tuple[str, ...]


@dataclass(frozen=True)
class Mixed:
    """A network in INT8 with blocks in fp32; `moved`: how far from fp32 it says.

    left: the names of these blocks, or WHOLE where the network is all fp32 and `moved` is what
    INT8 would do.
    """

    network: ModelProto
    moved: float
    left: tuple[str, ...]


def group_layers(names: Sequence[str]) -> list[Block]:
    """The blocks of layers named by the modules that they were traced in, in the given order.

    `model.backbone.stages_1.0.conv2` belongs to the block `stages_1.0`: the name up to its last
    number. Layers without a number are one block as long as they follow each other.
    """
    blocks = []
    for key, group in groupby(names, _numbered_module):
        nodes = tuple(group)
        blocks.append(Block(key or _module(nodes[0]), nodes))
    return blocks


def leave_blocks(
    plain: ModelProto,
    quantised: ModelProto,
    blocks: Sequence[Block],
    *,
    measure: Callable[[ModelProto], float],
    most: float,
    kept: Collection[str] = (),
) -> Mixed:
    """`quantised` with as many of the worst `blocks` in fp32 as it takes to move by `most`.

    `measure` gives how far a network moves from `plain`. The blocks named in `kept` are in fp32
    anyway. Each of the others is measured alone in INT8, and the one that moves most goes first.
    Where even the last one alone moves too far, the network stays in fp32 as a whole. Raises
    PromotionError when `kept` names no block.
    """
    names = [block.name for block in blocks]
    if not set(kept) <= set(names):
        raise PromotionError(
            "a network has no such blocks", got=", ".join(kept), expected=", ".join(names)
        )

    def leave(left: Collection[str]) -> ModelProto:
        return take_back(quantised, plain, [n for b in blocks if b.name in left for n in b.nodes])

    left = set(kept)
    mixed = leave(left)
    moved = first = measure(mixed)
    if moved > most:
        free = [name for name in names if name not in left]
        alone = {name: measure(leave({*names} - {name})) for name in free}
        worst = sorted(free, key=lambda name: alone[name], reverse=True)
        while moved > most and len(worst) > 1:
            left.add(worst.pop(0))
            mixed = leave(left)
            moved = measure(mixed)
    if moved > most:
        return Mixed(plain, first, (WHOLE,))
    return Mixed(mixed, moved, tuple(name for name in names if name in left))


def take_back(quantised: ModelProto, plain: ModelProto, names: Collection[str]) -> ModelProto:
    """`quantised` with the layers `names` as they are in `plain`.

    What is no layer in INT8 reads values before their rounding, wherever they exist; pairs of
    rounding and unrounding that nothing reads any more are gone.
    """
    model = ModelProto()
    model.CopyFrom(quantised)
    graph = model.graph
    before = {node.name: node for node in plain.graph.node}
    weights = {tensor.name: tensor for tensor in plain.graph.initializer}
    for node in graph.node:
        if node.name in names:
            inputs = list(before[node.name].input)
            del node.input[:]
            node.input.extend(inputs[:1] + [f"{name}/fp32" for name in inputs[1:]])
            graph.initializer.extend(_renamed(weights[name]) for name in inputs[1:])
    _read_unrounded(graph)
    _drop_unread(graph)
    return model


def _renamed(tensor: TensorProto) -> TensorProto:
    """A weight under a name of its own: the quantiser gave its name to something else."""
    own = TensorProto()
    own.CopyFrom(tensor)
    own.name = f"{tensor.name}/fp32"
    return own


def _read_unrounded(graph: onnx.GraphProto) -> None:
    """Let nodes that run in fp32 read values before their rounding, in place."""
    makers = {output: node for node in graph.node for output in node.output}
    raw: dict[str, str] = {}
    in_int8: set[str] = set()
    for node in graph.node:
        if node.op_type == "DequantizeLinear":
            rounding = makers.get(node.input[0])
            if rounding is not None:
                raw[node.output[0]] = rounding.input[0]
        elif len(node.input) > 1:
            weight = makers.get(node.input[1])
            if weight is not None and weight.op_type == "DequantizeLinear":
                in_int8.update(node.output if weight.output[0] not in raw else ())
    for node in graph.node:
        if in_int8.isdisjoint(node.output):
            for i, name in enumerate(node.input):
                if name in raw and raw[name] not in in_int8:
                    node.input[i] = raw[name]


def _drop_unread(graph: onnx.GraphProto) -> None:
    """Remove what no output of the graph needs, in place."""
    needed, kept = {output.name for output in graph.output}, []
    for node in reversed(graph.node):
        if needed & set(node.output):
            kept.append(node)
            needed |= set(node.input)
    tensors = {t.name: t for t in graph.initializer if t.name in needed}
    del graph.node[:], graph.initializer[:]
    graph.node.extend(kept[::-1])
    graph.initializer.extend(tensors.values())


def _module(name: str) -> str:
    """The module inside the backbone that a layer was traced in: `stages_1.0.conv2`."""
    traced = next(part for part in name.split("/") if BACKBONE in part)
    return traced.partition(f"{BACKBONE}.")[2] or traced


def _numbered_module(name: str) -> str:
    """The module of a layer up to its last number; nothing where there is none."""
    steps = _module(name).split(".")
    last = max((i for i, step in enumerate(steps) if step.isdigit()), default=-1)
    return ".".join(steps[: last + 1])
