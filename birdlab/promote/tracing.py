"""Networks traced into ONNX graphs, each architecture once: fold models differ in weights alone."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Mapping
from dataclasses import is_dataclass
from types import BuiltinFunctionType, FunctionType
from typing import Any

import onnx
import onnx.inliner
import torch
from timm.models import FeatureInfo
from torch import Tensor, nn

from birdlab.errors import PromotionError
from birdlab.spec.base import Spec

OPSET = 18
_KEPT = 16
"""So many graphs are kept, without weights: some hundred kilobytes each."""
_VALUES = (
    *(bool, int, float, str, bytes, type, Spec, FunctionType, BuiltinFunctionType),
    *(torch.dtype, torch.device),
)
_traced: OrderedDict[Hashable, torch.onnx.ONNXProgram] = OrderedDict()


def trace(module: nn.Module, example: Tensor, given: str, gives: str) -> onnx.ModelProto:
    """The module as an ONNX graph, any batch size: `given` → `gives`, with the module's weights.

    A module that differs from an earlier one in its parameters and buffers alone takes the graph
    of that one, which saves most of the time; the graph is the same to the byte. Raises
    PromotionError where torch gives no graph.
    """
    key = (given, gives, example.shape, example.dtype, _describe(module))
    if key not in _traced:
        program = _export(module, example, given, gives)
        _traced[key] = _without_weights(program, _tensors(module))
        while len(_traced) > _KEPT:
            _traced.popitem(last=False)
    _traced.move_to_end(key)
    program = torch.onnx.ONNXProgram(_traced[key].model.clone(), None)
    held = program.model.graph.initializers
    program.apply_weights({n: t.detach() for n, t in _tensors(module).items() if n in held})
    program.optimize()
    model = program.model_proto
    return onnx.inliner.inline_local_functions(model) if model.functions else model


def _export(module: nn.Module, example: Tensor, given: str, gives: str) -> torch.onnx.ONNXProgram:
    """The traced module, not yet simplified, since constants that are folded depend on weights."""
    program = torch.onnx.export(
        module,
        (example,),
        input_names=[given],
        output_names=[gives],
        opset_version=OPSET,
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        optimize=False,
        verbose=False,
    )
    if program is None:
        raise PromotionError("torch gave no ONNX program", got=type(module).__name__)
    return program


def _without_weights(
    program: torch.onnx.ONNXProgram, weights: Mapping[str, Tensor]
) -> torch.onnx.ONNXProgram:
    """The program with its weights by name and shape alone; other constants stay."""
    kept = torch.onnx.ONNXProgram(program.model, None)
    for name, value in kept.model.graph.initializers.items():
        if name in weights:
            value.const_value = None
    return kept


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name; what has two names is there twice."""
    parameters = module.named_parameters(remove_duplicate=False)
    return {**dict(parameters), **dict(module.named_buffers(remove_duplicate=False))}


def _describe(module: nn.Module) -> Hashable:
    """All that a trace depends on but the values of parameters and buffers."""
    shapes = tuple((name, t.shape, t.dtype) for name, t in sorted(_tensors(module).items()))
    parts = tuple(
        (name, type(part), tuple((key, _plain(value)) for key, value in _attributes(part)))
        for name, part in module.named_modules()
    )
    return shapes, parts


def _attributes(part: nn.Module) -> list[tuple[str, Any]]:
    """What a module holds besides parameters, buffers and modules, by name."""
    apart = ("_parameters", "_buffers", "_modules")
    return sorted((name, value) for name, value in vars(part).items() if name not in apart)


def _plain(value: Any) -> Hashable:
    """The value as part of a key; an object equal to no other for what cannot be compared."""
    if isinstance(value, Tensor):
        return (value.shape, value.dtype, value.detach().cpu().numpy().tobytes())
    if isinstance(value, Mapping):
        return tuple((name, _plain(one)) for name, one in value.items())
    if isinstance(value, list | tuple):
        return tuple(_plain(one) for one in value)
    if isinstance(value, FeatureInfo) or (is_dataclass(value) and not isinstance(value, type)):
        return (type(value), _plain(vars(value)))
    if isinstance(value, set):
        return frozenset(_plain(one) for one in value)
    if isinstance(value, FunctionType) and value.__closure__:
        return object()
    if value is None or isinstance(value, _VALUES):
        return (type(value), value)
    return object()
