"""A training step of the trajectory classifier in full width, on tokens of videos that are drawn here."""

import numpy as np
import torch

from benchmarks.training.salt_sides import autocast
from fastvid.data import Batch
from fastvid.projects.trajectory.batches import pad
from fastvid.projects.trajectory.config import ModelConfig, SupervisionConfig
from fastvid.projects.trajectory.loss import TrajectoryLoss
from fastvid.projects.trajectory.model import TrajectoryModel
from fastvid.projects.trajectory.token_set import TokenSet
from fastvid.random import sample_id

NAME = "trajectory step"
FRAMES, TRACKS, FEATURES = 32, 6, 384


class Step:
    """A model, a batch that stays the same, and an optimizer; a call makes a step.

    Args:
        device: of all.
        videos: in the batch, each of 6 tracks in 32 frames.
    """

    def __init__(self, device: torch.device, videos: int = 64):
        torch.manual_seed(0)
        self.device = device
        self.model = TrajectoryModel(ModelConfig(dropout=0.0), FEATURES, 4).to(device)
        tokens = pad(drawn(videos), range(videos), "motion", device=device)
        ids = torch.arange(videos)
        self.batch = Batch(keys=[str(i) for i in range(videos)], ids=ids, view_hashes=ids, extra=vars(tokens))
        self.loss_of = TrajectoryLoss("attention", SupervisionConfig(), warmup=1)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, fused=True)

    def loss(self) -> torch.Tensor:
        """Return the loss of the batch, under autocast on a GPU."""
        with autocast(self.device):
            return self.loss_of(self.model, self.batch, 1)[0]

    def __call__(self) -> None:
        """Make a step, and wait for it."""
        self.loss().backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def check_same(step: Step) -> None:
    """Raise AssertionError unless the loss is that of a CPU in float32, to bfloat16's rounding."""
    found, expected = step.loss().item(), Step(torch.device("cpu"), len(step.batch.keys)).loss().item()
    assert abs(found - expected) <= 3e-2 * abs(expected), f"the loss is {found}, on a CPU it is {expected}"


def drawn(videos: int) -> TokenSet:
    """Draw the tokens of videos; half of the tracks of each last throughout, the others for three frames."""
    random = np.random.default_rng(0)
    rows = []
    for v in range(videos):
        for m in range(TRACKS):
            first = 0 if m % 2 else int(random.integers(FRAMES - 3))
            rows += [(v, t, m) for t in range(first, FRAMES if m % 2 else first + 3)]
    video, frame, track = (np.array(column) for column in zip(*sorted(rows), strict=True))
    corner = random.uniform(0.1, 0.8, (len(rows), 2))
    keys = [f"drawn/{i}" for i in range(videos)]
    return TokenSet(
        keys=keys, ids=np.array([sample_id(key) for key in keys]), frames=FRAMES,
        offsets=np.concatenate([[0], np.cumsum(np.bincount(video, minlength=videos))]), frame=frame.astype(np.int16),
        track=track.astype(np.int16), boxes=np.concatenate([corner, corner + 0.1], 1).astype(np.float32),
        velocity=np.zeros((len(rows), 2), np.float32), persistent=track % 2 == 1,
        features=random.standard_normal((len(rows), FEATURES)).astype(np.float16), motion=np.arange(videos) % 4,
        noise=np.arange(videos) % 2,
    )  # fmt: skip
