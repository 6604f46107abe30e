"""``fastvid COMMAND``, or ``python -m fastvid COMMAND``: the package's commands under one name.

train    PROJECT       train a model: salt, vjepa2, trajectory or fvlm
data     COMMAND       make, pack, check and describe data sets: demo, pack, check, info, index
eval     RUN           probe the encoders of a run on labelled videos, or ask a vision-language model questions
cache                  store what a frozen teacher makes of the videos
sweep    PROJECT       train with many settings, and compare
encode   RUN VIDEOS    write the features that an encoder has of videos
predict  RUN VIDEO...  classify videos with a trained classifier
caption  RUN VIDEO     describe a video, or answer a question about it, and show where the model looked
export   RUN           write a trained model for other programs
report   RUN           write the report of a run anew
info                   versions, devices and decoders, for a bug report

fastvid COMMAND --help lists a command's options. Each is also python -m fastvid.COMMAND.
"""

import importlib
import sys
from collections.abc import Sequence

from fastvid.command import command, interrupt_quietly

# The module whose main function runs the command. It is imported when the command is given: most import torch.
COMMANDS = {
    "train": "fastvid.train.__main__",
    "data": "fastvid.data.__main__",
    "eval": "fastvid.eval.__main__",
    "cache": "fastvid.cache.__main__",
    "sweep": "fastvid.sweep.__main__",
    "encode": "fastvid.encode",
    "predict": "fastvid.predict",
    "caption": "fastvid.caption",
    "export": "fastvid.export",
    "report": "fastvid.report.__main__",
    "info": "fastvid.info",
}


@command
def main(arguments: Sequence[str]) -> int:
    """Run the command that the first argument names, and return its exit code."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__.rstrip() if __doc__ else ", ".join(COMMANDS))
        return 0 if arguments else 2
    name, *rest = arguments
    if name not in COMMANDS:
        print(f"no command {name!r}: choose one of {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    interrupt_quietly()  # while its module is imported; the command itself ends as it always does
    return importlib.import_module(COMMANDS[name]).main(rest)


def run() -> int:
    """Run the command line of the ``fastvid`` script."""
    return main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(run())
