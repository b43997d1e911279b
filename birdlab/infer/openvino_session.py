"""A promoted ONNX file in OpenVINO, in the precision that was asked for and no other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from birdlab.errors import PredictError
from birdlab.infer.card import ModelCard, read_card
from birdlab.infer.external import check_external
from birdlab.infer.session import (
    as_input,
    check_file,
    check_graph,
    check_wanted,
    count_threads,
)

Floats = npt.NDArray[np.float32]

_HINTS = {"fp32": "f32", "int8": "f32", "bf16": "bf16"}
"""What OpenVINO is told of layers that are not quantised. Left alone it takes bf16 where the CPU
has it, without a word."""
_NAMES = {"f32": "fp32", "bf16": "bf16"}


class OpenVinoPredictor:
    """A promoted model in OpenVINO on CPU: a SoundPredictor.

    `threads` as for OnnxPredictor; `precision` is `fp32`, `int8` (for a file that is quantised)
    or `bf16`. It is forced and read back. Raises PredictError when OpenVINO is not installed,
    when the file is no promoted model, and when the CPU does not compute in that precision.
    """

    def __init__(self, path: Path, *, threads: int | None = None, precision: str = "fp32") -> None:
        self.path, self.precision = path, precision
        self.threads = count_threads(threads)
        self._openvino = _import_openvino()
        self._core = self._openvino.Core()
        model = self._read()
        self.card: ModelCard = read_card(_metadata(model), str(path))
        nodes = {port.get_any_name(): _shape(port) for port in (*model.inputs, *model.outputs)}
        check_graph(nodes, self.card, path)
        self.n_members = len(self.card.members)
        self._compiled: dict[tuple[int, ...], Any] = {}
        self._whole = self._compile(model)
        self.settings = {
            "engine": "openvino",
            "openvino": self._openvino.__version__.split("-")[0],
            "processor": str(self._core.get_property("CPU", "FULL_DEVICE_NAME")),
            "precision": self._precision_used(self._whole),
            "threads": str(self._whole.get_property("INFERENCE_NUM_THREADS")),
        }

    def __call__(self, waves: Floats) -> Floats:
        answers = self._whole({"wave": as_input(waves, self.card)}, share_inputs=True)
        return np.array(answers["probs"])

    def member_probs(self, waves: Floats, wanted: Sequence[int]) -> list[Floats]:
        check_wanted(wanted, self.n_members)
        names = [self.card.members[i].output for i in wanted]
        compiled = self._whole if names == ["probs"] else self._for_members(tuple(wanted))
        answers = compiled({"wave": as_input(waves, self.card)}, share_inputs=True)
        return [np.array(answers[name]) for name in names]

    def _for_members(self, wanted: tuple[int, ...]) -> Any:
        """The model with these members alone; kept, since one pass asks for the same again."""
        if wanted not in self._compiled:
            model = self._read()
            names = {self.card.members[i].output for i in wanted}
            kept = [port for port in model.outputs if port.get_any_name() in names]
            kept = kept or _heard_by_members(model)
            part = self._openvino.Model(kept, model.get_parameters(), "members")
            self._compiled = {wanted: self._compile(part)}
        return self._compiled[wanted]

    def _read(self) -> Any:
        check_file(self.path)
        check_external(self.path)
        try:
            return self._core.read_model(str(self.path))
        except RuntimeError as error:
            raise self._cannot_load(error) from None

    def _compile(self, model: Any) -> Any:
        try:
            return self._core.compile_model(
                model,
                "CPU",
                {
                    "INFERENCE_PRECISION_HINT": _HINTS[self.precision],
                    "INFERENCE_NUM_THREADS": self.threads,
                    "PERFORMANCE_HINT": "LATENCY",
                    "NUM_STREAMS": 1,
                    "ENABLE_CPU_PINNING": False,  # sessions side by side would share a core
                },
            )
        except RuntimeError as error:
            raise self._cannot_load(error) from None

    def _cannot_load(self, error: Exception) -> PredictError:
        lines = [line for line in str(error).splitlines() if line.strip()] or [""]
        return PredictError(
            "OpenVINO cannot load the model",
            where=str(self.path),
            got=f"{type(error).__name__}: {lines[-1]}",
            fix="promote the run again, or leave --variant out to use ONNX Runtime",
        )

    def _precision_used(self, compiled: Any) -> str:
        """The precision of the compiled model; PredictError when it is not the one asked for."""
        hint = compiled.get_property("INFERENCE_PRECISION_HINT")
        used = _NAMES.get(hint.get_type_name(), hint.get_type_name())
        asked = _NAMES[_HINTS[self.precision]]
        able = self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if used != asked or (asked == "bf16" and "BF16" not in able):
            raise PredictError(
                f"this CPU does not compute in {asked}",
                got=f"{used}; it offers {', '.join(able)}",
                fix="choose another variant",
            )
        if self.precision != "int8":
            return asked
        if not _executed(compiled).keys() & {"i8", "u8"}:
            raise PredictError(
                "nothing of the model runs in int8",
                where=str(self.path),
                got="a file that is not quantised",
                fix="build the variant: birdlab promote RUN --variant openvino-int8",
            )
        return "int8"


def _executed(compiled: Any) -> Counter[str]:
    """How many layers of the compiled model run in which precision."""
    said = (node.get_rt_info() for node in compiled.get_runtime_model().get_ops())
    return Counter(
        str(info["runtimePrecision"].value) for info in said if "runtimePrecision" in info
    )


def _import_openvino() -> Any:
    try:
        import openvino
    except ImportError:
        raise PredictError(
            "OpenVINO is not installed",
            fix="pip install openvino, or leave --variant out to use ONNX Runtime",
        ) from None
    return openvino


def _heard_by_members(model: Any) -> list[Any]:
    """What the front-ends give: the values that go into the branches of the members."""
    branches = [node for node in model.get_ops() if node.get_type_name() == "If"]
    given = [port.get_source_output() for node in branches for port in node.inputs()]
    unique = {(p.get_node().get_friendly_name(), p.get_index()): p for p in given}
    heard = [p for p in unique.values() if len(p.get_partial_shape()) > 2]
    return heard or [model.output("probs")]


def _metadata(model: Any) -> Mapping[str, str]:
    """The metadata of the ONNX file, as OpenVINO hands it on."""
    if not model.has_rt_info("framework"):
        return {}
    said: dict[str, str] = model.get_rt_info("framework").value
    return said


def _shape(port: Any) -> list[object]:
    dims = port.get_partial_shape()
    return [dim.get_length() if dim.is_static else None for dim in dims]
