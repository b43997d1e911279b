"""A teacher that is an ONNX graph: its classes, its windows, what it says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from birdlab.errors import DataError, PredictError
from birdlab.evaluate.windows import Floats, Windowing
from birdlab.heardrecording import Target, logit, middle_of
from birdlab.hearing import columns_of
from birdlab.infer.session import open_session
from birdlab.lab import LAB_FILE
from birdlab.spec.identity import digest

_SLACK = 1e-4
"""A probability may leave 0..1 by so much: float32 sums."""


@dataclass(frozen=True, eq=False)
class OnnxTeacher:
    """A graph that says what is in a window: see `hearing.Teacher`.

    columns: the classes of the file in order, "" for one that is left out; codes: what they become,
    each once; one that several become gets the largest of their probabilities.
    """

    name: str
    path: Path
    sha256: str
    columns: tuple[str, ...]
    windowing: Windowing
    normalise: str
    output_name: str
    kind: str
    embedding: str | None
    threads: int

    @cached_property
    def codes(self) -> tuple[str, ...]:
        """The classes that it knows, in the order of its outputs."""
        return tuple(dict.fromkeys(code for code in self.columns if code))

    @property
    def window_s(self) -> float:
        """The length of a window in seconds."""
        return self.windowing.window_s

    @property
    def sample_rate_hz(self) -> int:
        """The rate of its waves."""
        return self.windowing.sample_rate_hz

    @cached_property
    def identity(self) -> str:
        """32 hex digits that name its outputs: the file, and all that is said of it."""
        said = {
            "columns": list(self.columns),
            "windowing": str(self.windowing),
            "normalise": self.normalise,
            "output": self.output_name,
            "kind": self.kind,
            "embedding": self.embedding,
        }
        return digest({"file": self.sha256, **said}, 32)

    def mapped(self, classes: Sequence[str]) -> npt.NDArray[np.int64]:
        """The output of each of `classes`, -1 for one that it does not know.

        Raises DataError when it knows none.
        """
        return columns_of(self.name, self.codes, classes)

    def __call__(self, waves: Floats) -> Floats:
        """The probability of each code in each window [B, samples]: [B, C] float32, 0..1."""
        raw = self._run(self.output_name, waves)
        raw = raw.reshape(len(waves), -1, raw.shape[1])[:, middle_of(self.windowing)]
        if self.kind == "logits":
            raw = special.expit(raw)
        elif raw.min() < -_SLACK or raw.max() > 1 + _SLACK:
            raise DataError(
                f"the output {self.output_name} of {self.name} holds no probabilities",
                where=str(self.path),
                got=f"{raw.min():.3g} to {raw.max():.3g}",
                expected="0 to 1",
                fix='write kind = "logits" if a sigmoid is to follow',
            )
        return self._joined(np.asarray(np.clip(raw, 0, 1), np.float32))

    def output(self, waves: Floats, target: Target) -> Floats:
        """The logits of each code, or the embedding, of each window."""
        if target == "logits":
            return logit(self(waves))
        if self.embedding is None:
            raise DataError(
                f"the teacher {self.name} gives no embeddings",
                where=f"{LAB_FILE}: teachers.{self.name}",
                expected='embedding = "the name of an output"',
                fix="name that output, or write target: logits",
            )
        return self._run(self.embedding, waves)

    def _joined(self, probs: Floats) -> Floats:
        if self.codes == self.columns:
            return probs
        place = {code: i for i, code in enumerate(self.codes)}
        joined = np.zeros((len(probs), len(self.codes)), np.float32)
        for column, code in enumerate(self.columns):
            if code:
                np.maximum(joined[:, place[code]], probs[:, column], out=joined[:, place[code]])
        return joined

    @cached_property
    def _graph(self) -> Any:
        return open_session(self.path, self.threads)

    def _run(self, output: str, waves: Floats) -> Floats:
        """One output for a batch; a graph that takes one window at a time gets them so."""
        entry = self._graph.get_inputs()[0]
        parts = [waves] if not isinstance(entry.shape[0], int) else list(waves[:, None])
        try:
            got = [self._graph.run([output], {entry.name: part})[0] for part in parts]
        except Exception as error:  # its errors share no base class below Exception
            raise PredictError(
                f"the teacher {self.name} cannot hear a window",
                where=str(self.path),
                got=str(error).splitlines()[0],
                fix="check the window and the sample rate that it has under [teachers]",
            ) from None
        values: Floats = np.concatenate(got)
        return values
