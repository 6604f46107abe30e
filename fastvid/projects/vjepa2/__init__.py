"""Fine-tuning of V-JEPA 2 video classifiers: head, pooler, LoRA adapters or everything."""

from fastvid.projects.project import Project

PROJECT = Project(
    name="vjepa2",
    summary="fine-tuning of a V-JEPA 2 video classifier by head, pooler or LoRA",
    presets="fastvid.projects.vjepa2.presets:PRESETS",
    run="fastvid.projects.vjepa2.recipe:run",
    saved="classifier/classifier.json",
    load="fastvid.projects.vjepa2.checkpoint:load_classifier",
    classifies=True,
    export="fastvid.projects.vjepa2.export:export",
)
