"""``python -m fastvid.train PROJECT``: run a project's recipe."""

import sys
from pkgutil import resolve_name

from fastvid.command import command, loading, user_errors
from fastvid.projects import registry


@command
def main(arguments: list[str]) -> int:
    """Run the recipe of the project that the first argument names, and return the exit code."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: python -m fastvid.train PROJECT [options]\n\nprojects:")
        for project in registry.projects():
            print(f"  {project.name:12s}{project.summary}")
        print("\npython -m fastvid.train PROJECT --help lists a project's options.")
        return 0 if arguments else 2
    name, *rest = arguments
    with user_errors(ValueError):
        project = registry.find(name)
    with loading():
        from fastvid.train.config import parse

        presets = resolve_name(project.presets)
    config, launch = parse(name, presets, "demo", rest)
    with loading():  # models and all that they need: help and a mistyped option do not wait for them
        from fastvid.train.session import start

        run = resolve_name(project.run)
        report = None if project.report is None else resolve_name(project.report)
    return start(name, config, config.run, launch, lambda session: run(session, config), report)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
