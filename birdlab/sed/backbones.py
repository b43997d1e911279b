"""Backbones: timm networks by name and kinds of birdlab's own, read as maps over time."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import timm
import torch
from torch import nn

from birdlab.errors import SpecError
from birdlab.sed import sequence as _sequence  # noqa: F401  registers the kind
from birdlab.sed.hub import cannot_fetch, require_hub
from birdlab.sed.maps import MapReader
from birdlab.spec.kinds import function_of
from birdlab.spec.model import ModelSpec

PROBE_FRAMES = (97, 313)
"""Lengths of the blank images that show what a backbone gives back: one that stays odd when it is
halved and rounded up, and 5 s at the usual hop."""
DEEPEST = 32
"""A number of frames that networks ask for multiples of when they halve the image five times."""


class Backbone(NamedTuple):
    """A network, how its feature map is read, and how many channels that has."""

    network: nn.Module
    read: MapReader
    n_features: int


def build_backbone(spec: ModelSpec, n_bins: int) -> Backbone:
    """The network of `spec` for images with `n_bins` rows, fresh or pretrained.

    `features_only` gives the stages `feature_level` of a timm network (-1 is the last; the 1×1
    convolution that many have between it and their classifier is not part of it),
    `forward_features` what it feeds to its pooling. Networks for one image size are built so
    that any number of frames fits, where timm offers it: with `dynamic_img_size`, which fits
    position embeddings to the image, or without `strict_img_size`. Raises SpecError when the
    name is unknown, the settings or the size do not fit, or no feature maps come out.
    """
    if not isinstance(spec.backbone, str):
        return _own_kind(spec, n_bins)
    if not timm.is_model(spec.backbone):
        close = difflib.get_close_matches(spec.backbone, timm.list_models(), n=5, cutoff=0.4)
        raise SpecError(
            f"timm {timm.__version__} has no network {spec.backbone!r}",
            where="model.backbone",
            expected=f"a name such as {', '.join(close) or 'tf_efficientnet_lite0'}",
            fix="look it up: python -c \"import timm; print(timm.list_models('*part*'))\"",
        )
    network = _created(spec, spec.backbone)
    built = _probed(network, _readers(network, spec, n_bins), spec, n_bins)
    if spec.grad_checkpointing:
        _switch_checkpointing(getattr(network, "model", network), network, spec)
    return built


def _own_kind(spec: ModelSpec, n_bins: int) -> Backbone:
    """The network of a kind; SpecError where the spec asks of it what timm's networks can."""
    kind = getattr(spec.backbone, "kind", type(spec.backbone).__name__)
    for name in ("drop_path", "features"):
        if getattr(spec, name) != ModelSpec.model_fields[name].default:
            raise SpecError(
                f"{name} is for timm networks",
                where=f"model.{name}",
                got=f"{getattr(spec, name)} with the backbone {kind!r}",
                fix=f"leave {name} out; a backbone's own settings are fields of its kind",
            )
    assert not isinstance(spec.backbone, str)
    network: nn.Module = function_of(spec.backbone)(spec.backbone, spec.in_channels, n_bins)
    built = _probed(network, [MapReader()], spec, n_bins)
    if spec.grad_checkpointing:
        _switch_checkpointing(network, network, spec)
    return built


# ---------------------------------------------------------------- making a timm network


def _created(spec: ModelSpec, name: str) -> nn.Module:
    """The timm network, in the most flexible of the forms that timm has of it."""
    options: dict[str, object] = {"in_chans": spec.in_channels, "pretrained": spec.pretrained}
    if spec.features == "features_only":
        levels = spec.feature_level
        indices = levels if isinstance(levels, tuple) else (levels,)
        options |= {"features_only": True, "out_indices": indices}
    else:
        options |= {"num_classes": 0}
    if spec.drop_path > 0:
        options["drop_path_rate"] = spec.drop_path
    forms: list[dict[str, object]] = [{}]
    if _is_for_one_size(name):
        forms = [{"dynamic_img_size": True}, {"strict_img_size": False}, {}]
    state = torch.get_rng_state()
    for form in forms[:-1]:
        try:
            return _create(spec, options | form)
        except TypeError:  # timm's answer to an option that this network does not have
            torch.set_rng_state(state)
    try:
        return _create(spec, options)
    except TypeError as error:
        raise _cannot_build(spec, options, error) from None


def _is_for_one_size(name: str) -> bool:
    """Does timm say that the network takes images of one size, if it is not told otherwise?"""
    try:
        config = timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        bare = name.split(".")[0]
        raise SpecError(
            f"timm {timm.__version__} has no such weights of {bare!r}",
            where="model.backbone",
            got=str(error),
            expected=", ".join(timm.list_pretrained(f"{bare}.*")) or bare,
            fix=f"write {bare!r} for the network without a name of weights",
        ) from None
    return config is not None and bool(config.fixed_input_size)


def _create(spec: ModelSpec, options: dict[str, object]) -> nn.Module:
    if spec.pretrained:
        require_hub(str(spec.backbone))
    try:
        network: nn.Module = timm.create_model(spec.backbone, **options)
    except OSError as error:
        raise cannot_fetch(spec.backbone, error) from None
    except (RuntimeError, ValueError, AssertionError, IndexError) as error:
        raise _cannot_build(spec, options, error) from None
    return network


