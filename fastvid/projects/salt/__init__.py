"""SALT: masked-latent pretraining of a video ViT against a frozen teacher."""

from fastvid.projects.project import Project

PROJECT = Project(
    name="salt",
    summary="masked-latent pretraining of a video ViT against a frozen teacher",
    presets="fastvid.projects.salt.presets:PRESETS",
    run="fastvid.projects.salt.recipe:run",
    saved="student/encoder.json",
    load="fastvid.projects.salt.saved:load",
)
