"""Derivatives beyond the first backward pass: exact where that is cheap, or refused in one sentence by every route."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch.autograd import forward_ad
from torch.autograd.functional import hessian, hvp, jacobian, jvp, vhp

from fastvid import _native
from fastvid.ops import _dispatch, foveated_glimpse, gather_tokens, masked_latent_loss, query_attend

INDEX = torch.tensor([[2, 0], [1, 3]])
TARGET = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(1))
KEY, VALUE = torch.randn(2, 1, 2, 5, 4, generator=torch.Generator().manual_seed(2)).unbind()
FRAMES = torch.rand(1, 1, 6, 7, 3, generator=torch.Generator().manual_seed(3))
CENTER, SCALE = torch.tensor([0.1, -0.2]).view(1, 1, 1, 2), torch.full((1, 1, 1), 0.37)


def _glimpse(frames, center, scale, backend):
    dtype = torch.float64 if frames.dtype == torch.float64 else torch.float32
    return foveated_glimpse(frames, center, scale, size=3, levels=1, dtype=dtype, backend=backend)


@dataclass(frozen=True)
class Case:
    """An op as a function of one of its differentiable inputs."""

    call: Callable[[torch.Tensor, str], torch.Tensor]
    shape: tuple[int, ...]

    def point(self) -> torch.Tensor:
        x = torch.rand(self.shape, generator=torch.Generator().manual_seed(4)) * 0.3 + 0.1
        return x.requires_grad_()


def like(x: torch.Tensor, *others: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return tuple(other.to(x.dtype) for other in others)


LINEAR = {"gather_tokens": Case(lambda x, backend: gather_tokens(x, INDEX, backend=backend), (2, 4, 3))}
REFUSED = {
    **{
        f"masked_latent_loss {kind}": Case(
            lambda x, backend, kind=kind: masked_latent_loss(x, *like(x, TARGET), INDEX, kind=kind, backend=backend),
            (2, 2, 3),
        )
        for kind in ("mse", "l1", "smooth_l1", "cosine")
    },
    "foveated_glimpse frames": Case(lambda x, b: _glimpse(x, *like(x, CENTER, SCALE), b), FRAMES.shape),
    "foveated_glimpse center": Case(lambda x, b: _glimpse(*like(x, FRAMES), x, *like(x, SCALE), b), CENTER.shape),
    "foveated_glimpse scale": Case(lambda x, b: _glimpse(*like(x, FRAMES, CENTER), x, b), SCALE.shape),
    "query_attend query": Case(lambda x, b: query_attend(x, *like(x, KEY, VALUE), backend=b), (1, 2, 3, 4)),
    "query_attend key": Case(lambda x, b: query_attend(*like(x, VALUE), x, *like(x, VALUE), backend=b), KEY.shape),
    "query_attend value": Case(lambda x, b: query_attend(*like(x, KEY, KEY), x, backend=b), VALUE.shape),
    "query_attend entropy": Case(
        lambda x, b: query_attend(x, *like(x, KEY, VALUE), return_stats=True, backend=b)[1], (1, 2, 3, 4)
    ),
}
CASES = {**LINEAR, **REFUSED}
REFUSAL = "the kernel has no second derivative; use backend='reference'"
_WHY_NO_TRITON = _dispatch.why_no_triton("cpu", None)


@pytest.fixture(
    params=[
        pytest.param("native", marks=pytest.mark.skipif(_native.CORE is None, reason="no native core")),
        pytest.param("triton", marks=pytest.mark.skipif(_WHY_NO_TRITON is not None, reason=str(_WHY_NO_TRITON))),
    ]
)
def backend(request):
    return request.param


def bent(case: Case, backend: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """A scalar with curvature on both sides of the op."""
    return lambda x: case.call(x.sin(), backend).square().sum()


def grad_twice(f, x):
    (first,) = torch.autograd.grad(f(x), x, create_graph=True)
    return torch.autograd.grad(first.square().sum(), x)[0]


def penalty(f, x):
    weight = torch.tensor(1.5, dtype=x.dtype, requires_grad=True)
    (first,) = torch.autograd.grad((weight * f(x)).tanh(), x, create_graph=True)
    (first.norm() - 1).square().backward()
    return x.grad


def adapted_step(f, x):
    """MAML: the loss after a step of gradient descent, differentiated by what was stepped from."""
    (first,) = torch.autograd.grad(f(x), x, create_graph=True)
    return torch.autograd.grad(f(x - 1e-4 * first), x)[0]


ROUTES = {
    "grad twice": grad_twice,
    "gradient penalty": penalty,
    "adapted step": adapted_step,
    "hvp": lambda f, x: hvp(f, x, torch.ones_like(x))[1],
    "vhp": lambda f, x: vhp(f, x, torch.ones_like(x))[1],
    "hessian": lambda f, x: hessian(f, x),
    "vectorized hessian": lambda f, x: hessian(f, x, vectorize=True),
}


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("name", CASES)
def test_second_derivatives_are_exact_or_refused_and_never_silently_wrong(name, route, backend):
    case = CASES[name]
    wide = case.point().detach().double().requires_grad_()
    expected = ROUTES[route](bent(case, "reference"), wide)
    if name in REFUSED:
        with pytest.raises(RuntimeError, match=f"{name.split()[0]}: {REFUSAL}"):
            ROUTES[route](bent(case, backend), case.point())
        return
    got = ROUTES[route](bent(case, backend), case.point())
    torch.testing.assert_close(got.double(), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("name", CASES)
def test_recorded_and_batched_first_derivatives_are_those_of_the_reference(name, backend):
    case = CASES[name]
    wide = case.point().detach().double().requires_grad_()
    (expected,) = torch.autograd.grad(bent(case, "reference")(wide), wide)
    x = case.point()
    (recorded,) = torch.autograd.grad(bent(case, backend)(x), x, create_graph=True)
    torch.testing.assert_close(recorded.double(), expected, rtol=1e-3, atol=1e-5)
    recorded.detach().mul_(2)  # as clipping does, in place
    for vectorize in (False, True):
        got = jacobian(lambda x: case.call(x, backend), case.point(), vectorize=vectorize)
        wanted = jacobian(lambda x: case.call(x, "reference"), wide)
        torch.testing.assert_close(got.double(), wanted, rtol=1e-3, atol=1e-5)


def test_a_gather_has_derivatives_of_every_order(backend):
    def f(x):
        return gather_tokens(x, INDEX, backend=backend if x.dtype == torch.float32 else "reference").pow(4).sum()

    results = []
    for dtype in (torch.float32, torch.float64):
        x = LINEAR["gather_tokens"].point().detach().to(dtype).requires_grad_()
        y = f(x)
        for _ in range(3):
            (y,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        results.append(y.detach().double())
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-6)


def test_the_loss_gradient_has_a_derivative_by_what_weighs_the_loss(backend):
    """It is linear in that: double backward gives products with the Jacobian, and weights are learned."""
    case = REFUSED["masked_latent_loss cosine"]
    results = []
    for dtype, which in ((torch.float32, backend), (torch.float64, "reference")):
        x = case.point().detach().to(dtype).requires_grad_()
        weight = torch.tensor(1.5, dtype=dtype, requires_grad=True)
        (first,) = torch.autograd.grad(weight.square() * case.call(x, which), x, create_graph=True)
        (by_weight,) = torch.autograd.grad(first.square().sum(), weight)
        product = jvp(lambda x, which=which: case.call(x, which), x, torch.ones_like(x))[1]
        results.append(torch.stack([by_weight, product]).detach().double())
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in REFUSED if not name.startswith("masked")])
def test_the_derivative_by_the_gradient_of_the_output_is_refused(name, backend):
    """Double backward for products with the Jacobian asks for it."""
    case = REFUSED[name]
    with pytest.raises(RuntimeError, match=REFUSAL):
        jvp(lambda x: case.call(x, backend), case.point(), torch.ones(case.shape))


FUNC = {
    "grad": lambda f, x: torch.func.grad(f)(x),
    "vmap of grad": lambda f, x: torch.func.vmap(torch.func.grad(f))(torch.stack([x, x])),
    "jacrev": lambda f, x: torch.func.jacrev(f)(x),
    "vjp": lambda f, x: torch.func.vjp(f, x)[1](torch.ones(())),
    "hessian": lambda f, x: torch.func.hessian(f)(x),
    "jvp": lambda f, x: torch.func.jvp(f, (x,), (torch.ones_like(x),)),
    "jacfwd": lambda f, x: torch.func.jacfwd(f)(x),
}


@pytest.mark.parametrize("transform", FUNC)
@pytest.mark.parametrize("name", CASES)
def test_transforms_of_torch_func_are_refused_in_one_sentence(name, transform, backend):
    case, x = CASES[name], CASES[name].point().detach()
    sentence = "torch.func cannot differentiate the kernel|the kernel has no forward-mode derivative"
    with pytest.raises(RuntimeError, match=f"{name.split()[0]}: ({sentence})"):
        FUNC[transform](bent(case, backend), x)


@pytest.mark.parametrize("transform", ["grad", "jvp", "hessian"])
@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_the_reference_has_the_transforms_that_the_kernels_refuse(name, transform):
    case, x = CASES[name], CASES[name].point().detach().double()
    f = bent(case, "reference")
    got = FUNC[transform](f, x)
    wide = x.clone().requires_grad_()
    if transform == "jvp":
        got, expected = got[1], torch.autograd.grad(f(wide), wide)[0].sum()
    else:
        expected = torch.autograd.grad(f(wide), wide)[0] if transform == "grad" else hessian(f, x)
    torch.testing.assert_close(got, expected)


@pytest.mark.filterwarnings("ignore:`torch.jit")
@pytest.mark.parametrize("name", CASES)
def test_forward_mode_is_refused_where_there_is_a_tangent_and_nowhere_else(name, backend):
    case, x = CASES[name], CASES[name].point().detach()
    with forward_ad.dual_level():
        assert not case.call(x, backend).requires_grad
        with pytest.raises(RuntimeError, match=f"{name.split()[0]}: the kernel has no forward-mode derivative"):
            case.call(forward_ad.make_dual(x, torch.ones_like(x)), backend)


COMPILED = {
    "grad twice of a compiled function": lambda f: lambda x: grad_twice(torch.compile(f, backend="aot_eager"), x),
    "grad twice": lambda f: torch.compile(lambda x: grad_twice(f, x), backend="aot_eager"),
    "gradient penalty": lambda f: torch.compile(lambda x: penalty(f, x), backend="aot_eager"),
    "torch.func twice": lambda f: torch.compile(
        torch.func.grad(lambda x: torch.func.grad(f)(x).square().sum()), backend="aot_eager"
    ),
}


@pytest.mark.filterwarnings("ignore:`torch.jit")
@pytest.mark.parametrize("route", COMPILED)
@pytest.mark.parametrize(
    "name", ["gather_tokens", "masked_latent_loss mse", "query_attend key", "foveated_glimpse scale"]
)
def test_a_compiled_second_derivative_is_never_silently_wrong(name, route, backend):
    """PyTorch refuses it where the graph ends before the gradient, the operator where it is within."""
    if backend == "triton":
        pytest.skip("Triton's interpreter runs no compiled graphs")
    case = CASES[name]
    torch.compiler.reset()
    compiled = COMPILED[route](bent(case, backend))
    with pytest.raises(RuntimeError, match=r"second derivative|double backward|donated buffers|torch\.func|functorch"):
        compiled(case.point())
