"""One ONNX graph out of the parts of an ensemble: who is computed, and how they are blended.

    wave ──> front-end 0 ──> If wanted[0]: network 0 ──> member_0 ─┐
        └──> front-end 1 ──> If wanted[1]: network 1 ──> member_1 ─┴─ blend ──> probs

A member lies in a branch of its own together with its weights. ONNX Runtime optimises such a
branch as it does a graph, while weights in the outer graph would be no constants to it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnx.compose
from onnx import (
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    ValueInfoProto,
    helper,
    numpy_helper,
)

from birdlab.evaluate.blends import Blend
from birdlab.evaluate.metrics import HIGHEST_PROB
from birdlab.infer.card import ModelCard
from birdlab.promote.detector import graph_blend
from birdlab.promote.parts import OPSET, Part, Parts

PRODUCER = "birdlab"
WAVE, WANTED, PROBS = "wave", "wanted", "probs"
N_CLIPS = "batch"


def compose(parts: Parts, card: ModelCard) -> ModelProto:
    """The whole model, with `card` as its metadata.

    `wave` [B, samples] → `probs` [B, C] and, by the name that the card gives each member,
    [B, C] of its own. `wanted` bool [M] is an input that may be left out, and is all true then:
    of a member that is not wanted nothing is computed, its output is 0, and the shares of the
    others are taken from their sum. With none wanted only the front-ends run.
    """
    n_classes, batch = len(card.classes), N_CLIPS
    graph = _Graph()
    graph.constant(WANTED, np.ones(len(parts.members), bool))
    wanted = [graph.add("Gather", [WANTED, graph.number(i)]) for i in range(len(parts.members))]
    mels = [_add_frontend(graph, parts, i, wanted) for i in range(len(parts.frontends))]
    for i, (part, member) in enumerate(zip(parts.members, card.members, strict=True)):
        inner, given, gives = _prefixed(part, f"{member.output}/")
        nodes = [helper.make_node("Identity", [mels[parts.frontend_of[i]]], [given]), *inner.node]
        then = _branch("then", nodes, inner.initializer, gives, [batch, n_classes])
        _add_if(graph, wanted[i], then, _zeros([batch, n_classes]), member.output)
    _add_blend(graph, card)
    return _finish(graph, card, _domains(parts))


class _Graph:
    """Nodes and constants of a graph in the making."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, TensorProto] = {}

    def add(self, kind: str, inputs: Sequence[str], name: str = "", **attributes: object) -> str:
        """The name of the output of a new node."""
        name = name or f"blend/{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name, **attributes))
        return name

    def constant(self, name: str, array: np.ndarray) -> str:
        """The name of a constant."""
        self.constants[name] = numpy_helper.from_array(np.asarray(array), name)
        return name

    def number(self, value: int) -> str:
        """The name of an integer."""
        return self.constant(f"blend/{value}", np.array(value, np.int64))

    def real(self, value: float) -> str:
        """The name of a float32."""
        return self.constant(f"blend/{value!r}", np.array(value, np.float32))


def _add_frontend(graph: _Graph, parts: Parts, place: int, wanted: Sequence[str]) -> str:
    """The name of what a front-end makes; left out where others alone are wanted."""
    inner, given, gives = _prefixed(parts.frontends[place], f"mel_{place}/")
    nodes = [helper.make_node("Identity", [WAVE], [given]), *inner.node]
    listeners = [w for w, of in zip(wanted, parts.frontend_of, strict=True) if of == place]
    if len(listeners) == len(wanted):
        graph.nodes += nodes
        graph.constants |= {tensor.name: tensor for tensor in inner.initializer}
        return gives
    some = graph.add("ReduceMax", [graph.add("Cast", [WANTED], to=TensorProto.INT32)], keepdims=0)
    needed = graph.add("Not", [graph.add("Cast", [some], to=TensorProto.BOOL)])
    for listener in listeners:
        needed = graph.add("Or", [needed, listener])
    shape = list(parts.frontends[place].output_shape)
    then = _branch("then", nodes, inner.initializer, gives, [N_CLIPS, *shape])
    return _add_if(graph, needed, then, _zeros(["nothing", *shape], 0), f"mel_{place}")


def _add_if(graph: _Graph, condition: str, then: GraphProto, other: GraphProto, name: str) -> str:
    return graph.add("If", [condition], name, then_branch=then, else_branch=other)


def _branch(
    name: str,
    nodes: Sequence[NodeProto],
    constants: Sequence[TensorProto],
    gives: str,
    shape: Sequence[str | int],
) -> GraphProto:
    return helper.make_graph(nodes, name, [], [_floats(gives, shape)], constants)


