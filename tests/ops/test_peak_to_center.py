import pytest
import torch

from fastvid.ops import peak_to_center, query_attend


def test_centres_of_patches():
    """Patch w of W covers [2 w / W - 1, 2 (w + 1) / W - 1]; its centre is the middle."""
    for H, W in ((1, 1), (2, 3), (16, 16)):
        got = peak_to_center(torch.arange(H * W).view(H, W), (H, W))
        assert got.dtype == torch.float32
        x = (torch.arange(W) + 0.5) * 2 / W - 1
        y = (torch.arange(H) + 0.5) * 2 / H - 1
        torch.testing.assert_close(got, torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1))


def test_time_does_not_show_and_a_prefix_looks_at_the_middle():
    peak = torch.arange(3 + 2 * 4 * 5)
    got = peak_to_center(peak, (2, 4, 5), prefix=3)
    assert not got[:3].any()
    frame = peak_to_center(torch.arange(20), (4, 5))
    assert torch.equal(got[3:], torch.cat([frame, frame]))


def test_shapes_and_compile():
    assert peak_to_center(torch.zeros(2, 0, 3, dtype=torch.int64), (2, 2)).shape == (2, 0, 3, 2)
    query, key = torch.randn(2, 3, 1, 4), torch.randn(2, 3, 7, 4)

    def look(query, key):
        return peak_to_center(query_attend(query, key, key, return_stats=True)[2], (2, 3), prefix=1)

    compiled = torch.compile(look, fullgraph=True, dynamic=True)
    assert look(query, key).shape == (2, 3, 1, 2)
    assert torch.equal(compiled(query, key), look(query, key))


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"peak": torch.tensor([0, 7])}, IndexError, r"peak holds 7, outside \[0, 7\)"),
        ({"peak": torch.tensor([-1, 7])}, IndexError, r"peak holds -1, outside \[0, 7\)"),
        ({"peak": torch.tensor([0], dtype=torch.int32)}, TypeError, "peak must be int64"),
        ({"grid": (6,)}, ValueError, r"grid must be \(H, W\) or \(T, H, W\), each at least 1; got \(6,\)"),
        ({"grid": (2, 0)}, ValueError, "each at least 1"),
        ({"prefix": -1}, ValueError, "at least 0; got -1"),
    ],
)
def test_refusals_are_sentences(change, error, words):
    with pytest.raises(error, match=words):
        peak_to_center(**{"peak": torch.tensor([0]), "grid": (2, 3), "prefix": 1, **change})
