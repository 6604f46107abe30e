import pytest
import torch

from fastvid.ops import mask_distance, multiblock_mask


def brute_force(masked: torch.Tensor, grid: tuple[int, int, int]) -> torch.Tensor:
    """Every token against every masked one."""
    axes = [torch.arange(n) for n in grid]
    place = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, 2).float()
    return torch.stack([torch.cdist(place, place[row]).amin(1) for row in masked])


@pytest.mark.parametrize("grid", [(8, 4, 4), (1, 5, 7), (4, 1, 1), (3, 6, 2)])
def test_it_is_the_distance_to_the_nearest_masked_token(grid):
    tokens = grid[0] * grid[1] * grid[2]
    for count in (1, 2, tokens - 1):
        _, masked = multiblock_mask(torch.arange(5), grid, masked=count, visible=tokens - count, seed=0, draw=count)
        got = mask_distance(masked, grid)
        torch.testing.assert_close(got, brute_force(masked, grid))
        assert got.gather(1, masked).count_nonzero() == 0


def test_by_hand():
    """A line of time of 1 x 2 tokens, the first is masked: 0 1 / 1 sqrt(2) / 2 sqrt(5)."""
    got = mask_distance(torch.tensor([[0]]), (3, 1, 2))
    torch.testing.assert_close(got, torch.tensor([[0, 1, 1, 2**0.5, 2, 5**0.5]]))


def test_where_nothing_is_masked_it_is_infinite():
    assert mask_distance(torch.empty(2, 0, dtype=torch.int64), (2, 2, 2)).isinf().all()


@pytest.mark.parametrize(
    ("masked", "grid", "error", "words"),
    [
        (torch.tensor([[0], [8]]), (2, 2, 2), IndexError, r"masked\[1, 0\] is 8, outside \[0, 8\)"),
        (torch.tensor([0]), (2, 2, 2), ValueError, r"masked must be \[B, M\], got \(1,\)"),
        (torch.tensor([[0]], dtype=torch.int32), (2, 2, 2), TypeError, "masked must be int64"),
        (torch.tensor([[0]]), (2, 2), ValueError, r"grid must be \(T, H, W\), each at least 1; got \(2, 2\)"),
        (torch.tensor([[0]]), (2, 0, 2), ValueError, "each at least 1"),
    ],
)
def test_refusals_are_sentences(masked, grid, error, words):
    with pytest.raises(error, match=words):
        mask_distance(masked, grid)
