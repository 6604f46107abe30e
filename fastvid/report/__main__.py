"""``python -m fastvid.report RUN``: writes the run's report.html anew."""

import sys

from fastvid.names import print_any_name
from fastvid.report.page import write_report


def main(arguments: list[str]) -> int:
    """Writes the report of each run named."""
    print_any_name()
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if arguments else 2
    for run in arguments:
        try:
            print(write_report(run))
        except FileNotFoundError as error:
            print(error, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
