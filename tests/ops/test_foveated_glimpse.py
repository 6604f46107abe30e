"""Glimpses: the definition against PyTorch's own samplers, and every implementation against the definition."""

import pytest
import torch
import torch.nn.functional as F

from fastvid import _native
from fastvid.ops import _dispatch, foveated_glimpse

PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}

DTYPES = [  # of frames and of glimpses
    (torch.uint8, torch.float32),
    (torch.uint8, torch.bfloat16),
    (torch.uint8, torch.float16),
    (torch.float32, torch.float32),
    (torch.bfloat16, torch.bfloat16),
    (torch.float16, torch.float16),
    (torch.float16, torch.float32),
]

# (backend, device, instruction set): all that can run in this process. The interpreter has no bfloat16 to speak of.
CPU = [("native", "cpu", isa) for isa in (_native.CORE.usable_isas() if _native.CORE is not None else [])]
INTERPRETED = [("triton", "cpu", None)] if _dispatch.INTERPRETED and _dispatch.HAS_TRITON else []
CUDA = []
if torch.cuda.is_available():
    CUDA += [("native", "cuda", None)] if _native.HAS_CUDA_KERNELS else []
    CUDA += [("triton", "cuda", None)] if _dispatch.HAS_TRITON else []


@pytest.fixture(params=CPU + INTERPRETED + CUDA, ids=lambda x: "-".join(filter(None, x)))
def implementation(request):
    """(backend, device) of each implementation, once per CPU instruction set."""
    backend, device, isa = request.param
    before = _native.CORE.isa() if _native.CORE is not None else None
    if isa is not None:
        assert _native.CORE.use_isa(isa)
    yield backend, device
    if isa is not None:
        _native.CORE.use_isa(before)


def scene(dtype=torch.uint8, B=2, T=2, H=19, W=26, G=3, device="cpu"):
    """Frames, and fixations in, at the edge of and outside the frame, whose crops shrink and grow."""
    frames = torch.randint(256, (B, T, H, W, 3), dtype=torch.uint8)
    frames = frames if dtype == torch.uint8 else (frames / 255).to(dtype)
    center, scale = torch.rand(B, T, G, 2) * 3 - 1.5, torch.rand(B, T, G) * 0.8 + 0.05
    return frames.to(device), center.to(device), scale.to(device)


def sampled(frames, center, scale, size, level, padding, ratio=2.0):
    """One level by F.grid_sample: [B, T, G, 3, size, size]."""
    B, T, H, W, _ = frames.shape
    G = center.shape[2]
    side = (scale * min(H, W) * ratio**level).unsqueeze(-1)
    offset = (torch.arange(size, dtype=side.dtype) + 0.5) / size - 0.5
    x, y = center[..., 0, None] + 2 * offset * side / W, center[..., 1, None] + 2 * offset * side / H
    grid = torch.stack(torch.broadcast_tensors(x.unsqueeze(-2), y.unsqueeze(-1)), -1).flatten(0, 2)
    pixels = frames.permute(0, 1, 4, 2, 3).unsqueeze(2).expand(B, T, G, 3, H, W).flatten(0, 2)
    return F.grid_sample(pixels, grid, padding_mode=padding, align_corners=False).view(B, T, G, 3, size, size)


def run(frames, center, scale, grad=None, wide=False, **options):
    """[glimpses, gradient of center, of scale, of float frames], in float64 when ``wide``."""
    dtype = options.pop("dtype", torch.float32)
    frames, center, scale = (
        (x.double() if wide and x.is_floating_point() else x.clone()).requires_grad_(x.is_floating_point())
        for x in (frames, center, scale)
    )
    out = foveated_glimpse(frames, center, scale, dtype=torch.float64 if wide else dtype, **options)
    if grad is None:
        return [out.detach()]
    out.backward(grad.to(dtype).to(out.dtype))
    return [x for x in (out.detach(), center.grad, scale.grad, frames.grad) if x is not None]


def assert_close_to_gold(got, reference, gold):
    for k, r, g in zip(got, reference, gold, strict=True):
        assert k.shape == g.shape
        assert k.dtype == r.dtype
        error, allowed = (k - g).norm(), 2 * (r - g).norm() + torch.finfo(k.dtype).eps / 2 * g.norm()
        assert error <= allowed, f"error {error:.3g}, allowed {allowed:.3g} of {g.norm():.3g}"


