"""``python -m fastvid.train PROJECT``: runs a recipe."""

import importlib
import sys

from fastvid.command import command

RECIPES = {
    "salt": "masked-latent pretraining of a video ViT against a frozen teacher",
    "vjepa2": "fine-tuning of a V-JEPA 2 video classifier by head, pooler or LoRA",
}


@command
def main(arguments: list[str]) -> int:
    """Runs the recipe that the first argument names."""
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
    return importlib.import_module(f"fastvid.train.{project}").main(rest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
