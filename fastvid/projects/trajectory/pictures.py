"""Pictures of a trajectory run."""

from pathlib import Path

from fastvid.projects.trajectory.config import TrajectoryConfig
from fastvid.projects.trajectory.tokens import TokenSet


def write_pictures(path: Path, config: TrajectoryConfig, test: TokenSet) -> None:
    """Write the pictures of a run."""
