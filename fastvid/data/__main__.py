"""``python -m fastvid.data COMMAND``: data sets from the command line.

demo --out DIR    write the demo data set: labelled videos of moving shapes, as tar shards
"""

import dataclasses
import sys
from pathlib import Path

import tyro
from tqdm import tqdm

from fastvid.data.demo_files import DemoSize, write_demo


@dataclasses.dataclass(frozen=True)
class DemoCommand(DemoSize):
    """Writes the demo data set: folders train and test of WebDataset tar shards."""

    out: Path = Path("demo")
    """Folder to write; must not exist."""


def main(arguments: list[str]) -> int:
    """Runs a command; returns the exit code."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if arguments else 2
    command, *rest = arguments
    if command != "demo":
        print(f"no command {command!r}: the only one is demo", file=sys.stderr)
        return 2
    options = tyro.cli(DemoCommand, prog="python -m fastvid.data demo", args=rest)
    size = DemoSize(options.train, options.test, options.seed, options.spec)
    try:
        with tqdm(total=size.train + size.test, unit="video", disable=not sys.stderr.isatty()) as bar:
            write_demo(options.out, size, lambda done, total: bar.update())
    except FileExistsError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{size.train} training and {size.test} test videos in {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
