"""Sources that misbehave, in a module that the decoding process can import too."""

import os
import sys
import threading
import time
from pathlib import Path

from fastvid.data.sources.folder import FolderSource


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
        part = self._note.with_name(f"{index}.part")
        part.write_text("\n".join(sys.modules))
        part.rename(self._note)
        return super().read(index)


class Spoken(Exception):
    """Loses an argument on its way to another process."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


class Unsendable(FolderSource):
    """Fails in ways that cannot be pickled."""

    def __init__(self, root, how: str):
        super().__init__(root)
        self._how = how

    def read(self, index):
        if self._how == "lock":
            error = RuntimeError("holds a lock")
            error.lock = threading.Lock()
            raise error
        if self._how == "arguments":
            raise Spoken("this", "that")
        sys.exit("enough")


class Unmakeable(FolderSource):
    """Cannot be made in another process."""

    def __setstate__(self, state):
        raise FileNotFoundError("the other half of the source")


class Stuck(FolderSource):
    """Cannot leave its process."""

    def __init__(self, root):
        super().__init__(root)
        self._lock = threading.Lock()