@pytest.mark.parametrize("padding", ["border", "zeros"])
@pytest.mark.parametrize("level", [0, 1])
def test_without_antialias_it_is_grid_sample(padding, level):
    frames, center, scale = scene(torch.float64)
    center, scale = center.double(), scale.double()
    got = foveated_glimpse(
        frames, center, scale, size=5, levels=2, padding=padding, antialias=False, dtype=torch.float64, **PLAIN
    )
    torch.testing.assert_close(got[:, :, :, level], sampled(frames, center, scale, 5, level, padding))


def test_at_one_pixel_a_sample_antialiasing_changes_nothing():
    frames, center, _ = scene(torch.float64, H=20, W=30)
    scale = torch.full((2, 2, 3), 0.35, dtype=torch.float64)  # 7 pixels
    options = {"size": 7, "levels": 1, "dtype": torch.float64, **PLAIN}
    got = foveated_glimpse(frames, center.double(), scale, **options)[:, :, :, 0]
    torch.testing.assert_close(got, sampled(frames, center.double(), scale, 7, 0, "border"))


def test_a_whole_number_of_aligned_pixels_is_their_mean(implementation):
    backend, device = implementation
    frames = torch.rand(1, 1, 24, 24, 3).to(device)
    center, scale = torch.zeros(1, 1, 1, 2).to(device), torch.full((1, 1, 1), 0.5).to(device)
    got = foveated_glimpse(frames, center, scale, size=4, levels=2, backend=backend, **PLAIN)[0, 0, 0]
    pixels = frames[0, 0].permute(2, 0, 1)
    torch.testing.assert_close(got[0], F.avg_pool2d(pixels[:, 6:18, 6:18], 3))
    torch.testing.assert_close(got[1], F.avg_pool2d(pixels, 6))


