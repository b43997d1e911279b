"""A promoted ONNX file as a function from windows to probabilities."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

from birdlab.errors import PredictError
from birdlab.infer.card import ModelCard, read_card

Floats = npt.NDArray[np.float32]


class OnnxPredictor:
    """The deployed probabilities of a promoted model, computed by ONNX Runtime on CPU.

    `predictor(waves: [B, samples] float32) -> [B, C] float32, 0..1` for inputs that
    `iter_windows` makes by `predictor.card.windowing`; columns as in `predictor.card.classes`.
    `threads` is how many cores one batch may use (default: every core this process may run on);
    `settings` records it with the versions, since float32 sums differ in the last digits between
    them. Raises PredictError when the file is no promoted model or a batch does not fit it.
    """

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        self.path = path
        self.threads = len(os.sched_getaffinity(0)) if threads is None else threads
        self._session = _open_session(path, self.threads)
        metadata = dict(self._session.get_modelmeta().custom_metadata_map)
        self.card: ModelCard = read_card(metadata, str(path))
        self._check_graph()
        self.settings = {
            "onnxruntime": onnxruntime.__version__,
            "provider": "CPUExecutionProvider",
            "precision": "fp32",
            "threads": str(self.threads),
        }

    def _check_graph(self) -> None:
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        shapes = [list(node.shape)[1:] for node in (*inputs, *outputs)]
        expected = [[self.card.input_samples], [len(self.card.classes)]]
        names = [node.name for node in (*inputs, *outputs)]
        if names != ["wave", "probs"] or shapes != expected:
            raise PredictError(
                "the graph of the ONNX file does not fit its own card",
                where=str(self.path),
                got=f"{names} with {shapes} per clip",
                expected=f"['wave', 'probs'] with {expected}",
                fix="promote the run again",
            )

    def __call__(self, waves: Floats) -> Floats:
        if waves.ndim != 2 or waves.shape[1] != self.card.input_samples:
            raise PredictError(
                "the windows do not fit the model",
                got=f"shape {waves.shape}",
                expected=f"[B, {self.card.input_samples}]: "
                f"{self.card.context_s or self.card.window_s:g} s at "
                f"{self.card.sample_rate_hz} Hz",
            )
        wave = np.ascontiguousarray(waves, dtype=np.float32)
        probs: Floats = self._session.run(["probs"], {"wave": wave})[0]
        return probs


def _open_session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    if not path.is_file():
        raise PredictError(
            "the model is not there", where=str(path), fix="`birdlab promote RUN` writes one"
        )
    if threads < 1:
        raise PredictError("a session needs a thread", got=threads, expected="at least 1")
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
            got=f"{type(error).__name__}: {str(error).splitlines()[0]}",
            fix="promote the run again, or copy the file again if it was cut off",
        ) from None
