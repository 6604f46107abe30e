"""Every tensor of every op: what does not fit is refused in one sentence, fake and meta tensors are taken."""

import inspect

import numpy as np
import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from fastvid import ops

INDEX = torch.tensor([[2, 0], [1, 3]])
TOKENS = torch.randn(2, 4, 8)
HEADS = torch.randn(2, 2, 4, 8)
CLIP = torch.zeros(2, 2, 8, 8, 3, dtype=torch.uint8)
GAZE = {"center": torch.zeros(2, 2, 1, 2), "scale": torch.ones(2, 2, 1)}
SIZES = {"size": 4, "levels": 2}

# The tensors that each op takes, and its other arguments.
CALLS = {
    "gather_tokens": ({"x": TOKENS, "index": INDEX}, {}),
    "gather_tubelets": ({"clip": CLIP, "index": INDEX}, {"tubelet": 1, "patch": 4}),
    "masked_latent_loss": ({"pred": TOKENS[:, :2], "target": TOKENS, "masked": INDEX}, {"normalize_target": True}),
    "masked_latent_loss int8": (
        {
            "pred": TOKENS[:, :2],
            "target": TOKENS.to(torch.int8),
            "masked": INDEX,
            "target_scale": TOKENS[..., 0].half(),
        },
        {"kind": "cosine"},
    ),
    "masked_latent_loss weighted": (
        {"pred": TOKENS[:, :2], "target": TOKENS, "masked": INDEX, "weight": torch.ones(2, 2)},
        {"kind": "smooth_l1"},
    ),
    "masked_mse": ({"pred": TOKENS[:, :2], "target": TOKENS, "masked": INDEX}, {}),
    "quantize_tokens": ({"x": TOKENS}, {}),
    "foveated_glimpse": ({"frames": CLIP, **GAZE}, SIZES),
    "foveated_glimpse floats": ({"frames": CLIP.float(), **GAZE}, SIZES),
    "query_attend": ({"query": HEADS, "key": HEADS, "value": HEADS}, {}),
    "query_attend statistics": ({"query": HEADS, "key": HEADS, "value": HEADS}, {"return_stats": True}),
    "multiblock_mask": (
        {"sample_ids": torch.arange(2)},
        {"grid": (2, 4, 4), "masked": 16, "visible": 8, "seed": 0, "draw": 0},
    ),
    "mask_distance": ({"masked": INDEX}, {"grid": (2, 2, 2)}),
    "peak_to_center": ({"peak": INDEX}, {"grid": (4, 4)}),
    "variance_penalty": ({"x": TOKENS}, {}),
    "covariance_penalty": ({"x": TOKENS}, {}),
}
ARGUMENTS = [(name, argument) for name, (tensors, _) in CALLS.items() for argument in tensors]
OPTIONAL = {("gather_tubelets", "index")}  # and None there has a meaning of its own
DEVICE_MIXES = [(name, argument) for name, argument in ARGUMENTS if len(CALLS[name][0]) > 1]


def call(name: str, **changed):
    """The op with some of its tensors replaced, its results as a list."""
    tensors, options = CALLS[name]
    result = getattr(ops, name.split()[0])(**{**tensors, **changed}, **options)
    return list(result) if isinstance(result, tuple) else [result]


def refusal(name: str, error: type[Exception] | tuple[type[Exception], ...], **changed) -> str:
    """What the op says of an argument: one line that begins with its name."""
    with pytest.raises(error) as caught:
        call(name, **changed)
    said = str(caught.value)
    assert "\n" not in said
    assert said.startswith(("masked_latent_loss" if name == "masked_mse" else name.split()[0]) + ": ")
    return said


def test_every_op_is_here():
    functions = {name for name in ops.__all__ if inspect.isfunction(getattr(ops, name))} - {"sample_id"}
    assert {name.split()[0] for name in CALLS} == functions
    for name, (tensors, _) in CALLS.items():
        signature = inspect.signature(getattr(ops, name.split()[0]))
        assert {p for p in signature.parameters if p in tensors} == set(tensors)


@pytest.mark.parametrize(("name", "argument"), ARGUMENTS)
def test_what_is_no_tensor_is_named_for_what_it_is(name, argument):
    tensor = CALLS[name][0][argument]
    said = refusal(name, TypeError, **{argument: tensor.numpy()})
    assert f"{argument} must be a torch.Tensor, got numpy.ndarray" in said
    said = refusal(name, TypeError, **{argument: tensor.tolist()})
    assert f"{argument} must be a torch.Tensor, got list" in said
    refusal(name, TypeError, **{argument: np.float32(1)})
    if (name, argument) not in OPTIONAL and argument not in ("target_scale", "weight"):
        assert "got NoneType" in refusal(name, TypeError, **{argument: None})


@pytest.mark.parametrize(("name", "argument"), ARGUMENTS)
def test_wrong_dtypes_and_ranks_are_refused(name, argument):
    tensor = CALLS[name][0][argument]
    dtypes = () if (name, argument) == ("gather_tokens", "x") else (torch.bool, torch.complex64, torch.int32)
    for dtype in dtypes:
        assert str(dtype) in refusal(name, TypeError, **{argument: tensor.to(dtype)})
    if not name.startswith(("peak", "quantize")) and "penalty" not in name:  # which take any number of dimensions
        assert "got" in refusal(name, ValueError, **{argument: tensor[None]})
    if not name.startswith("peak"):
        refusal(name, (ValueError, TypeError), **{argument: tensor.flatten()[0]})


@pytest.mark.parametrize(("name", "argument"), DEVICE_MIXES)
def test_tensors_on_two_devices_are_refused(name, argument):
    said = refusal(name, ValueError, **{argument: CALLS[name][0][argument].to("meta")})
    assert f"{argument} on meta" in said


def test_only_what_gets_a_gradient_may_require_one():
    for name, argument in (("", "target"), (" int8", "target_scale"), (" weighted", "weight")):
        tensor = CALLS[f"masked_latent_loss{name}"][0][argument].clone().requires_grad_()
        said = refusal(f"masked_latent_loss{name}", ValueError, **{argument: tensor})
        assert f"{argument} requires grad" in said


@pytest.mark.filterwarnings("ignore:fastvid ops run as plain PyTorch on meta")
@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("name", CALLS)
def test_meta_and_fake_tensors_give_the_shapes_of_real_ones(name, backend):
    takes_backend = "backend" in inspect.signature(getattr(ops, name.split()[0])).parameters
    how = {"backend": backend} if takes_backend else {}
    if name == "multiblock_mask" and backend == "reference":
        how = {}  # its loop ends when the data says so: only the op has a shape without data
    expected = call(name)
    tensors = CALLS[name][0]
    on_meta = call(name, **{argument: x.to("meta") for argument, x in tensors.items()}, **how)
    fake: list[torch.Tensor] = []

    def record(*traced):
        fake.extend(call(name, **dict(zip(tensors, traced, strict=True)), **how))
        return fake

    make_fx(record, tracing_mode="fake")(*tensors.values())
    for results, device in ((on_meta, "meta"), (fake, "cpu")):
        for got, real in zip(results, expected, strict=True):
            assert (got.shape, got.dtype, got.device) == (real.shape, real.dtype, torch.device(device))
