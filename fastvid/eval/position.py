"""A dense probe: where a moving thing is, seen from single tokens, told by ridge regression."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from fastvid.data import Batch

_PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # on the mean square error of standardised features
_HELD = 5  # every fifth video chooses the penalty

# Maps keys of B videos to positions float32 [B, T', 2] on a torus, x and y in [0, 1), one for each time slot of tokens.
Positions = Callable[[Sequence[str]], torch.Tensor]


@dataclass(frozen=True)
class PositionScore:
    """The result of telling a thing's position from single tokens.

    Attributes:
        r2: share of the variance of the way to the thing, as points on two circles, that is explained; 0 for the mean.
        error: mean distance between the told and the true place, as a share of the frame's side.
        low: end of the 95 % interval of ``error``, over videos.
        high: the other end.
        videos: tested.
    """

    r2: float
    error: float
    low: float
    high: float
    videos: int

    def __str__(self) -> str:
        return (
            f"R2 {self.r2:.3f}, off by {100 * self.error:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}] of a side"
        )


@dataclass
class _Sums:
    """Sums over tokens, which are all that ridge regression needs: memory does not grow with the videos."""

    xx: torch.Tensor
    xy: torch.Tensor
    yy: torch.Tensor
    count: int = 0

    @classmethod
    def empty(cls, width: int, outputs: int) -> "_Sums":
        zeros = torch.zeros(width + 1, width + 1 + outputs, dtype=torch.float64)
        return cls(zeros[:, : width + 1].clone(), zeros[:, width + 1 :].clone(), torch.zeros(outputs).double())

    def add(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Add tokens [n, width] and what they are to tell, [n, outputs]."""
        x = torch.cat([x.double(), torch.ones(len(x), 1, dtype=torch.float64)], dim=1)
        self.xx += x.T @ x
        self.xy += x.T @ y.double()
        self.yy += y.double().square().sum(0)
        self.count += len(x)

    def __add__(self, other: "_Sums") -> "_Sums":
        return _Sums(self.xx + other.xx, self.xy + other.xy, self.yy + other.yy, self.count + other.count)

    def fit(self, penalty: float) -> torch.Tensor:
        """Return the weights [width + 1, outputs]; the last row is the bias, which is not penalised."""
        mean = self.xx[-1, :-1] / self.count
        spread = (self.xx.diagonal()[:-1] / self.count - mean.square()).clamp(min=1e-12)
        ridge = torch.cat([penalty * spread, torch.zeros(1, dtype=torch.float64)]) * self.count
        return torch.linalg.solve(self.xx + torch.diag(ridge), self.xy)

    def square_error(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the sum of square errors of a fit on these tokens."""
        return (self.yy - 2 * (weight * self.xy).sum(0) + (weight * (self.xx @ weight)).sum(0)).sum()


@torch.no_grad()
def position_probe(
    encoder: nn.Module,
    grid: tuple[int, int, int],
    positions: Positions,
    train: Callable[[], Iterable[Batch]],
    test: Callable[[], Iterable[Batch]],
    device: torch.device,
) -> PositionScore:
    """Tell from each token alone which way, and how far, the thing is at the token's moment.

    The way goes from the middle of the token's patch to the thing, so that one linear map can serve all tokens: what a
    token has seen of the thing says the same of the way wherever the token is. The frame is a torus, as the demo's is:
    sine and cosine of both coordinates of the way are regressed. Every fifth training video chooses the penalty.

    Args:
        encoder: uint8 [B, T, H, W, 3] -> [B, N, D], on ``device``; it is put into eval mode.
        grid: its (T', H', W').
        positions: of the videos, such as :func:`fastvid.data.demo.positions.demo_positions`.
        train: returns batches of clips to fit on.
        test: returns those to test on.
        device: where the encoder is.
    """
    encoder.eval()

    def tokens(batches: Iterable[Batch]) -> Iterable[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Yield tokens [B, T', n, D], points on the circles [B, T', n, 4] and ways [B, T', n, 2] in [0, 1)."""
        for batch in batches:
            assert batch.clips is not None
            z = encoder(batch.clips.to(device)).float().cpu().unflatten(1, (grid[0], -1))
            ways = (positions(batch.keys).unsqueeze(2) - _middles(grid)) % 1
            yield z, _on_circles(ways), ways

    sums: list[_Sums] = []
    seen = 0
    for z, points, _ in tokens(train()):
        sums = sums or [_Sums.empty(z.shape[-1], 4), _Sums.empty(z.shape[-1], 4)]
        for row in range(len(z)):
            sums[(seen + row) % _HELD == _HELD - 1].add(z[row].flatten(0, 1), points[row].flatten(0, 1))
        seen += len(z)
    fitted, held = sums
    penalty = min(_PENALTIES, key=lambda p: float(held.square_error(fitted.fit(p)))) if held.count else _PENALTIES[0]
    whole = fitted + held
    weight = whole.fit(penalty)
    tested = _Sums.empty(len(weight) - 1, 4)
    errors = []
    for z, points, ways in tokens(test()):
        tested.add(z.flatten(0, 2), points.flatten(0, 2))
        told = (z.double() @ weight[:-1] + weight[-1]).float()
        off = (_from_circles(told) - ways + 0.5) % 1 - 0.5
        errors.append(off.norm(dim=-1).flatten(1).mean(1))
    error = torch.cat(errors)
    half = 1.959964 * float(error.std() / math.sqrt(len(error)))
    mean = float(error.mean())
    around = (tested.yy - tested.xy[-1].square() / tested.count).sum()  # the error of the mean
    r2 = 1 - float(tested.square_error(weight) / around)
    return PositionScore(r2, mean, mean - half, mean + half, len(error))


def _middles(grid: tuple[int, int, int]) -> torch.Tensor:
    """Return the middles of the patches of a frame, (x, y) as shares of its side, [H' * W', 2]."""
    y, x = ((torch.arange(n) + 0.5) / n for n in grid[1:])
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).flatten(0, 1)


def _on_circles(positions: torch.Tensor) -> torch.Tensor:
    """Map positions [..., 2] in [0, 1) to [..., 4]: cosines, then sines."""
    angle = 2 * math.pi * positions
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


def _from_circles(points: torch.Tensor) -> torch.Tensor:
    """Map [..., 4] back to the nearest positions [..., 2] in [0, 1)."""
    cos, sin = points.chunk(2, dim=-1)
    return torch.atan2(sin, cos) / (2 * math.pi) % 1
