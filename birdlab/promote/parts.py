"""The parts of an ensemble as ONNX models of their own: front-ends, and networks behind them."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import onnx
import torch
from torch import Tensor, nn

from birdlab.evaluate.metrics import HIGHEST_PROB
from birdlab.evaluate.windows import PEAK_EPS, Windowing
from birdlab.promote.detector import Member, check_windows, find_columns, load_member
from birdlab.promote.tracing import trace
from birdlab.sed.exportforms import build_export_form
from birdlab.sed.model import SEDModel
from birdlab.spec.base import Spec


@dataclass(frozen=True, eq=False)
class Part:
    """An ONNX model with one input and one output: a front-end or the network of a member.

    A front-end is `wave` [B, samples] → `mel`, whatever its members make of the longest input; a
    network is `mel` → `probs` [B · k, C], the k windows of an input one after the other, in the
    scored columns, 0 where the member lacks a class.
    """

    model: onnx.ModelProto

    @property
    def output_shape(self) -> tuple[int, ...]:
        """The shape of the output for one clip."""
        dims = self.model.graph.output[0].type.tensor_type.shape.dim
        return tuple(int(dim.dim_value) for dim in dims[1:])


@dataclass(frozen=True, eq=False)
class Parts:
    """The parts of an ensemble; member i hears front-end `frontend_of[i]`."""

    frontends: tuple[Part, ...]
    members: tuple[Part, ...]
    frontend_of: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class _Ear:
    """A front-end with what it depends on: settings, weights, and what it hears of the input."""

    spec: Spec
    frontend: nn.Module
    windowing: Windowing

    def equals(self, other: _Ear) -> bool:
        """Do both make equal images?"""
        if (self.spec, self.windowing) != (other.spec, other.windowing):
            return False
        one, two = self.frontend.state_dict(), other.frontend.state_dict()
        return all(torch.equal(tensor, two[name]) for name, tensor in one.items())


def export_parts(members: Sequence[Member], classes: Sequence[str]) -> Parts:
    """The parts of the ensemble of `members` with the columns `classes`.

    Members with equal front-ends, in settings, weights and context, share one. Raises
    PromotionError when members hear different windows, when weights do not fit, or when a member
    knows none of the classes.
    """
    heard = check_windows(members)
    picked = [find_columns(member, classes) for member in members]
    models = [load_member(member) for member in members]
    ears: list[_Ear] = []
    mels: list[Tensor] = []
    frontends, networks, frontend_of = [], [], []
    for member, model, columns in zip(members, models, picked, strict=True):
        ear = _Ear(member.spec.frontend, model.frontend, member.windowing)
        place = next((i for i, other in enumerate(ears) if ear.equals(other)), len(ears))
        if place == len(ears):
            ears.append(ear)
            listening = _Listening(ear, heard).eval()
            wave = torch.zeros(2, heard.input_samples)
            frontends.append(_export(listening, wave, "wave", "mel"))
            with torch.inference_mode():
                mels.append(listening(wave))
        network = _Network(model, member, columns).eval()
        networks.append(_export(network, mels[place].clone(), "mel", "probs"))
        frontend_of.append(place)
    return Parts(tuple(frontends), tuple(networks), tuple(frontend_of))


class _Listening(nn.Module):
    """A front-end in its form for export, behind the cut of its context out of the longest."""

    def __init__(self, ear: _Ear, heard: Windowing) -> None:
        super().__init__()
        self.frontend = _export_form(ear.frontend)
        self.first = heard.margin_samples - ear.windowing.margin_samples
        self.n_samples = ear.windowing.input_samples
        self.normalise = ear.windowing.normalise

    def forward(self, wave: Tensor) -> Tensor:
        if self.first:
            wave = wave[:, self.first : self.first + self.n_samples]
            if self.normalise == "crop":
                wave = wave / wave.abs().amax(dim=1, keepdim=True).clamp(min=PEAK_EPS)
        mel: Tensor = self.frontend(wave)
        return mel


class _Network(nn.Module):
    """From the image of a front-end to the deployed probabilities of a member."""

    columns: Tensor
    known: Tensor

    def __init__(self, model: SEDModel, member: Member, columns: Sequence[int | None]) -> None:
        super().__init__()
        model.frontend = nn.Identity()
        model.backbone = build_export_form(_export_form(model.backbone))
        self.model, self.shares = model, member.windowing.centres
        self.clip, self.time_max = member.clip, member.time_max
        self.picked = list(columns) != list(range(len(member.classes)))
        self.lacks = None in columns
        self.register_buffer("columns", torch.tensor([column or 0 for column in columns]))
        self.register_buffer("known", torch.tensor([float(c is not None) for c in columns]))

    def forward(self, mel: Tensor) -> Tensor:
        probs, time_max = self.model.classify_parts(mel, self.shares)
        probs = self.clip * probs + self.time_max * time_max
        probs = probs.clamp(0.0, float(HIGHEST_PROB))
        if self.picked:
            probs = probs.index_select(1, self.columns)
        return probs * self.known if self.lacks else probs


def _export_form(part: nn.Module) -> nn.Module:
    """A front-end or backbone that offers a form for export in that form, else as it is."""
    build = getattr(part, "export_form", None)
    return part if build is None else build()


def _export(module: nn.Module, example: Tensor, given: str, gives: str) -> Part:
    """The traced module, any batch size, without what tracing tells of the machine."""
    model = trace(module, example, given, gives)
    for node in model.graph.node:
        node.name = f"{_module_of(node)}/{node.name}"
    for holder in walk_graph(model.graph):
        del holder.metadata_props[:]
        holder.doc_string = ""
    return Part(model)


def _module_of(node: onnx.NodeProto) -> str:
    """The path of the module that a node was traced in, such as `model.backbone.stem.0`."""
    said = {prop.key: prop.value for prop in node.metadata_props}
    scopes = ast.literal_eval(said.get("pkg.torch.onnx.name_scopes", "[]"))
    return next((str(scope) for scope in scopes[-2::-1] if scope), "")


def walk_graph(
    graph: onnx.GraphProto,
) -> Iterator[onnx.GraphProto | onnx.NodeProto | onnx.TensorProto]:
    """A graph with its nodes, constants and values, and those of the graphs within it."""
    yield graph
    yield from (*graph.initializer, *graph.value_info, *graph.input, *graph.output)
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from walk_graph(attribute.g)
