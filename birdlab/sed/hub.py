"""Pretrained weights from timm's hub: are they here, or can they be fetched from where we are?"""

from __future__ import annotations

from functools import cache

import timm

from birdlab.errors import SpecError, first_line

FILES = ("model.safetensors", "pytorch_model.bin")
"""What timm looks for on the hub, in this order."""


@cache
def require_hub(backbone: str) -> None:
    """Raise SpecError where the hub's weights are not on this machine and it cannot be reached.

    One question without a second try: the hub's own client asks for 47 s where there is no
    network. What only takes its time, or answers with an error, is left to that client's patience.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError

    config = timm.get_pretrained_cfg(backbone)
    repository = None if config is None else config.hf_hub_id
    if not repository:
        return
    if any(isinstance(try_to_load_from_cache(repository, name), str) for name in FILES):
        return
    try:
        get_hf_file_metadata(hf_hub_url(repository, FILES[0]))
    except HfHubHTTPError:
        return
    except Exception as error:  # its versions bring other HTTP libraries, with errors of their own
        if not _is_slow(error):
            raise cannot_fetch(backbone, error) from None


def cannot_fetch(backbone: object, error: Exception) -> SpecError:
    """The error of weights that the hub does not give, with the way out."""
    return SpecError(
        f"the pretrained weights of {backbone!r} cannot be fetched",
        where="model.pretrained",
        got=f"{type(error).__name__}: {first_line(error)}",
        fix="without a network put a local file under [weights] in the lab file and "
        "write `weights: its-name` instead of `pretrained: true`",
    )


def _is_slow(error: BaseException | None) -> bool:
    """Whether nobody answered in time, which may be the network's speed."""
    while error is not None:
        if isinstance(error, TimeoutError):
            return True
        error = error.__cause__ or error.__context__
    return False
