"""``python -m fastvid.data COMMAND``: data sets from the command line; each command explains itself with --help.

demo  --out DIR        write the demo data set: labelled videos of moving shapes, as tar shards
pack  SRC --out DIR    pack a collection of videos into tar shards
check DIR              compare shards with their checksums, and decode every video
info  DIR              counts, labels, durations, codecs, sizes, and what decoding costs here
index DIR              index existing WebDataset tars where they lie
"""

import importlib
import sys

import tyro

from fastvid.names import print_any_name

_COMMANDS = {
    "demo": ("fastvid.data.demo_command", "DemoCommand"),
    "pack": ("fastvid.data.pack.command", "PackCommand"),
    "check": ("fastvid.data.check", "CheckCommand"),
    "info": ("fastvid.data.info", "InfoCommand"),
    "index": ("fastvid.data.index", "IndexCommand"),
}


def main(arguments: list[str]) -> int:
    """Runs a command; returns the exit code."""
    print_any_name()
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if arguments else 2
    command, *rest = arguments
    if command not in _COMMANDS:
        print(f"no command {command!r}: there are {', '.join(_COMMANDS)}", file=sys.stderr)
        return 2
    module, options = _COMMANDS[command]
    loaded = importlib.import_module(module)
    return loaded.run(tyro.cli(getattr(loaded, options), prog=f"python -m fastvid.data {command}", args=rest))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
