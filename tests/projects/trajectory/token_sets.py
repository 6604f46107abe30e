"""Sets of tokens made by hand."""

import numpy as np

from fastvid.projects.trajectory.token_set import TokenSet
from fastvid.random import sample_id


def token_set(videos, frames, *, motion=None, noise=None, dim=4):
    """A set of videos, each a list of tracks (persistent, first frame, last frame). Features say the kind, boxes stand
    still."""
    rows = []
    for v, tracks in enumerate(videos):
        found = [(t, m, kind) for m, (kind, first, last) in enumerate(tracks) for t in range(first, last + 1)]
        rows += [(v, t, m, kind) for t, m, kind in sorted(found)]
    video, frame, track, kind = (np.array([row[i] for row in rows]) for i in range(4))
    features = np.where(kind[:, None], 1.0, -1.0) * np.ones(dim)
    keys = [f"hand/{v}" for v in range(len(videos))]
    boxes = np.tile(np.array([0.4, 0.4, 0.5, 0.5]), (len(rows), 1)) + 0.01 * track[:, None]
    return TokenSet(
        keys=keys, ids=np.array([sample_id(key) for key in keys]),
        offsets=np.concatenate([[0], np.cumsum(np.bincount(video, minlength=len(videos)))]), frames=frames,
        frame=frame.astype(np.int16), track=track.astype(np.int16), boxes=boxes.astype(np.float32),
        velocity=np.zeros((len(rows), 2), np.float32), persistent=kind.astype(bool),
        features=features.astype(np.float16), motion=np.arange(len(videos)) % 4 if motion is None else np.array(motion),
        noise=np.arange(len(videos)) % 2 if noise is None else np.array(noise),
    )  # fmt: skip


def random_set(count, frames=8, seed=0):
    """Videos of one persistent track that lasts throughout, and one to four transient ones of up to three frames."""
    random = np.random.default_rng(seed)
    videos = []
    for _ in range(count):
        births = random.integers(0, frames - 3, random.integers(1, 5))
        videos.append([(True, 0, frames - 1), *((False, b, b + random.integers(0, 3)) for b in births)])
    return token_set(videos, frames)
