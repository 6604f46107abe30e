"""Exit codes of ``python -m fastvid.data``; the same rule holds for every command."""

import functools
import sys
from collections.abc import Callable
from typing import TypeVar

from fastvid.command import sentence

Options = TypeVar("Options")


def exit_codes(run: Callable[[Options], int]) -> Callable[[Options], int]:
    """Decorate the function that runs a command: print one sentence on what stopped it, and return the exit code.

    0: done. 1: done, but something is wrong with the data, such as the faults that ``check`` finds; or a disk or a
    store failed. 2: not done, because the command cannot take the data or the options (ValueError, FileNotFoundError
    and FileExistsError). 130: interrupted.
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
            raise  # the reader of the output is gone: fastvid.command reports it
        except OSError as error:
            print(sentence(error), file=sys.stderr)
            return 1

    return guarded
