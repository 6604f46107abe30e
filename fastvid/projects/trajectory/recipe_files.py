"""Names of the files that a run's result is in."""

RESULT = "trajectory.json"
"""All that was measured."""
EFFICIENCY = "efficiency_statistics.json"
"""File of what early decisions of the first worker save."""
