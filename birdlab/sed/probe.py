"""Whether a network can be built and hears a clip, before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from birdlab.errors import BirdlabError, SpecError
from birdlab.evaluate.windows import Share
from birdlab.sed.model import SEDModel
from birdlab.spec.model import ModelSpec


def probe_model(
    spec: ModelSpec, n_classes: int, inputs: Sequence[tuple[int, Sequence[Share]]]
) -> None:
    """Build a network with random weights on the CPU, and show it silence of each of `inputs`.

    Each is a length in samples and the k parts of it that are asked for. Nothing is fetched. Raises
    SpecError for a network that cannot be built, or that does not answer [1, samples] with
    [k, n_classes].
    """
    try:
        model = SEDModel(spec.model_copy(update={"pretrained": False}), n_classes).eval()
        with torch.inference_mode():
            for samples, parts in inputs:
                shape = list(model.hear(torch.zeros(1, samples), parts)[0].shape)
                if shape != [len(parts), n_classes]:
                    raise SpecError(
                        "the network gives something else than a number per class",
                        where="model",
                        got=f"{shape} for [1, {samples}]",
                        expected=f"[{len(parts)}, {n_classes}]",
                    )
    except BirdlabError:
        raise
    except Exception as error:  # what networks and heads of other people raise is not known
        raise SpecError(
            "the network cannot be built, or cannot hear a clip of the length asked for",
            where="model",
            got=f"{type(error).__name__}: {error}",
            fix="take another model.backbone, or a longer train.window_s",
        ) from error