@pytest.mark.parametrize("antialias", [True, False])
def test_constants_stay_and_ramps_are_sampled(implementation, antialias):
    backend, device = implementation
    options = {"size": 6, "levels": 2, "antialias": antialias, "backend": backend, **PLAIN}
    _, center, scale = scene(B=1, G=2)
    flat = torch.full((1, 2, 19, 26, 3), 128, dtype=torch.uint8)
    got = foveated_glimpse(flat.to(device), center.to(device), scale.to(device), **options)
    torch.testing.assert_close(got.cpu(), torch.full_like(got.cpu(), 128 / 255), rtol=1e-5, atol=1e-5)
    y, x = torch.meshgrid(torch.arange(19.0), torch.arange(26.0), indexing="ij")
    ramp = torch.stack([x, y, x - 2 * y], -1).expand(1, 2, 19, 26, 3) / 32
    # Exact where a window is a whole number of pixels wide: interpolation, and here one and two pixels a sample.
    side = 6.0 if antialias else 7.1
    center, scale = torch.tensor([0.1, -0.2]).expand(1, 2, 1, 2), torch.full((1, 2, 1), side / 19)
    got = foveated_glimpse(ramp.to(device), center.to(device), scale.to(device), **options).cpu()
    for level in range(2):
        offset = ((torch.arange(6) + 0.5) / 6 - 0.5) * side * 2**level
        u, v = (1.1 * 26 - 1) / 2 + offset[None, :], (0.8 * 19 - 1) / 2 + offset[:, None]
        expected = torch.stack(torch.broadcast_tensors(u, v, u - 2 * v)) / 32
        torch.testing.assert_close(got[0, 0, 0, level], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("padding", ["border", "zeros"])
@pytest.mark.parametrize("antialias", [True, False])
def test_gradients_of_the_definition(padding, antialias):
    frames, center, scale = (x.double().requires_grad_() for x in scene(torch.float64, B=1, H=7, W=9, G=2))

    def glimpses(*inputs):
        options = {"size": 3, "levels": 2, "level_ratio": 1.7, "padding": padding, "antialias": antialias}
        return foveated_glimpse(*inputs, dtype=torch.float64, **options)

    assert torch.autograd.gradcheck(glimpses, (frames, center, scale))


@pytest.mark.parametrize("padding", ["border", "zeros"])
@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize(("dtype", "out"), DTYPES)
def test_error_is_at_most_twice_that_of_the_reference(implementation, dtype, out, padding, antialias, poisoned):
    backend, device = implementation
    B, G = 2, 6
    if (backend, device) == ("triton", "cpu"):
        if torch.bfloat16 in (dtype, out):
            pytest.skip("Triton's interpreter is silently wrong in bfloat16")
        B, G = 1, 3  # and slow
    inputs = scene(dtype, B=B, H=13, W=17, G=G)
    grad = torch.randn(B, 2, G, 2, 3, 5, 5)
    options = {"size": 5, "levels": 2, "level_ratio": 1.9, "padding": padding, "antialias": antialias, "dtype": out}
    gold = run(*inputs, grad, wide=True, backend="reference", **options)
    reference = run(*inputs, grad, backend="reference", **options)
    got = run(*(x.to(device) for x in inputs), grad.to(device), backend=backend, **options)
    assert_close_to_gold([x.cpu() for x in got], reference, gold)


SHAPES = {
    "one sample": ({"H": 5, "W": 7}, {"size": 1, "levels": 1}),
    "one pixel": ({"H": 1, "W": 1}, {"size": 3, "levels": 2}),
    "tall": ({"H": 20, "W": 3, "G": 2}, {"size": 6, "levels": 1}),
    "wide": ({"H": 3, "W": 33}, {"size": 5, "levels": 2}),
    "many samples": ({"H": 9, "W": 10}, {"size": 33, "levels": 1, "antialias": False}),
    "many levels": ({"H": 8, "W": 9}, {"size": 2, "levels": 5, "level_ratio": 1.3}),
}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("padding", ["border", "zeros"])
def test_shapes(implementation, name, padding, poisoned):
    backend, device = implementation
    shape, options = SHAPES[name]
    inputs = scene(torch.float32, B=1, T=1, **{"G": 1, **shape})
    grad = torch.randn(1, 1, shape.get("G", 1), options["levels"], 3, options["size"], options["size"])
    options = {**options, "padding": padding}
    reference = run(*inputs, grad, backend="reference", **options)
    got = run(*(x.to(device) for x in inputs), grad.to(device), backend=backend, **options)
    for k, r in zip(got, reference, strict=True):
        torch.testing.assert_close(k.cpu(), r, rtol=1e-3, atol=1e-4 * max(1.0, r.abs().max().item()))


@pytest.mark.parametrize("padding", ["border", "zeros"])
@pytest.mark.parametrize("scale", [1e-3, 0.02, 30.0, 1000.0])
@pytest.mark.parametrize("center", [(0.0, 0.0), (-40.0, 0.1), (0.3, 1e5)])
def test_extremes(implementation, scale, center, padding, poisoned):
    """Crops of a fraction of a pixel and of a thousand frames, in the frame and far outside: finite, and right."""
    backend, device = implementation
    frames, _, _ = scene(torch.float32, B=1, T=1, H=7, W=9)
    center, scale = torch.tensor(center).expand(1, 1, 1, 2), torch.full((1, 1, 1), scale)
    grad = torch.randn(1, 1, 1, 2, 3, 4, 4)
    options = {"size": 4, "levels": 2, "padding": padding}
    gold = run(frames, center, scale, grad, wide=True, backend="reference", **options)
    got = run(*(x.to(device) for x in (frames, center, scale)), grad.to(device), backend=backend, **options)
    for k, g in zip(got, gold, strict=True):
        torch.testing.assert_close(k.cpu(), g.float(), rtol=2e-3, atol=2e-3 * max(1.0, g.abs().max().item()))


def test_at_a_kink_the_derivative_is_that_from_the_right(implementation):
    backend, device = implementation
    frames, _, _ = scene(torch.float32, B=1, T=1, H=16, W=16)
    center, scale = torch.zeros(1, 1, 1, 2), torch.full((1, 1, 1), 0.25)  # 4 and 8 pixels: one and two to a sample
    grad = torch.randn(1, 1, 1, 2, 3, 4, 4)
    for antialias in (True, False):
        options = {"size": 4, "levels": 2, "antialias": antialias}
        gold = run(frames, center, scale, grad, wide=True, backend="reference", **options)
        got = run(*(x.to(device) for x in (frames, center, scale)), grad.to(device), backend=backend, **options)
        for k, g in zip(got, gold, strict=True):
            torch.testing.assert_close(k.cpu(), g.float(), rtol=1e-4, atol=1e-4)
    leaves = [x.double().requires_grad_() for x in (frames, center, scale)]
    sampled(*leaves, 4, 1, "border").backward(grad[:, :, :, 1].double())
    options = {"size": 4, "levels": 1, "antialias": False, **PLAIN}
    got = run(frames, center, 2 * scale, grad[:, :, :, 1:], wide=True, backend="reference", **options)
    torch.testing.assert_close(got[1], leaves[1].grad)
    torch.testing.assert_close(2 * got[2], leaves[2].grad)


def test_views_of_frames(implementation, poisoned):
    backend, device = implementation
    frames, center, scale = scene(B=2, T=4, H=24, W=30, G=1, device=device)
    views = [frames[:1, ::2, 3:20, 4:25], frames[:1, :2].flip(3), frames[:1, 1:3, ::2, ::2]]
    views.append(frames[:1, :2].permute(0, 1, 4, 2, 3).contiguous().permute(0, 1, 3, 4, 2))
    for view in views:
        gaze = center[:1, :2].flip(2), scale[:1, ::2]
        options = {"size": 5, "levels": 1, "backend": backend}
        got = foveated_glimpse(view, *gaze, **options)
        assert torch.equal(got, foveated_glimpse(view.contiguous(), *(x.contiguous() for x in gaze), **options))


@pytest.mark.parametrize("shape", [{"B": 0}, {"T": 0}, {"G": 0}])
def test_nothing_to_look_at(implementation, shape):
    backend, device = implementation
    for dtype in (torch.uint8, torch.float32):
        inputs = scene(dtype, **shape, device=device)
        B, T, G = inputs[2].shape
        grad = torch.zeros(B, T, G, 2, 3, 4, 4, device=device)
        got = run(*inputs, grad, size=4, levels=2, backend=backend)
        assert got[0].shape == (B, T, G, 2, 3, 4, 4)
        assert all(x.count_nonzero() == 0 for x in got)


def test_nan_gaze_gives_nan_and_reads_nothing_outside(implementation):
    backend, device = implementation
    frames, center, scale = scene(torch.float32, B=1, G=2, device=device)
    center[0, 0, 0, 0], center[0, 0, 1, 1] = float("nan"), float("inf")
    got = run(frames, center, scale, torch.ones(1, 2, 2, 1, 3, 4, 4, device=device), size=4, levels=1, backend=backend)
    assert got[0][0, 0, 0].isnan().all()
    assert got[0][0, 1].isfinite().all()


def test_equal_bits_every_time(implementation):
    backend, device = implementation
    inputs = scene(torch.float32, H=9, W=11, G=2, device=device)
    grad = torch.randn(2, 2, 2, 2, 3, 4, 4, device=device)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(run(*inputs, grad, size=4, levels=2, backend=backend))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_what_does_not_require_grad_gets_none(implementation):
    backend, device = implementation
    inputs = scene(torch.float32, B=1, G=1, device=device)
    for wanted in range(3):
        leaves = [x.clone().requires_grad_(i == wanted) for i, x in enumerate(inputs)]
        foveated_glimpse(*leaves, size=4, levels=1, backend=backend).sum().backward()
        assert [x.grad is not None for x in leaves] == [i == wanted for i in range(3)]
        assert leaves[wanted].grad.shape == leaves[wanted].shape


def test_the_backward_pass_keeps_its_inputs_only(implementation):
    backend, device = implementation
    inputs = scene(torch.float32, B=1, G=1, device=device)
    leaves = [x.clone().requires_grad_() for x in inputs]
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x) or x, lambda x: x):
        foveated_glimpse(*leaves, size=6, levels=2, backend=backend)
    assert sum(x.nbytes for x in saved) == sum(x.nbytes for x in inputs)


