"""Recomputes some of a cache's latents and compares."""

from dataclasses import dataclass

import torch.nn.functional as F

from fastvid.command import user_errors
from fastvid.data import EpochOrder
from fastvid.data.loader.decode_ahead import NO_VIEW, decode_sample
from fastvid.latents.compute import chosen_tokens, rows_of_tokens
from fastvid.latents.job import CacheJob
from fastvid.latents.stores import LatentCache

# The least cosine between a clip's stored and recomputed latents.
THRESHOLDS = {"fp16": 0.9999, "bf16": 0.9999, "int8": 0.999}
# Half a step of an element, relative: to itself for floats, to its token's scale for int8. A scale is rounded too,
# by up to 2**-11, which moves an element of 127 steps by 0.062 steps.
_ROUNDING = {"fp16": 2.0**-11, "bf16": 2.0**-8, "int8": 0.5 + 127 * 2.0**-11}
_TINY = 2.0**-24  # float16 cannot say how small a smaller number is
_SAMPLE_DRAW = 2**31 + 1  # an epoch that no training comes to


@dataclass(frozen=True)
class Verdict:
    """The difference between stored latents and recomputed ones.

    Attributes:
        views: compared.
        least_cosine: of a view's latents as one vector, over the views.
        least_token_cosine: of a single token's.
        greatest_error: of an element, absolute.
        error_in_bounds: the greatest error of an element over what rounding to the form explains; above 1 the teacher
            or the pixels were not bit for bit the same, as on another processor.
        threshold: of ``least_cosine``.
        missing: views of the sample that the cache lists as bad.
    """

    views: int
    least_cosine: float
    least_token_cosine: float
    greatest_error: float
    error_in_bounds: float
    threshold: float
    missing: int

    @property
    def passed(self) -> bool:
        """Return whether the cache holds what its manifest says."""
        return self.views > 0 and self.least_cosine > self.threshold


def verify(job: CacheJob, sample: float, seed: int) -> Verdict:
    """Compare a sample of views, in the space they are stored in.

    Args:
        job: the cache's.
        sample: share of the views; at least one.
        seed: seed of the choice.

    Raises:
        UserError: the cache is damaged, incomplete, or of other views.
    """
    m = job.manifest
    with user_errors(ValueError):
        cache = LatentCache(job.folder)
    total = len(job.source.samples) * m.views_per_clip
    chosen = EpochOrder(seed, _SAMPLE_DRAW, [total])[: max(1, min(total, round(sample * total)))]
    cosines, token_cosines, errors, shares, missing = [], [], [0.0], [0.0], 0
    for number in sorted(chosen):
        clip = decode_sample(job.draws, job.source, number // m.views_per_clip)
        view = number % m.views_per_clip
        pixels = clip.pixels[view]
        if pixels is None or clip.hashes[view] == NO_VIEW:
            missing += 1
            continue
        fresh = job.compute([pixels])
        if m.is_subset:
            fresh = rows_of_tokens(fresh, chosen_tokens(m, clip.sample.key)[view, None], m.layers)
        fresh = fresh.cpu()
        with user_errors(ValueError, KeyError):
            stored = cache.read([clip.sample.key], [clip.hashes[view]])
        values = stored.float()
        cosines.append(float(F.cosine_similarity(values.flatten(1).double(), fresh.flatten(1).double())))
        token_cosines.append(float(F.cosine_similarity(values, fresh, dim=-1).min()))
        error = (values - fresh).abs()
        unit = fresh.abs() if stored.scale is None else stored.scale.float().unsqueeze(-1)
        errors.append(float(error.max()))
        shares.append(float((error / (_ROUNDING[m.form] * unit + _TINY)).max()))
    return Verdict(
        len(cosines), min(cosines, default=0.0), min(token_cosines, default=0.0), max(errors), max(shares),
        THRESHOLDS[m.form], missing,
    )  # fmt: skip
