"""Calls leave out the dispatcher only where nobody can tell: no mode, tracer or profiler, and plain tensors."""

import contextlib

import pytest
import torch
from torch._subclasses import FakeTensor, FakeTensorMode
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from fastvid import _native
from fastvid.ops import _dispatch, foveated_glimpse, gather_tokens, query_attend

pytestmark = pytest.mark.skipif(_native.CORE is None, reason="the shortcut leads to the native CPU kernels")

OVERLOAD = torch.ops.fastvid.gather_tokens.default
INDEX = torch.tensor([[2, 0], [1, 3]])
X = torch.randn(2, 4, 3)
EXPECTED = X.gather(1, INDEX.unsqueeze(-1).expand(-1, -1, 3))


class Named(torch.Tensor):
    """A subclass that only has the __torch_function__ it inherits."""


class SeesDispatch(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen.append(func)
        return func(*args, **(kwargs or {}))


class SeesFunctions(TorchFunctionMode):
    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.seen.append(func)
        return func(*args, **(kwargs or {}))


class Dispatched:
    """In the overload's place, to see which way a call goes."""

    _schema = OVERLOAD._schema

    def __call__(self, *args):
        return "dispatched"


def is_direct(x=X, index=INDEX, backend="native") -> bool:
    return _dispatch._shortcut(Dispatched(), lambda *args: "direct")(x, index, backend) == "direct"


@pytest.mark.parametrize(
    "around",
    [contextlib.nullcontext, torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu")],
    ids=["nothing", "no_grad", "inference_mode", "autocast"],
)
def test_a_plain_call_is_direct_and_equals_the_dispatched_one(around):
    with around():
        assert is_direct()
        assert is_direct(torch.nn.Parameter(X, requires_grad=False))
        made_inside = X + 0
        assert is_direct(made_inside)
        got, dispatched = gather_tokens(made_inside, INDEX), OVERLOAD(made_inside, INDEX, "native")
        assert torch.equal(got, EXPECTED)
        assert got.is_inference() == dispatched.is_inference()
        assert (got.requires_grad, got.dtype) == (dispatched.requires_grad, dispatched.dtype)


def test_tensors_that_are_more_than_memory_are_dispatched():
    negative = torch._neg_view(X)
    conjugate = torch.complex(X, X + 1).conj()
    for x in (negative, conjugate):
        assert not is_direct(x)
        assert torch.equal(gather_tokens(x, INDEX), gather_tokens(x.clone(), INDEX, backend="reference"))
    for x in (X.as_subclass(Named), X.to("meta"), X.to_sparse(), X.to_mkldnn(), torch.nested.nested_tensor([X])):
        assert not is_direct(x)
    assert not is_direct(backend="triton")
    assert isinstance(gather_tokens(X.as_subclass(Named), INDEX), Named)


def test_fake_tensors_stay_fake():
    with FakeTensorMode() as mode:
        x, index = mode.from_tensor(X), mode.from_tensor(INDEX)
        got = gather_tokens(x, index)
    assert isinstance(got, FakeTensor)
    assert got.shape == EXPECTED.shape
    assert isinstance(OVERLOAD(x, index, "native"), FakeTensor)  # outside the mode too
    assert isinstance(gather_tokens(x, index), FakeTensor)


@pytest.mark.parametrize("mode", [SeesDispatch, SeesFunctions])
def test_modes_see_the_op(mode):
    with mode() as seer:
        got = gather_tokens(X, INDEX)
    assert OVERLOAD in seer.seen
    assert torch.equal(got, EXPECTED)


def test_the_profiler_sees_the_op():
    with torch.profiler.profile() as profile:
        gather_tokens(X, INDEX)
    assert "fastvid::gather_tokens" in {event.name for event in profile.events()}


@pytest.mark.filterwarnings("ignore:`torch.jit", "ignore:Converting a tensor")
def test_tracers_see_the_op():
    graph = make_fx(lambda x: gather_tokens(x, INDEX))(X)
    assert OVERLOAD in {node.target for node in graph.graph.nodes}
    traced = torch.jit.trace(lambda x: gather_tokens(x, INDEX), X)
    assert "fastvid::gather_tokens" in str(traced.inlined_graph)
    other = X + 1
    assert torch.equal(graph(other), gather_tokens(other, INDEX))
    assert torch.equal(traced(other), gather_tokens(other, INDEX))


def test_export_sees_the_op():
    class Gather(torch.nn.Module):
        def forward(self, x, index):
            return gather_tokens(x, index)

    for strict in (False, True):
        exported = torch.export.export(Gather(), (X, INDEX), strict=strict)
        assert OVERLOAD in {node.target for node in exported.graph.nodes}
        assert torch.equal(exported.module()(X + 1, INDEX), gather_tokens(X + 1, INDEX))


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_vmap_maps_the_op():
    stacked = torch.stack([X, X + 1, X * 2])
    got = torch.vmap(gather_tokens, in_dims=(0, None))(stacked, INDEX)
    assert torch.equal(got, torch.stack([gather_tokens(x, INDEX) for x in stacked]))


def test_what_autograd_should_see_is_dispatched():
    x = X.clone().requires_grad_()
    assert not is_direct(x)
    with torch.no_grad():
        assert is_direct(x)
    assert gather_tokens(x, INDEX).requires_grad


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_forward_mode_derivatives_are_refused_and_not_lost():
    """Without an autograd.Function around it the op would return a result whose derivative is silently zero."""
    query, key = torch.randn(1, 2, 1, 8), torch.randn(1, 2, 5, 8)
    frames, gaze = torch.rand(1, 1, 8, 8, 3), (torch.zeros(1, 1, 1, 2), torch.full((1, 1, 1), 0.5))
    calls = [
        (lambda x: gather_tokens(x, INDEX), X),
        (lambda x: query_attend(x, key, key), query),
        (lambda x: query_attend(query, x, key, return_stats=True)[0], key),
        (lambda x: foveated_glimpse(frames, x, gaze[1], size=2, levels=1), gaze[0]),
    ]
    for call, x in calls:
        with forward_ad.dual_level(), pytest.raises(RuntimeError, match="no forward-mode derivative"):
            call(forward_ad.make_dual(x, torch.ones_like(x)))