def test_a_second_derivative_is_refused(implementation):
    backend, device = implementation
    frames, center, scale = scene(B=1, G=1, device=device)
    out = foveated_glimpse(frames, center.requires_grad_(), scale, size=4, levels=1, backend=backend)
    (first,) = torch.autograd.grad(out.square().sum(), center, create_graph=True)
    with pytest.raises(RuntimeError, match="foveated_glimpse: the kernel has no second derivative"):
        first.sum().backward()


def test_wide_and_narrow_inputs():
    frames, center, scale = scene()
    options = {"size": 4, "levels": 2}
    assert foveated_glimpse(frames, center.double(), scale, **options).dtype == torch.float32
    assert foveated_glimpse(frames, center, scale, dtype=torch.float64, **options).dtype == torch.float64
    half = center.half().requires_grad_()
    out = foveated_glimpse(frames, half, scale, **options)
    assert torch.equal(out, foveated_glimpse(frames, center.half().float(), scale, **options))
    out.sum().backward()
    assert half.grad.dtype == torch.float16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = foveated_glimpse(frames, center, scale, backend="reference", **options)
    assert torch.equal(inside, foveated_glimpse(frames, center, scale, backend="reference", **options))


def _with(index, value):
    scale = torch.ones(2, 2, 3)
    scale[index] = value
    return scale


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"frames": torch.zeros(2, 2, 8, 9, 3, dtype=torch.int32)}, TypeError, "uint8 pixels or floats"),
        ({"frames": torch.zeros(2, 2, 3, 8, 9)}, ValueError, r"must be \[B, T, H, W, 3\]"),
        ({"frames": torch.zeros(2, 2, 0, 9, 3)}, ValueError, "H and W > 0"),
        ({"center": torch.zeros(2, 2, 3, 2, dtype=torch.int64)}, TypeError, "must be floating point"),
        ({"center": torch.zeros(2, 3, 3, 2)}, ValueError, "with B=2 and T=2"),
        ({"scale": torch.ones(2, 2, 4)}, ValueError, r"\[B, T, G\] = \(2, 2, 3\)"),
        ({"scale": _with((1, 0, 2), 0.0)}, ValueError, r"scale\[1, 0, 2\] is 0; it must be > 0"),
        ({"scale": _with((0, 1, 1), float("nan"))}, ValueError, r"scale\[0, 1, 1\] is nan"),
        ({"size": 0}, ValueError, "at least 1"),
        ({"level_ratio": 0.0}, ValueError, "level_ratio positive"),
        ({"level_ratio": torch.tensor(2.0, requires_grad=True)}, ValueError, "requires grad; detach it"),
        ({"std": torch.ones(3, requires_grad=True)}, ValueError, "requires grad; detach it"),
        ({"std": (0.0, 1.0, 1.0)}, ValueError, "std positive"),
        ({"dtype": torch.int32}, TypeError, "floating point type"),
        ({"padding": "reflection"}, ValueError, "border or zeros; got 'reflection'"),
        ({"dtype": torch.float64, "backend": "native"}, TypeError, "not torch.float64"),
        ({"center": torch.zeros(2, 2, 3, 2, dtype=torch.float64), "backend": "native"}, TypeError, "center is"),
        ({"frames": torch.zeros(2, 2, 8, 9, 3, dtype=torch.float64), "backend": "native"}, TypeError, "frames is"),
    ],
)
def test_refusals_are_sentences(change, error, words):
    frames, center, scale = scene()
    arguments = {"frames": frames, "center": center, "scale": scale, "size": 4, "levels": 2, **change}
    with pytest.raises(error, match=words):
        foveated_glimpse(**arguments)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_compiled_equals_eager_with_gradients(backend):
    torch.compiler.reset()

    def look(frames, center, scale):
        out = foveated_glimpse(frames * 1.0, center.tanh(), scale, size=5, levels=2, padding="zeros", backend=backend)
        return (out * out.detach().cos()).sum()

    compiled = torch.compile(look, fullgraph=True, dynamic=True)
    for B, G in ((2, 3), (3, 4)):
        inputs = scene(torch.float32, B=B, G=G)
        grads = []
        for function in (look, compiled):
            leaves = [x.clone().requires_grad_() for x in inputs]
            grads.append(torch.autograd.grad(function(*leaves), leaves))
        for eager, got in zip(*grads, strict=True):
            torch.testing.assert_close(got, eager, rtol=1e-3, atol=1e-3)
