"""``python -m fastvid.data COMMAND``: data sets from the command line; --help explains each command.

demo  --out DIR        write the demo data set: labelled videos of moving shapes, as tar shards
pack  SRC --out DIR    pack a collection of videos into tar shards
check DIR              compare shards with their checksums, and decode every video
info  DIR              counts, labels, durations, codecs, sizes, and what decoding costs here
index DIR              index existing WebDataset tars where they lie

DIR holds shards, or folders train, val and test of them. Exit codes: 0 done, 1 faults or failed work, 2 wrong data or
options, 130 interrupted.
"""

import importlib
import sys

import tyro

from fastvid.command import command, loading
from fastvid.ranges import check_numbers

_COMMANDS = {
    "demo": ("fastvid.data.commands.demo", "DemoCommand"),
    "pack": ("fastvid.data.pack.command", "PackCommand"),
    "check": ("fastvid.data.commands.check", "CheckCommand"),
    "info": ("fastvid.data.commands.info", "InfoCommand"),
    "index": ("fastvid.data.commands.index", "IndexCommand"),
}


@command
def main(arguments: list[str]) -> int:
    """Run a command and return the exit code."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if arguments else 2
    name, *rest = arguments
    if name not in _COMMANDS:
        print(f"no command {name!r}: there are {', '.join(_COMMANDS)}", file=sys.stderr)
        return 2
    module, options = _COMMANDS[name]
    with loading():
        loaded = importlib.import_module(module)
    config = tyro.cli(getattr(loaded, options), prog=f"python -m fastvid.data {name}", args=rest)
    check_numbers(config)
    return loaded.run(config)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