def _zeros(shape: Sequence[str | int], n_clips: int | None = None) -> GraphProto:
    """A branch that gives zeros for as many clips as the wave has, or for `n_clips`."""
    inner = _Graph()
    rest = inner.constant("rest", np.array(shape[1:], np.int64))
    if n_clips is None:
        first = inner.add("Shape", [WAVE], "clips", start=0, end=1)
    else:
        first = inner.constant("clips", np.array([n_clips], np.int64))
    whole = inner.add("Concat", [first, rest], "shape", axis=0)
    zeros = inner.add("ConstantOfShape", [whole], "zeros")
    return _branch("else", inner.nodes, list(inner.constants.values()), zeros, shape)


def _prefixed(part: Part, prefix: str) -> tuple[GraphProto, str, str]:
    """The graph of a part with names of its own, and the names of its input and output."""
    graph = onnx.compose.add_prefix(part.model, prefix).graph
    return graph, graph.input[0].name, graph.output[0].name


def _add_blend(graph: _Graph, card: ModelCard) -> None:
    """`probs`: the members blended by their shares, those of unwanted ones taken out."""
    blend: Blend = graph_blend(card.blend)
    axis = graph.constant("blend/axes_0", np.array([0], np.int64))
    rows = [graph.add("Unsqueeze", [member.output, axis]) for member in card.members]
    probs = graph.add("Concat", rows, axis=0) if len(rows) > 1 else rows[0]  # [M, B, C]
    weights = card.class_weights().astype(np.float32)[:, None, :]
    column = graph.constant("blend/column", np.array([-1, 1, 1], np.int64))
    heard = graph.add("Reshape", [graph.add("Cast", [WANTED], to=TensorProto.FLOAT), column])
    each = graph.add("Mul", [graph.constant("blend/weights", weights), heard])
    total = graph.add("ReduceSum", [each, axis], keepdims=1)
    some = graph.add("Greater", [total, graph.real(0.0)])  # [1, 1, C]
    share = graph.add("Div", [each, graph.add("Where", [some, total, graph.real(1.0)])])
    mixed = _add_mix(graph, blend, probs, share, some, axis)
    graph.add("Clip", [mixed, graph.real(0.0), graph.real(float(HIGHEST_PROB))], PROBS)


def _add_mix(graph: _Graph, blend: Blend, probs: str, share: str, some: str, axis: str) -> str:
    """The blend [B, C] of probabilities [M, B, C] by shares [M, 1, C], as `blend_members`."""
    if blend.kind == "geometric":
        taken = graph.add("Greater", [share, graph.real(0.0)])
        powers = graph.add("Pow", [graph.add("Where", [taken, probs, graph.real(1.0)]), share])
        product = graph.add("ReduceProd", [powers, axis], keepdims=0)
        known = graph.add("Squeeze", [graph.add("Cast", [some], to=TensorProto.FLOAT), axis])
        return graph.add("Mul", [product, known])
    if blend.kind == "power":
        probs = graph.add("Pow", [probs, graph.real(blend.power)])
    mixed = graph.add("ReduceSum", [graph.add("Mul", [probs, share]), axis], keepdims=0)
    return (
        graph.add("Pow", [mixed, graph.real(1 / blend.power)]) if blend.kind == "power" else mixed
    )


def _floats(name: str, shape: Sequence[str | int]) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def _domains(parts: Parts) -> dict[str, int]:
    """The sets of operators that the parts use, the latest version of each."""
    found = {"": OPSET}
    for part in (*parts.frontends, *parts.members):
        for used in part.model.opset_import:
            found[used.domain] = max(used.version, found.get(used.domain, 0))
    return found


def _finish(graph: _Graph, card: ModelCard, domains: dict[str, int]) -> ModelProto:
    n_members, n_classes = len(card.members), len(card.classes)
    names = [PROBS, *(member.output for member in card.members)]
    made = helper.make_graph(
        graph.nodes,
        PRODUCER,
        [
            _floats(WAVE, [N_CLIPS, card.input_samples]),
            helper.make_tensor_value_info(WANTED, TensorProto.BOOL, [n_members]),
        ],
        [_floats(name, [N_CLIPS, n_classes]) for name in names],
        list(graph.constants.values()),
    )
    model = helper.make_model(
        made,
        producer_name=PRODUCER,
        opset_imports=[helper.make_opsetid(*domain) for domain in domains.items()],
        ir_version=10,
    )
    helper.set_model_props(model, card.to_metadata())
    return model
