"""Sources that misbehave, in a module that the decoding process can import too."""

import os
import time
from pathlib import Path

from fastvid.data.folder import FolderSource


class Wrong(FolderSource):
    """Has a mistake in its code."""

    def read(self, index):
        return 1 / 0


class Deadly(FolderSource):
    """Kills the process that reads one of its videos: as often as its budget of files says."""

    def __init__(self, root, budget: Path):
        super().__init__(root)
        self._budget = budget

    def read(self, index):
        if self.samples[index].key == "03.mp4" and (left := sorted(self._budget.iterdir())):
            left[0].unlink()
            os._exit(11)
        return super().read(index)


class Slow(FolderSource):
    """Takes its time, and says so."""

    def read(self, index):
        time.sleep(0.05)
        return super().read(index)


class Curious(FolderSource):
    """Notes which modules the process that reads it has loaded."""

    def __init__(self, root, note: Path):
        super().__init__(root)
        self._note = note

    def read(self, index):
        import sys

        part = self._note.with_name(f"{index}.part")
        part.write_text("\n".join(sys.modules))
        part.rename(self._note)
        return super().read(index)
