"""``python -m fastvid.report RUN``: writes the run's report.html anew."""

import sys
from pkgutil import resolve_name

from fastvid.command import command, loading, user_errors
from fastvid.projects import registry


@command
def main(arguments: list[str]) -> int:
    """Write the report of each named run."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if arguments else 2
    with loading():
        from fastvid.report.page import write_report
        from fastvid.report.records import RunRecords
    for run in arguments:
        with user_errors(FileNotFoundError):
            project = RunRecords.read(run).facts.get("project")
        report = registry.find(project).report if project in registry.names() else None  # older runs do not say
        print(write_report(run, None if report is None else resolve_name(report)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