def _cannot_build(spec: ModelSpec, options: dict[str, object], error: Exception) -> SpecError:
    return SpecError(
        f"timm cannot build {spec.backbone!r} with these settings",
        where="model",
        got=f"{type(error).__name__}: {error}",
        expected=f"a network that takes {', '.join(sorted(options))}",
        fix="set drop_path to 0, another feature_level, or features: forward_features",
    )


# ---------------------------------------------------------------- reading its maps


def _readers(network: Any, spec: ModelSpec, n_bins: int) -> Iterator[MapReader]:
    """The ways to read a timm network that are worth trying, the one with least padding first."""
    patch = _patch_of(network)
    patch_bins, patch_frames = patch or (1, 1)
    if n_bins % patch_bins:
        raise SpecError(
            f"the network {spec.backbone!r} cuts the spectrogram into patches that do not fit",
            where="model.frontend.n_mels",
            got=f"{n_bins} bins",
            expected=f"a multiple of {patch_bins}",
            fix="change n_mels; frames need no care, they are padded",
        )
    inner = getattr(network, "model", network)
    for multiple in sorted({patch_frames, math.lcm(patch_frames, DEEPEST)}):
        yield MapReader(
            before_pooling=spec.features == "forward_features",
            frame_multiple=multiple,
            channels_last=getattr(network, "output_fmt", "NCHW") == "NHWC",
            patch_bins=patch and patch_bins,
            n_prefix=getattr(inner, "num_prefix_tokens", 0),
        )


def _patch_of(network: Any) -> tuple[int, int] | None:
    """The patch (bins, frames) that a network says it cuts images into."""
    inner = getattr(network, "model", network)
    ratio = getattr(getattr(inner, "patch_embed", None), "feat_ratio", None)
    if ratio is None:
        return None
    bins, frames = ratio(as_scalar=False)
    return int(bins), int(frames)


def _probed(
    network: nn.Module, readers: Iterable[MapReader], spec: ModelSpec, n_bins: int
) -> Backbone:
    """`network`, the first reader that fits and its channels, found by showing it blank images.

    They leave no trace in the network.
    """
    training, problems = network.training, []
    network.eval()
    for read in readers:
        try:
            with torch.no_grad():
                maps = [
                    read(network, torch.zeros(1, spec.in_channels, n_bins, length))
                    for length in PROBE_FRAMES
                ]
        except (AssertionError, RuntimeError, ValueError, IndexError, TypeError) as error:
            problems.append(f"{type(error).__name__}: {error}")
            continue
        n_features = maps[0].shape[1]
        if maps[0].ndim == 4 and n_features == _declared_channels(network, read, n_features):
            return Backbone(network.train(training), read, n_features)
        problems.append(f"an output of shape {list(maps[0].shape)}")
    raise SpecError(
        f"the network {spec.backbone!r} gives no [batch, channels, frequency, time] maps",
        where="model.backbone",
        got=f"{problems[0]}, for {n_bins} bins and {' or '.join(map(str, PROBE_FRAMES))} frames",
        expected="a network for images of any size, or one whose size timm can make flexible "
        "(dynamic_img_size, strict_img_size)",
        fix="choose a network such as tf_efficientnet_lite0, convnext_small, "
        "vit_tiny_patch16_224, or another feature_level or `features`",
    )


def _declared_channels(network: Any, read: MapReader, found: int) -> int:
    """How many channels timm says the map has; a kind of birdlab's own is taken at its word."""
    if read.before_pooling:
        return int(network.num_features)
    info = getattr(network, "feature_info", None)
    return found if info is None else sum(int(n) for n in info.channels())


# ---------------------------------------------------------------- gradient checkpointing


def _switch_checkpointing(inner: Any, network: nn.Module, spec: ModelSpec) -> None:
    """Let the network compute activations again in the backward pass; SpecError if it cannot."""
    try:
        inner.set_grad_checkpointing(True)
    except (AttributeError, AssertionError, TypeError) as error:
        raise SpecError(
            f"the network {spec.backbone!r} has no gradient checkpointing",
            where="model.grad_checkpointing",
            got=f"{type(error).__name__}: {error}",
            fix="set it to false; a smaller train.batch with train.accumulate needs less memory",
        ) from None
    for norm in _running_norms(network):
        norm.usual_momentum = norm.momentum
    network.register_forward_pre_hook(_follow_batches)
    network.register_forward_hook(_hold_statistics)


def _running_norms(network: nn.Module) -> Iterator[Any]:
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats:
            yield module


def _hold_statistics(network: nn.Module, *_: object) -> None:
    """After the forward pass: running statistics have seen the batch.

    The backward pass computes the same activations again, and would count them twice.
    """
    if network.training and torch.is_grad_enabled():
        for norm in _running_norms(network):
            norm.momentum = 0.0


def _follow_batches(network: nn.Module, *_: object) -> None:
    """Before the next forward pass: undo that, and nothing that others set."""
    for norm in _running_norms(network):
        if norm.momentum == 0.0:
            norm.momentum = norm.usual_momentum
