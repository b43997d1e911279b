"""Augmentations of the SED recipe, batched.

Each kind has one function `(spec, batch, draws) -> batch` for waveforms, or
`(spec, mel, draws) -> mel` for spectrograms. What else is to be known of it stands in its
`@implements(...)`:

- `fetch`: a function `(spec, draws, source) -> dict` for one that needs more audio (a partner,
  noise). It runs in the loader; what it read is `batch.fetched[spec.name]`, and `index` in it
  holds the places of the clips that are changed.
- `lazy=True`: the function leaves `batch.wave` alone and hands what it does to clips to
  `batch.change`: a CPU then does it while the clip is in its cache.
- `drawn`: a function `(spec, batch, draws) -> dict` of the numbers behind it, which
  `birdlab augment` shows: an array by name, [B] or [B, k].

A batch belongs to the function that gets it: it may be changed in place.
Source of the recipe: BirdCLEF 2023, first place.
"""

from birdlab.sed.augment import filters, masks, mixing, noise  # noqa: F401 (registers the kinds)
from birdlab.sed.augment.chain import augment_mel, augment_wave, fetch_all

__all__ = ["augment_mel", "augment_wave", "fetch_all"]
