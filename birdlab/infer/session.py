"""A promoted ONNX file as a function from windows to probabilities."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnxruntime

from birdlab.errors import PredictError, first_line
from birdlab.infer.card import ModelCard, read_card
from birdlab.infer.external import check_external
from birdlab.infer.variants import FP32, Variant, choose_variant

Floats = npt.NDArray[np.float32]

WANTED = "wanted"
"""The graph's input that says which members to compute; one that is not wanted costs nothing."""


class SoundPredictor(Protocol):
    """The deployed probabilities of a promoted model, whatever computes them.

    Called with `waves: [B, samples] float32` as `iter_windows` makes them by `card.windowing`;
    gives [B, C] float32, 0..1, columns as in `card.classes`. `settings` tells engine, version,
    threads and the precision that is really used, since float32 sums differ in the last digits
    between them. Raises PredictError when a batch does not fit.
    """

    card: ModelCard
    settings: dict[str, str]
    n_members: int

    def __call__(self, waves: Floats) -> Floats: ...

    def member_probs(self, waves: Floats, wanted: Sequence[int]) -> list[Floats]:
        """The probabilities of the members `wanted`, each [B, C]; the others are not computed.

        With none wanted only the front-ends run, where the file can do so. A file that does not
        tell its members apart has one, 0: the model itself.
        """
        ...


def open_predictor(
    path: Path,
    *,
    threads: int | None = None,
    variant: str | Variant | None = None,
    force: bool = False,
) -> SoundPredictor:
    """The model at `path` ready to predict, in ONNX Runtime or as `variant` says.

    `variant` is a name from the list beside the file (`load_variants`), or a Variant whose file
    lies beside `path`, which is taken unasked. Raises PredictError when the file is no promoted
    model, and for a variant that is not there or did not pass its gate, unless `force` is set.
    """
    if variant is None:
        return OnnxPredictor(path, threads=threads)
    if isinstance(variant, str):
        if variant == FP32.name:  # the file itself, whatever it is called
            return OnnxPredictor(path, threads=threads)
        variant = choose_variant(path.parent, variant, force=force)
        _check_name(path, variant)
    file = path if variant.file == FP32.file else path.parent / variant.file
    if variant.engine == "onnxruntime":
        return OnnxPredictor(file, threads=threads, precision=variant.precision)
    from birdlab.infer.openvino_session import OpenVinoPredictor

    return OpenVinoPredictor(file, threads=threads, precision=variant.precision)


def _check_name(path: Path, variant: Variant) -> None:
    """Nothing; PredictError where the variant is of another file in the folder of `path`."""
    if path.name != FP32.file:
        raise PredictError(
            f"the variant {variant.name!r} is not one of this file",
            where=str(path),
            got=f"{path.parent.name}/{variant.file}, made of {FP32.file}",
            fix=f"name the file {FP32.file}, or leave --variant out",
        )


class OnnxPredictor:
    """A promoted model in ONNX Runtime on CPU: a SoundPredictor.

    `threads` is how many cores one batch may use (default: every core this process may run on);
    `precision` is that of the file, for `settings`. Raises PredictError when the file is no
    promoted model.
    """

    def __init__(self, path: Path, *, threads: int | None = None, precision: str = "fp32") -> None:
        self.path = path
        self.threads = count_threads(threads)
        self._session = open_session(path, self.threads)
        metadata = dict(self._session.get_modelmeta().custom_metadata_map)
        self.card: ModelCard = read_card(metadata, str(path))
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        nodes = {node.name: list(node.shape) for node in (*inputs, *outputs)}
        check_graph(nodes, self.card, path)
        self.n_members = len(self.card.members)
        optional = [node.name for node in self._session.get_overridable_initializers()]
        self._chooses = WANTED in optional and self.card.members[0].output != "probs"
        self.settings = {
            "engine": "onnxruntime",
            "onnxruntime": onnxruntime.__version__,
            "provider": "CPUExecutionProvider",
            "precision": precision,
            "threads": str(self.threads),
        }

    def __call__(self, waves: Floats) -> Floats:
        probs: Floats = self._session.run(["probs"], {"wave": as_input(waves, self.card)})[0]
        return probs

    def member_probs(self, waves: Floats, wanted: Sequence[int]) -> list[Floats]:
        check_wanted(wanted, self.n_members)
        names = [self.card.members[i].output for i in wanted]
        feeds: dict[str, npt.NDArray[Any]] = {"wave": as_input(waves, self.card)}
        if self._chooses:
            feeds[WANTED] = np.isin(np.arange(self.n_members), wanted)
        elif not names:
            return []
        probs: list[Floats] = self._session.run(names or ["probs"], feeds)
        return probs if names else []

    def run_frontends(self, waves: Floats) -> bool:
        """Whether the file lets its front-ends be run without any member; they were, to time it."""
        if self._chooses:
            none = np.zeros(self.n_members, bool)
            self._session.run(["probs"], {"wave": as_input(waves, self.card), WANTED: none})
        return self._chooses


def count_threads(threads: int | None) -> int:
    """`threads`, or as many as there are cores for this process; PredictError below 1."""
    if threads is None:
        return len(os.sched_getaffinity(0))
    if threads < 1:
        raise PredictError("a session needs a thread", got=threads, expected="at least 1")
    return threads


def as_input(waves: Floats, card: ModelCard) -> Floats:
    """`waves` [B, samples] as a graph takes them; PredictError when they do not fit its card."""
    if waves.ndim != 2 or waves.shape[1] != card.input_samples:
        raise PredictError(
            "the windows do not fit the model",
            got=f"shape {waves.shape}",
            expected=f"[B, {card.input_samples}]: {card.context_s or card.window_s:g} s at "
            f"{card.sample_rate_hz} Hz",
        )
    return np.ascontiguousarray(waves, dtype=np.float32)


def check_graph(nodes: dict[str, list[object]], card: ModelCard, path: Path) -> None:
    """Nothing; PredictError where the graph does not fit the card.

    `nodes`: name → shape of its inputs and outputs in order.
    """
    outputs = ["probs", *(member.output for member in card.members)]
    expected = {"wave": card.input_samples} | dict.fromkeys(outputs, len(card.classes))
    got = {name: shape[1] if len(shape) == 2 else shape for name, shape in nodes.items()}
    if got != expected:
        raise PredictError(
            "the graph of the ONNX file does not fit its own card",
            where=str(path),
            got=f"values per clip: {got}",
            expected=str(expected),
            fix="promote the run again",
        )


def check_wanted(wanted: Sequence[int], n_members: int) -> None:
    """Nothing; PredictError when `wanted` names a member that is not there."""
    if not all(0 <= i < n_members for i in wanted):
        raise PredictError(
            "the model has no such members",
            got=", ".join(map(str, wanted)),
            expected=f"numbers from 0 to {n_members - 1}",
        )


def open_session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    """The graph in a file, ready to run on CPU; PredictError when it cannot be loaded."""
    check_file(path)
    check_external(path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors share no base class below Exception
        raise PredictError(
            "ONNX Runtime cannot load the model",
            where=str(path),
            got=f"{type(error).__name__}: {first_line(error)}",
            fix="promote the run again, or copy the file again if it was cut off",
        ) from None


def check_file(path: Path) -> None:
    """Nothing; PredictError when there is no file at `path`."""
    if not path.is_file():
        raise PredictError(
            "the model is not there", where=str(path), fix="`birdlab promote RUN` writes one"
        )
