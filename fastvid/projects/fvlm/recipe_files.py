"""Names of the files that a run's result is in."""

RESULT = "measures.json"
"""All that was measured."""
GAZE_VIDEO = "gaze.mp4"
"""The gaze over the frames of some test clips."""
MODEL, COARSE_MODEL = "model", "model-coarse-alone"
"""Folders of the trained models."""
RESULTS = (RESULT, GAZE_VIDEO, MODEL, COARSE_MODEL)
"""Files made of the trained models, and set aside where they are trained on."""
