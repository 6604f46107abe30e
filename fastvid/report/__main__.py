"""``python -m fastvid.report RUN``: writes the run's report.html anew."""

import sys
from pathlib import Path
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
        from fastvid.report.records import project_of, read_json
    for run in arguments:
        config, facts = (read_json(Path(run) / name, {}) for name in ("config.json", "run.json"))
        with user_errors(ValueError):
            project = registry.find(project_of(config, facts))
        with loading():
            report = None if project.report is None else resolve_name(project.report)
        with user_errors(FileNotFoundError):
            print(write_report(run, report))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
