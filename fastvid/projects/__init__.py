"""The projects: a folder for each, none importing another. ``fastvid.projects.load.load`` opens what a run saved."""
