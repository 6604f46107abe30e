"""Texts without a video, in memory."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fastvid.data.source import Sample
from fastvid.names import spelled

_PER_SHARD = 1024  # a list has no natural shards


class TextSource:
    """Conversations that are about no video. The key of each is its number.

    Args:
        texts: fields of each, as :func:`fastvid.data.text.conversation.conversations_of` reads them.
        where: where they come from, for messages.
    """

    def __init__(self, texts: Sequence[Mapping[str, Any]], where: str):
        self._texts = texts
        self.samples = [Sample(f"{number:08d}", described=True, kind="text") for number in range(len(texts))]
        full, rest = divmod(len(texts), _PER_SHARD)
        self.shard_sizes = [_PER_SHARD] * full + ([rest] if rest else [])
        self.description = f"{len(texts)} texts in {spelled(where)}"

    def classes(self) -> list[str]:
        return []

    def prefetch(self, current: Sequence[int], upcoming: Sequence[int]) -> None:
        """Do nothing: they are in memory."""

    def size(self, index: int) -> int:
        return len(self.read(index))

    def read(self, index: int) -> bytes:
        return json.dumps(self._texts[index]).encode()

    def fields(self, index: int) -> dict[str, Any]:
        return dict(self._texts[index])
