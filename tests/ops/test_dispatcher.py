"""Calls go through PyTorch's dispatcher: modes, tracers, the profiler and unusual tensors meet an ordinary operator."""

import contextlib

import pytest
import torch
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from fastvid import _native
from fastvid.ops import foveated_glimpse, gather_tokens, query_attend

pytestmark = pytest.mark.skipif(_native.CORE is None, reason="calls the native CPU kernels")

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


@pytest.mark.parametrize(
    "around",
    [contextlib.nullcontext, torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu")],
    ids=["nothing", "no_grad", "inference_mode", "autocast"],
)
def test_a_result_is_an_ordinary_one_in_every_mode(around):
    with around():
        expected = X.gather(1, INDEX.unsqueeze(-1).expand(-1, -1, 3))
        for x in (X, torch.nn.Parameter(X, requires_grad=False), X + 0):
            got = gather_tokens(x, INDEX)
            assert torch.equal(got, expected)
            assert got.is_inference() == expected.is_inference()
            assert (got.requires_grad, got.dtype) == (False, torch.float32)


def test_lazily_negated_and_conjugated_tensors_are_resolved():
    conjugate = torch.complex(X, X + 1).conj()
    for x in (conjugate, conjugate.imag):  # the second is negated when it is read
        assert x.is_conj() or x.is_neg()
        assert torch.equal(gather_tokens(x, INDEX), gather_tokens(x.clone(), INDEX, backend="reference"))


@pytest.mark.filterwarnings("ignore:fastvid ops run as plain PyTorch on meta")
def test_subclasses_and_meta_tensors_keep_their_kind():
    assert isinstance(gather_tokens(X.as_subclass(Named), INDEX), Named)
    on_meta = gather_tokens(X.to("meta"), INDEX.to("meta"))
    assert on_meta.is_meta
    assert on_meta.shape == EXPECTED.shape


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
    for kind in ("real", "fake", "symbolic"):
        graph = make_fx(lambda x, index: gather_tokens(x, index), tracing_mode=kind)(X, INDEX)
        assert OVERLOAD in {node.target for node in graph.graph.nodes}
    traced = torch.jit.trace(lambda x: gather_tokens(x, INDEX), X)
    assert "fastvid::gather_tokens" in str(traced.inlined_graph)
    other = X + 1
    assert torch.equal(graph(other, INDEX), gather_tokens(other, INDEX))
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


def test_autograd_records_a_call_only_where_it_is_enabled():
    x = X.clone().requires_grad_()
    with torch.no_grad():
        assert not gather_tokens(x, INDEX).requires_grad
    assert gather_tokens(x, INDEX).requires_grad


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_forward_mode_derivatives_are_refused_and_not_lost():
    """An operator has no forward-mode derivative, and autograd would take that for zero."""
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
