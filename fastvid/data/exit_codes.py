"""Exit codes of ``python -m fastvid.data``, the same rule for every command."""

import functools
import sys
from collections.abc import Callable
from typing import TypeVar

from fastvid.command import sentence

Options = TypeVar("Options")


def exit_codes(run: Callable[[Options], int]) -> Callable[[Options], int]:
    """Decorate the function that runs a command: say in one sentence what stopped it, and by which code.

    0: done. 1: done, and something is wrong with the data, such as the faults that ``check`` names; or a disk or a
    store failed on the way. 2: not done, since the data or the options are not what the command takes; here those are
    the exceptions ValueError, FileNotFoundError and FileExistsError. 130: interrupted.
    """

    @functools.wraps(run)
    def guarded(options: Options) -> int:
        try:
            return run(options)
        except (FileNotFoundError, FileExistsError) as error:
            print(sentence(error), file=sys.stderr)
            return 2
        except ValueError as error:
            print(error, file=sys.stderr)
            return 2
        except BrokenPipeError:
            raise  # the reader of the output is gone: said by fastvid.command
        except OSError as error:
            print(sentence(error), file=sys.stderr)
            return 1

    return guarded
