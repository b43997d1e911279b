"""The sound event detector: front-end, backbone, head."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from birdlab.errors import SpecError
from birdlab.evaluate.windows import Share
from birdlab.sed import frontend as _log_mel  # noqa: F401  registers the kinds
from birdlab.sed.backbones import build_backbone
from birdlab.sed.heads import SedOutput
from birdlab.sed.maps import slice_share
from birdlab.spec.kinds import function_of
from birdlab.spec.model import ModelSpec

__all__ = ["SEDModel", "SedOutput"]

PROBE_S = 2.0
"""Length of the silent wave that shows what a front-end makes."""


class SEDModel(nn.Module):
    """What birds are in a clip and when, from its waveform.

    `model(wave: [B, samples] float32, -1..1) -> SedOutput` with `n_classes` columns. The two
    halves are methods of their own, so that augmentations of the spectrogram fit between:
    `model.frontend(wave) -> mel [B, C, n_mels, T]` and `model.classify(mel) -> SedOutput`.
    `model.hear(wave, shares) -> (P, M)` says how parts of a clip are predicted, such as the share
    (0.25, 0.75): the backbone sees the whole clip and the head the feature frames whose centres lie
    in that part.

    Weights start from torch's global generator: seed it first. With `pretrained: true` the
    backbone comes from timm's hub; `weights:` is for the caller to load
    (`load_backbone_weights`). Raises SpecError when the front-end's channels are neither one nor
    `in_channels`, or when the backbone is unknown, cannot be fetched or gives no feature maps.
    """

    def __init__(self, spec: ModelSpec, n_classes: int) -> None:
        super().__init__()
        self.spec = spec
        self.in_channels = spec.in_channels
        self.frontend: nn.Module = function_of(spec.frontend)(spec.frontend)
        n_bins = _count_bins(self.frontend, spec)
        self.backbone, self._read, self.n_features = build_backbone(spec, n_bins)
        self.head: nn.Module = function_of(spec.head)(spec.head, self.n_features, n_classes)

    def features(self, mel: Tensor) -> Tensor:
        """Feature maps [B, D, F, T'] of a mel [B, C, n_mels, T].

        A mel with one channel is repeated over `in_channels`; several feature levels are pooled
        to the smallest and stacked over D.
        """
        return self._read(self.backbone, mel.expand(-1, self.in_channels, -1, -1))

    def classify(self, mel: Tensor) -> SedOutput:
        """The detector's answer to a mel [B, C, n_mels, T]."""
        output: SedOutput = self.head(self.features(mel))
        return output

    def classify_parts(self, mel: Tensor, shares: Sequence[Share]) -> tuple[Tensor, Tensor]:
        """(P, M), each [B · k, C], of k parts of a mel [B, C, n_mels, T].

        The parts of a clip follow each other; the backbone runs once for all of them.
        """
        features = self.features(mel)
        parts: list[SedOutput] = [self.head(slice_share(features, share)) for share in shares]
        if len(parts) == 1:
            return parts[0].probs, parts[0].time_max
        probs, time_max = (
            torch.stack(said, dim=1).flatten(0, 1)
            for said in ([p.probs for p in parts], [p.time_max for p in parts])
        )
        return probs, time_max

    def forward(self, wave: Tensor) -> SedOutput:
        return self.classify(self.frontend(wave))

    def hear(self, wave: Tensor, shares: Sequence[Share]) -> tuple[Tensor, Tensor]:
        """(P, M) of parts of clips [B, samples], as `classify_parts`."""
        return self.classify_parts(self.frontend(wave), shares)


def _count_bins(frontend: nn.Module, spec: ModelSpec) -> int:
    """The rows of what a front-end makes, found by showing it silence; it leaves no trace."""
    rate = getattr(spec.frontend, "sample_rate_hz", 32_000)
    training = frontend.training
    with torch.no_grad():
        mel = frontend.eval()(torch.zeros(1, round(PROBE_S * rate)))
    frontend.train(training)
    if mel.ndim != 4 or mel.shape[1] not in (1, spec.in_channels):
        raise SpecError(
            "the front-end makes another image than the backbone takes",
            where="model.in_channels",
            got=f"{list(mel.shape)} for in_channels {spec.in_channels}",
            expected="[batch, channels, bins, frames] with 1 channel or in_channels",
            fix=f"set in_channels to {mel.shape[1]}",
        )
    return int(mel.shape[2])
