"""``python -m fastvid.report RUN``: writes the run's report.html anew."""

import sys

from fastvid.command import command, loading, user_errors


@command
def main(arguments: list[str]) -> int:
    """Write the report of each named run."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if arguments else 2
    with loading():
        from fastvid.report.page import write_report
    for run in arguments:
        with user_errors(FileNotFoundError):
            print(write_report(run))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
