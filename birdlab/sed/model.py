"""The sound event detector: front-end, timm backbone, head."""

from __future__ import annotations

import difflib
from typing import Any

import timm
import torch
from torch import Tensor, nn

from birdlab.errors import SpecError
from birdlab.sed import frontend as _log_mel  # noqa: F401  registers the kind
from birdlab.sed.heads import SedOutput
from birdlab.spec.kinds import function_of
from birdlab.spec.model import ModelSpec

__all__ = ["SEDModel", "SedOutput", "build_backbone"]

PROBE_FRAMES = 128
"""Length in frames of the blank mel that shows what a backbone gives back."""


class SEDModel(nn.Module):
    """What birds are in a clip and when, from its waveform.

    `model(wave: [B, samples] float32, -1..1) -> SedOutput` with `n_classes` columns. The two
    halves are methods of their own, so that augmentations of the spectrogram fit between:
    `model.frontend(wave) -> mel [B, 1, n_mels, T]` and `model.classify(mel) -> SedOutput`.

    Weights start from torch's global generator: seed it first. With `pretrained: true` the
    backbone comes from timm's hub; `weights:` is for the caller to load
    (`load_backbone_weights`). Raises SpecError when the backbone is unknown, cannot be
    fetched or does not give feature maps.
    """

    def __init__(self, spec: ModelSpec, n_classes: int) -> None:
        super().__init__()
        self.spec = spec
        self.in_channels = spec.in_channels
        self.frontend: nn.Module = function_of(spec.frontend)(spec.frontend)
        self.backbone, n_features = build_backbone(spec)
        self.head: nn.Module = function_of(spec.head)(spec.head, n_features, n_classes)

    def features(self, mel: Tensor) -> Tensor:
        """Feature maps [B, D, F, T'] of a mel [B, 1, n_mels, T], repeated over `in_channels`."""
        return _features(self.backbone, mel.expand(-1, self.in_channels, -1, -1))

    def classify(self, mel: Tensor) -> SedOutput:
        """The detector's answer to a mel [B, 1, n_mels, T]."""
        output: SedOutput = self.head(self.features(mel))
        return output

    def forward(self, wave: Tensor) -> SedOutput:
        return self.classify(self.frontend(wave))


def build_backbone(spec: ModelSpec) -> tuple[nn.Module, int]:
    """The timm network of `spec` and how many channels its feature map has.

    `features_only` gives the stage `feature_level` (-1 is the last; the 1×1 convolution that
    many networks have between it and their classifier is not part of it), `forward_features`
    what the network feeds to its pooling. Raises SpecError.
    """
    if not timm.is_model(spec.backbone):
        close = difflib.get_close_matches(spec.backbone, timm.list_models(), n=5, cutoff=0.4)
        raise SpecError(
            f"timm {timm.__version__} has no network {spec.backbone!r}",
            where="model.backbone",
            expected=f"a name such as {', '.join(close) or 'tf_efficientnet_lite0'}",
            fix="look it up: python -c \"import timm; print(timm.list_models('*part*'))\"",
        )
    options: dict[str, object] = {"in_chans": spec.in_channels, "pretrained": spec.pretrained}
    if spec.features == "features_only":
        options |= {"features_only": True, "out_indices": (spec.feature_level,)}
    else:
        options |= {"num_classes": 0}
    if spec.drop_path > 0:
        options["drop_path_rate"] = spec.drop_path
    return _probed(_created(spec, options), spec)


def _created(spec: ModelSpec, options: dict[str, object]) -> nn.Module:
    try:
        backbone: nn.Module = timm.create_model(spec.backbone, **options)
    except OSError as error:
        raise SpecError(
            f"the pretrained weights of {spec.backbone!r} cannot be fetched",
            where="model.pretrained",
            got=f"{type(error).__name__}: {str(error).splitlines()[0]}",
            fix="without a network put a local file under [weights] in the lab file and "
            "write `weights: its-name` instead of `pretrained: true`",
        ) from None
    except (TypeError, RuntimeError, ValueError, AssertionError, IndexError) as error:
        raise SpecError(
            f"timm cannot build {spec.backbone!r} with these settings",
            where="model",
            got=f"{type(error).__name__}: {error}",
            expected=f"a network that takes {', '.join(sorted(options))}",
            fix="set drop_path to 0, another feature_level, or features: forward_features",
        ) from None
    return backbone


def _probed(backbone: nn.Module, spec: ModelSpec) -> tuple[nn.Module, int]:
    """`backbone` and its channels, found by showing it a blank mel; it leaves no trace."""
    n_mels = getattr(spec.frontend, "n_mels", 128)
    training = backbone.training
    try:
        with torch.no_grad():
            blank = torch.zeros(1, spec.in_channels, n_mels, PROBE_FRAMES)
            features = _features(backbone.eval(), blank)
        problem = f"an output of shape {list(features.shape)}" if features.ndim != 4 else None
    except (AssertionError, RuntimeError, ValueError) as error:
        problem = f"{type(error).__name__}: {error}"
    if problem is None and features.shape[1] != _declared_channels(backbone):
        problem = f"an output of shape {list(features.shape)}, channels last"
    if problem is not None:
        raise SpecError(
            f"the network {spec.backbone!r} gives no [batch, channels, frequency, time] maps",
            where="model.backbone",
            got=problem,
            expected="a convolutional network; transformers with a fixed image size or token "
            "outputs are not supported",
            fix="choose a network such as tf_efficientnet_lite0, eca_nfnet_l0, convnext_small",
        )
    return backbone.train(training), int(features.shape[1])


def _declared_channels(backbone: Any) -> int:
    if hasattr(backbone, "forward_features"):
        return int(backbone.num_features)
    return int(backbone.feature_info.channels()[-1])


def _features(backbone: Any, image: Tensor) -> Tensor:
    if hasattr(backbone, "forward_features"):
        features: Tensor = backbone.forward_features(image)
    else:
        features = backbone(image)[-1]
    return features
