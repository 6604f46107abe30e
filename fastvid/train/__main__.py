"""``python -m fastvid.train PROJECT``: runs a recipe."""

import importlib
import sys

from fastvid.command import command, loading

RECIPES = {
    "salt": "masked-latent pretraining of a video ViT against a frozen teacher",
    "vjepa2": "fine-tuning of a V-JEPA 2 video classifier by head, pooler or LoRA",
}


@command
def main(arguments: list[str]) -> int:
    """Runs the recipe that the first argument names; returns the exit code."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: python -m fastvid.train PROJECT [options]\n\nprojects:")
        for name, purpose in RECIPES.items():
            print(f"  {name:8s}{purpose}")
        print("\npython -m fastvid.train PROJECT --help lists a project's options.")
        return 0 if arguments else 2
    project, *rest = arguments
    if project not in RECIPES:
        print(f"no project {project!r}: choose one of {', '.join(RECIPES)}", file=sys.stderr)
        return 2
    with loading():
        presets = importlib.import_module(f"fastvid.train.{project}_presets").PRESETS
        from fastvid.train.config import parse
    config, launch = parse(project, presets, "demo", rest)
    with loading():  # models and all that they need: help and a mistyped option do not wait for them
        recipe = importlib.import_module(f"fastvid.train.{project}")
        from fastvid.train.session import start
    return start(project, config, config.run, launch, lambda session: recipe.run(session, config))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
