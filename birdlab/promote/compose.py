"""One ONNX graph out of the parts of an ensemble: who is computed, and how they are blended.

    wave ──> front-end 0 ──> If wanted[0]: network 0 ──> member_0 ─┐
        └──> front-end 1 ──> If wanted[1]: network 1 ──> member_1 ─┴─ blend ──> probs

A member lies in a branch of its own together with its weights. ONNX Runtime optimises such a
branch as it does a graph, while weights in the outer graph would be no constants to it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import (
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    ValueInfoProto,
    helper,
    numpy_helper,
)
from onnx.compose import add_prefix_graph

from birdlab.evaluate.blends import Blend
from birdlab.evaluate.metrics import HIGHEST_PROB
from birdlab.infer.card import ModelCard
from birdlab.promote.detector import graph_blend
from birdlab.promote.parts import Part, Parts, walk_graph
from birdlab.promote.tracing import OPSET

PRODUCER = "birdlab"
WAVE, WANTED, PROBS = "wave", "wanted", "probs"
N_CLIPS, N_WINDOWS = "batch", "windows"
Shape = Sequence[str | int]


def compose(parts: Parts, card: ModelCard) -> ModelProto:
    """The whole model, with `card` as its metadata.

    `wave` [B, samples] → `probs` [B · k, C] and, by the name that the card gives each member,
    [B · k, C] of its own; the k windows of an input follow each other. `wanted` bool [M] is an
    input that may be left out, and is all true then: of a member that is not wanted nothing is
    computed, its output is 0, and the shares of the others are taken from their sum. With none
    wanted only the front-ends run.
    """
    model = _start_model(parts, card)
    graph = _Writer(model.graph)
    graph.constant(WANTED, np.ones(len(parts.members), bool))
    wanted = [graph.add("Gather", [WANTED, graph.number(i)]) for i in range(len(parts.members))]
    mels = [_add_frontend(graph, parts, i, wanted) for i in range(len(parts.frontends))]
    shape: Shape = [_rows_of(card), len(card.classes)]
    for i, (part, member) in enumerate(zip(parts.members, card.members, strict=True)):
        mel = mels[parts.frontend_of[i]]
        _add_choice(graph, part, mel, wanted[i], member.output, shape, card.windows_per_pass)
    _add_blend(graph, card)
    return model


def count_frontends(model: ModelProto) -> int:
    """How many front-ends a composed model has."""
    names = {node.name.partition("/")[0] for node in model.graph.node}
    return sum(name.startswith("mel_") for name in names)


class _Writer:
    """Adds nodes and constants to a graph."""

    def __init__(self, graph: GraphProto) -> None:
        self.graph = graph
        self.known: set[str] = set()

    def add(self, kind: str, inputs: Sequence[str], name: str = "", **attributes: object) -> str:
        """The name of the output of a new node."""
        name = name or f"blend/{kind}_{len(self.graph.node)}"
        self.graph.node.append(helper.make_node(kind, list(inputs), [name], name, **attributes))
        return name

    def constant(self, name: str, array: np.ndarray) -> str:
        """The name of a constant, which is added once."""
        if name not in self.known:
            self.known.add(name)
            self.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def number(self, value: int) -> str:
        """The name of an integer."""
        return self.constant(f"blend/{value}", np.array(value, np.int64))

    def real(self, value: float) -> str:
        """The name of a float32."""
        return self.constant(f"blend/{value!r}", np.array(value, np.float32))


def _add_frontend(graph: _Writer, parts: Parts, place: int, wanted: Sequence[str]) -> str:
    """The name of what a front-end makes; left out where only others are wanted."""
    part, name = parts.frontends[place], f"mel_{place}"
    listeners = [w for w, of in zip(wanted, parts.frontend_of, strict=True) if of == place]
    if len(listeners) == len(wanted):
        inner = GraphProto()
        gives = _put_part(inner, part, name, WAVE)
        graph.graph.node.extend(inner.node)
        graph.graph.initializer.extend(inner.initializer)
        return gives
    some = graph.add("ReduceMax", [graph.add("Cast", [WANTED], to=TensorProto.INT32)], keepdims=0)
    needed = graph.add("Not", [graph.add("Cast", [some], to=TensorProto.BOOL)])
    for listener in listeners:
        needed = graph.add("Or", [needed, listener])
    _add_choice(graph, part, WAVE, needed, name, [N_CLIPS, *part.output_shape], 0)
    return name


def _add_choice(
    graph: _Writer,
    part: Part,
    given: str,
    condition: str,
    name: str,
    shape: Shape,
    n_otherwise: int,
) -> None:
    """`name` is what a part makes of `given` where the condition holds, and zeros where not.

    There are `n_otherwise` rows of zeros for each clip of the wave. Weights are copied into their
    place and nowhere else.
    """
    node = graph.graph.node.add(op_type="If", name=name, input=[condition], output=[name])
    then, other = (
        node.attribute.add(name=f"{way}_branch", type=AttributeProto.GRAPH).g
        for way in ("then", "else")
    )
    gives = _put_part(then, part, name, given)
    then.name, other.name = "then", "else"
    then.output.append(_floats(gives, shape))
    zeros = _Writer(other)
    rest = zeros.constant("rest", np.array(shape[1:], np.int64))
    if n_otherwise:
        first = zeros.add("Shape", [WAVE], "clips", start=0, end=1)
    else:
        first = zeros.constant("clips", np.array([0], np.int64))
    if n_otherwise > 1:
        each = zeros.constant("each", np.array([n_otherwise], np.int64))
        first = zeros.add("Mul", [first, each], "windows")
    whole = zeros.add("Concat", [first, rest], "shape", axis=0)
    last = zeros.add("ConstantOfShape", [whole], "zeros")
    other.output.append(_floats(last, shape if n_otherwise else ["nothing", *shape[1:]]))


def _put_part(graph: GraphProto, part: Part, name: str, given: str) -> str:
    """The name of the output of a part, copied into `graph` to read `given`; names get a prefix."""
    graph.CopyFrom(part.model.graph)
    add_prefix_graph(graph, f"{name}/", inplace=True)
    own, gives = str(graph.input[0].name), str(graph.output[0].name)
    for node in walk_graph(graph):
        if isinstance(node, NodeProto):
            node.input[:] = [given if text == own else text for text in node.input]
    for field in ("input", "output", "value_info"):
        graph.ClearField(field)
    return gives


def _add_blend(graph: _Writer, card: ModelCard) -> None:
    """`probs`: the members blended by their shares, those of unwanted ones taken out."""
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
    mixed = _add_mix(graph, graph_blend(card.blend), probs, share, some)
    graph.add("Clip", [mixed, graph.real(0.0), graph.real(float(HIGHEST_PROB))], PROBS)


def _add_mix(graph: _Writer, blend: Blend, probs: str, share: str, some: str) -> str:
    """The blend [B, C] of probabilities [M, B, C] by shares [M, 1, C], as `blend_members`."""
    axis = graph.constant("blend/axes_0", np.array([0], np.int64))
    if blend.kind == "geometric":
        taken = graph.add("Greater", [share, graph.real(0.0)])
        base = graph.add("Where", [taken, probs, graph.real(1.0)])  # no engine is asked for 0^0
        product = graph.add("ReduceProd", [graph.add("Pow", [base, share]), axis], keepdims=0)
        known = graph.add("Squeeze", [graph.add("Cast", [some], to=TensorProto.FLOAT), axis])
        return graph.add("Mul", [product, known])
    if blend.kind == "power":
        probs = graph.add("Pow", [probs, graph.real(blend.power)])
    mixed = graph.add("ReduceSum", [graph.add("Mul", [probs, share]), axis], keepdims=0)
    return (
        graph.add("Pow", [mixed, graph.real(1 / blend.power)]) if blend.kind == "power" else mixed
    )


def _start_model(parts: Parts, card: ModelCard) -> ModelProto:
    """A model with inputs, outputs and metadata, and no node yet."""
    names = [PROBS, *(member.output for member in card.members)]
    graph = helper.make_graph(
        [],
        PRODUCER,
        [
            _floats(WAVE, [N_CLIPS, card.input_samples]),
            helper.make_tensor_value_info(WANTED, TensorProto.BOOL, [len(card.members)]),
        ],
        [_floats(name, [_rows_of(card), len(card.classes)]) for name in names],
    )
    model = helper.make_model(
        graph,
        producer_name=PRODUCER,
        opset_imports=[helper.make_opsetid(*domain) for domain in _domains(parts).items()],
        ir_version=10,
    )
    helper.set_model_props(model, card.to_metadata())
    return model


def _domains(parts: Parts) -> dict[str, int]:
    """The sets of operators that the parts use, the latest version of each."""
    found = {"": OPSET}
    for part in (*parts.frontends, *parts.members):
        for used in part.model.opset_import:
            found[used.domain] = max(used.version, found.get(used.domain, 0))
    return found


def _rows_of(card: ModelCard) -> str:
    """What the number of rows is called: clips, or where these hold several windows, windows."""
    return N_CLIPS if card.windows_per_pass == 1 else N_WINDOWS


def _floats(name: str, shape: Shape) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))
