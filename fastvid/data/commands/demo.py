"""``python -m fastvid.data demo``."""

import dataclasses
from pathlib import Path

from fastvid.data.demo.files import DemoSize, write_demo
from fastvid.data.exit_codes import exit_codes
from fastvid.data.progress import Progress


@dataclasses.dataclass(frozen=True)
class DemoCommand(DemoSize):
    """Writes the demo data set: folders train and test of WebDataset tar shards."""

    out: Path = Path("demo")
    """Folder to write; must not exist."""


@exit_codes
def run(options: DemoCommand) -> int:
    """Run the command and return the exit code."""
    size = DemoSize(options.train, options.test, options.seed, options.spec)
    with Progress("video") as progress:
        write_demo(options.out, size, progress)
    print(f"{size.train} training and {size.test} test videos in {options.out}")
    return 0
