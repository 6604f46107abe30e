"""Every registered op: schema, fake implementation and dispatch are what PyTorch expects."""

import pytest
import torch

from fastvid.ops import MaskSpec, quantize_tokens

IDS = torch.arange(3)
INDEX = torch.tensor([[0, 2, 5], [1, 3, 4]])
CLIP = torch.randint(256, (2, 4, 32, 32, 3), dtype=torch.uint8)
MEAN, STD = [0.5, 0.5, 0.5], [0.2, 0.2, 0.2]

QUERY, KEY, VALUE = torch.randn(2, 2, 3, 1, 8), torch.randn(2, 6, 3, 8).transpose(1, 2), torch.randn(2, 3, 6, 8)
ROWS = QUERY[..., 0].contiguous()
GAZE = (torch.rand(2, 4, 3, 2) - 0.5, torch.rand(2, 4, 3) + 0.1)
GLIMPSES = (6, 2, 1.5, MEAN, STD, "zeros", True)
FLOATS = torch.rand(2, 4, 3, 16, 16).permute(0, 1, 3, 4, 2)

CALLS = {
    "foveated_glimpse": [
        (CLIP, *GAZE, *GLIMPSES, torch.bfloat16, "auto"),
        (FLOATS, *(x.transpose(1, 2).contiguous().transpose(1, 2) for x in GAZE), *GLIMPSES, torch.float32, "auto"),
    ],
    "foveated_glimpse_gaze_grad": [
        (torch.randn(2, 4, 3, 2, 3, 6, 6).bfloat16(), CLIP, *GAZE, *GLIMPSES, "auto"),
        (torch.randn(2, 4, 3, 2, 3, 6, 6).mT, FLOATS, *GAZE, *GLIMPSES, "auto"),
    ],
    "foveated_glimpse_frames_grad": [(torch.randn(2, 4, 3, 2, 3, 6, 6).mT, FLOATS, *GAZE, *GLIMPSES, "auto")],
    "multiblock_mask": [(IDS, MaskSpec.multiblock().plan((4, 4, 4), 40, 20), 1, 2, "auto")],
    "masked_latent_loss": [
        (torch.randn(2, 3, 8), torch.randn(2, 6, 8), None, INDEX, weight, kind, True, with_grad, "auto")
        for kind, weight in (("mse", None), ("cosine", torch.rand(2, 3)))
        for with_grad in (True, False)
    ]
    + [(torch.randn(2, 3, 8), *quantize_tokens(torch.randn(2, 6, 8)), INDEX, None, "l1", False, True, "auto")],
    "scale_gradient": [(torch.randn(2, 3, 8).half(), torch.tensor(0.5), 1e-3, "auto")],
    "gather_tubelets": [
        (CLIP, INDEX, 2, 16, MEAN, STD, torch.bfloat16, "auto"),
        (CLIP[:, ::2], None, 1, 8, MEAN, STD, torch.float32, "auto"),
    ],
    "gather_tokens": [
        (torch.randn(2, 6, 8), INDEX, "auto"),
        (torch.randn(6, 2, 8).transpose(0, 1), INDEX, "auto"),  # permuted dense: a fake must not copy strides
        (torch.randn(2, 6, 16)[..., ::2], INDEX, "auto"),
    ],
    "scatter_tokens": [(torch.randn(2, 3, 8), INDEX, 6, "auto"), (torch.randn(2, 8, 3).mT, INDEX, 6, "auto")],
    "query_attend": [
        (*(x.to(dtype) for x in (QUERY, KEY, VALUE)), 0.3, with_stats, with_grad, "auto")
        for dtype in (torch.float32, torch.float16)
        for with_stats, with_grad in ((True, True), (False, True), (True, False), (False, False))
    ]
    + [(*(x.mT.contiguous().mT for x in (QUERY, KEY, VALUE)), 1.0, True, True, "auto")]
    + [(QUERY[:, 0], KEY, VALUE, 0.3, False, False, "auto")],
    "query_attend_backward": [
        (QUERY, ROWS, QUERY, KEY, VALUE, QUERY, ROWS, ROWS, 0.3, *flags, "auto")
        for flags in ((True, True, True), (True, True, False), (False, True, True), (True, False, False))
    ]
    + [
        (QUERY[:1].expand(2, -1, -1, -1, -1), None, QUERY, VALUE, KEY, QUERY, ROWS, None, 1.0, True, True, True, "auto")
    ],
}


@pytest.mark.parametrize(("name", "call"), [(name, i) for name, calls in CALLS.items() for i in range(len(calls))])
def test_opcheck(name, call):
    torch.library.opcheck(getattr(torch.ops.fastvid, name).default, CALLS[name][call])


@pytest.mark.parametrize("name", CALLS)
def test_an_operator_has_its_derivative_or_refuses_it(name):
    """Called by itself, too: a result that autograd takes for a constant would give zeros."""
    for call in CALLS[name]:
        made = [x.detach().clone() if isinstance(x, torch.Tensor) else x for x in call]
        inputs = [x.requires_grad_() for x in made if isinstance(x, torch.Tensor) and x.is_floating_point()]
        results = getattr(torch.ops.fastvid, name).default(*made)
        results = results if isinstance(results, tuple) else (results,)
        recorded = {x.requires_grad for x in results if x.is_floating_point()}
        assert recorded <= {bool(inputs)}


def test_every_op_is_covered():
    assert set(torch.ops.fastvid) == set(CALLS)
