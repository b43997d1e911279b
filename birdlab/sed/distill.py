"""Distillation: how far a network is from what a teacher says, as a loss beside that on labels.

What is said of a clip is a row of probabilities or an embedding. NaN means that nothing is: for a
class that the teacher does not know, or for a clip that it did not hear.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, logsigmoid

from birdlab.sed.heads import SedOutput
from birdlab.sed.lessons import Lessons
from birdlab.sed.model import SEDModel
from birdlab.spec.teaching import DistillSpec

LEAST = 6e-8
"""Probabilities are kept so far from 0 and 1; float32 has none nearer to 1."""

Answer = Callable[[Tensor], tuple[SedOutput, Tensor]]


class Pupil(nn.Module):
    """What a network learns from a teacher; for embeddings with a linear map of its own.

    The map takes the network's features, averaged over frequency and time, to the `n_values` of
    the teacher's embedding. It is trained with the network and is no part of it. `seed` gives its
    first weights.
    """

    def __init__(self, spec: DistillSpec, n_features: int, n_values: int, seed: int) -> None:
        super().__init__()
        self.spec = spec
        self.map: nn.Linear | None = None
        if spec.target == "embeddings":
            self.map = nn.Linear(n_features, n_values)
            given = torch.Generator().manual_seed(seed)
            nn.init.xavier_uniform_(self.map.weight, generator=given)
            nn.init.zeros_(self.map.bias)

    def mix(self, on_labels: Tensor, output: SedOutput, features: Tensor, said: Tensor) -> Tensor:
        """(1 - weight) of the loss on labels plus weight of the distance from the teacher.

        features: [B, D, F, T], used for embeddings; said: [B, n_values].
        """
        if self.map is None:
            distance = divergence(output.logits, said, self.spec.temperature)
        else:
            with torch.autocast(said.device.type, enabled=False):
                mapped = self.map(features.float().mean(dim=(2, 3)))
            distance = cosine_distance(mapped, said)
        return (1 - self.spec.weight) * on_labels + self.spec.weight * distance


def build_pupil(
    spec: DistillSpec | None, model: SEDModel, lessons: Lessons | None, seed: int
) -> Pupil | None:
    """What a network is to learn of the lessons; None where nobody teaches it."""
    if spec is None or lessons is None:
        return None
    return Pupil(spec, model.n_features, lessons.n_values, seed)


def answer_of(model: SEDModel) -> Answer:
    """A function from a mel [B, C, n_mels, T] to what the network says and its feature maps."""

    def answer(mel: Tensor) -> tuple[SedOutput, Tensor]:
        features = model.features(mel)
        return model.head(features), features

    return answer


def divergence(logits: Tensor, said: Tensor, temperature: float) -> Tensor:
    """T² KL(teacher, student) of each class by itself, mean over what is said: a float32 scalar.

    logits: [B, C] of the student; said: [B, C] probabilities, NaN where nothing is. Both become
    sigmoid(logit / T) first. 0, with gradients of 0, where nothing is said. Source: Hinton et al.
    2015, for two outcomes a class.
    """
    counts = ~said.isnan()
    p = said.float().nan_to_num(0.5).clamp(LEAST, 1 - LEAST)
    theirs = torch.logit(p) / temperature
    own = logits.float().masked_fill(~counts, 0.0) / temperature
    p = theirs.sigmoid()
    terms = p * (logsigmoid(theirs) - logsigmoid(own))
    terms = terms + (1 - p) * (logsigmoid(-theirs) - logsigmoid(-own))
    return temperature**2 * _mean(terms, counts)


def cosine_distance(mapped: Tensor, said: Tensor) -> Tensor:
    """1 - the cosine between what is mapped and what is said, both [B, D]: a float32 scalar.

    The mean over the clips of which something is said; 0 where there are none.
    """
    counts = ~said.isnan().any(dim=1)
    given = said.float().masked_fill(~counts[:, None], 0.0)
    return _mean(1 - cosine_similarity(mapped.float(), given, dim=1), counts)


def _mean(terms: Tensor, counts: Tensor) -> Tensor:
    return terms.masked_fill(~counts, 0.0).sum() / counts.sum().clamp(min=1)
