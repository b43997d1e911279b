"""What Kaggle's command line reads beside an upload: the metadata of data set and notebook."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from birdlab.errors import PromotionError
from birdlab.spec.competition import CompetitionSpec

DATASET_FILE, KERNEL_FILE = "dataset-metadata.json", "kernel-metadata.json"
NO_USER = "INSERT_USERNAME"
"""Stands where a bundle was made without a user; Kaggle's own templates say it like this."""
_ELSEWHERE = ("demo", "birdclef-2020")
"""Profiles whose competition Kaggle does not have."""
_SLUG = re.compile(r"[a-z0-9](?:-?[a-z0-9]){5,48}")
_USER = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,48}[A-Za-z0-9])?")
_COMPETITION = re.compile(r"[a-z0-9](?:-?[a-z0-9]){2,98}")


@dataclass(frozen=True)
class KaggleNames:
    """Under which names a bundle is uploaded; `competition` is "" where Kaggle has none.

    Raises PromotionError for a name that Kaggle would not take, or that could leave its folder.
    """

    user: str
    slug: str
    competition: str

    def __post_init__(self) -> None:
        for what, pattern, got, expected in (
            ("user", _USER, self.user, "letters, digits, - and _"),
            ("name of the data set", _SLUG, self.slug, "6 to 50 of a-z, 0-9 and single -"),
            ("competition", _COMPETITION, self.competition or "none", "a-z, 0-9 and single -"),
        ):
            if not pattern.fullmatch(got) or len(got) > 50 + 50 * (what == "competition"):
                raise PromotionError(f"Kaggle takes no such {what}", got=got, expected=expected)

    @property
    def kernel(self) -> str:
        """The slug of the notebook."""
        return f"{self.slug[:42].rstrip('-')}-submit"


def kaggle_competition(competition: CompetitionSpec) -> str:
    """The name of a profile's competition on Kaggle, "" where it has none there."""
    return "" if competition.name in _ELSEWHERE else competition.name


def slug_of(name: str) -> str:
    """A name as Kaggle writes it in addresses: small letters, digits and single hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def dataset_metadata(names: KaggleNames) -> str:
    """dataset-metadata.json of the upload: private unless its owner shares it.

    The licence is `other`: that of the weights is said in the bundle's README.
    """
    return _json(
        {
            "title": _title(names.slug),
            "id": f"{names.user}/{names.slug}",
            "licenses": [{"name": "other"}],
        }
    )


def kernel_metadata(names: KaggleNames, code_file: str) -> str:
    """kernel-metadata.json of the notebook: private, on the CPU, without internet."""
    return _json(
        {
            "id": f"{names.user}/{names.kernel}",
            "title": _title(names.kernel),
            "code_file": code_file,
            "language": "python",
            "kernel_type": "notebook",
            "is_private": True,
            "enable_gpu": False,
            "enable_tpu": False,
            "enable_internet": False,
            "dataset_sources": [f"{names.user}/{names.slug}"],
            "competition_sources": [names.competition] if names.competition else [],
            "kernel_sources": [],
            "model_sources": [],
        }
    )


def _title(slug: str) -> str:
    """A title of which Kaggle makes that slug again; it wants them to agree."""
    return slug.replace("-", " ")


def _json(content: object) -> str:
    return json.dumps(content, indent=2) + "\n"
