"""Classes of a V-JEPA 2 run whose videos are all unusable."""

import logging
from collections.abc import Mapping
from typing import Literal

from fastvid.data import Quarantine
from fastvid.data.loader.decode_ahead import NO_VIEW
from fastvid.data.splits.split import labels_of
from fastvid.latents import LatentStore
from fastvid.train.labelled import LabelledData, lost_classes
from fastvid.train.session import UserError

log = logging.getLogger(__name__)

_PARTS = {"train": "training", "val": "validation", "test": "test"}


class LostClasses:
    """Names each class, once, whose videos in a part are all unusable.

    Args:
        data: the videos.
        stores: features of the parts that have them: what is missing there is unusable.
        quarantine: record of the videos that could not be used.
    """

    def __init__(self, data: LabelledData, stores: Mapping[str, LatentStore], quarantine: Quarantine):
        self._data, self._stores, self._quarantine = data, stores, quarantine
        self._named: set[tuple[str, str]] = set()

    def name(self, *parts: Literal["train", "val", "test"]) -> None:
        """Log the classes that these parts have lost and that were not named before.

        Raises:
            UserError: the features of all training videos are there, and all classes but one have lost theirs.
        """
        for part in parts:
            source, store = getattr(self._data, part), self._stores.get(part)
            if store is None:
                usable = labels_of(source).keys() - self._quarantine.bad.keys()
            else:
                usable = {key for key, hashes in store.clips() if NO_VIEW not in hashes}
            lost = lost_classes(source, usable)
            if part == "train" and store is not None and len(lost) > len(self._data.classes) - 2:
                raise UserError(
                    f"training needs two classes, and no training video of {', '.join(lost)} can be used: see "
                    "bad_samples.jsonl"
                )
            new = [name for name in lost if (part, name) not in self._named]
            self._named.update((part, name) for name in new)
            if new:
                log.warning(
                    "%d of %d classes have no %s video that can be used: %s; see bad_samples.jsonl",
                    len(new), len(self._data.classes), _PARTS[part], ", ".join(new),
                )  # fmt: skip
