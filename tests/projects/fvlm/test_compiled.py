"""A model whose parts are compiled: the same step, one graph for all layers, and nothing compiled without gradients."""

import copy
from functools import partial

import pytest
import torch

from fastvid.command import UserError
from fastvid.projects.fvlm import compiled
from fastvid.projects.fvlm.inputs import Inputs
from fastvid.projects.fvlm.loss import TextLoss
from fastvid.projects.fvlm.loss_config import LossConfig
from fastvid.projects.fvlm.reconstruct_config import ReconstructConfig
from tests.projects.fvlm.batches import batch, exact, tiny
from tests.projects.fvlm.test_reconstruct import JOINT, reconstructing

JOINTLY = {name: value for name, value in JOINT.items() if name != "mode"}
OPTIONS = [
    {"mode": "parallel", "iterations": 2},
    {"mode": "stream"},
    {"mode": "parallel", "layout": "video-first", "first_query": "learnt", "query": "shallow"},
    {"mode": "parallel", **JOINTLY},
]


@pytest.fixture
def graphs(monkeypatch):
    """The graphs that were compiled; PyTorch runs them as it runs what is not compiled."""
    torch.compiler.reset()
    found = []

    def backend(graph, inputs):
        found.append(graph)
        return graph.forward

    monkeypatch.setattr(compiled.torch, "compile", partial(torch.compile, backend=backend))
    yield found
    torch.compiler.reset()


def gradients(model, loss):
    """The loss, and the gradient of every parameter that has one."""
    loss.backward()
    found = {name: x.grad for name, x in model.named_parameters() if x.grad is not None}
    model.zero_grad(set_to_none=True)
    return loss.detach(), found


def assert_same_step(model, step):
    loss, expected = gradients(model, step())
    model.compile_parts()
    again, found = gradients(model, step())
    torch.testing.assert_close(again, loss, rtol=1e-9, atol=1e-12)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(map(str, options.values())))
def test_a_step_is_what_it_is_without(options, graphs):
    model, one = exact(**options), batch()
    loss_of = TextLoss(options["mode"], LossConfig(coarse_weight=0.5))
    assert_same_step(model, lambda: loss_of(model, one, 1)[0].mean)
    assert graphs


@pytest.mark.parametrize("asked", [((5, 6), (7, 8, 9)), ((), ())])
def test_a_step_that_reconstructs_is_what_it_is_without(asked, graphs):
    model, loss_of = reconstructing(ReconstructConfig(weight=0.5, side=8), **JOINT)
    one = batch(asked=asked, answers=((10, 11), (12, 13, 14)), clips=(1, 1))
    assert_same_step(model, lambda: loss_of(model, one, 1)[0].mean)


def test_all_layers_share_what_is_compiled(graphs):
    counts = []
    for layers in (2, 6):
        torch.compiler.reset()
        graphs.clear()
        model = tiny(mode="parallel", tiny_layers=layers)
        model.compile_parts()
        TextLoss("parallel", LossConfig())(model, batch(), 1)[0].mean.backward()
        counts.append(len(graphs))
    assert counts[0] == counts[1]


def test_nothing_is_compiled_without_gradients(graphs):
    model = tiny()
    before = model(Inputs.of(batch()), "stream").logits
    model.compile_parts()
    with torch.no_grad():
        after = model(Inputs.of(batch()), "stream").logits
    assert not graphs
    torch.testing.assert_close(after, before)


def test_a_copy_compiles_its_own_weights(graphs):
    model = tiny()
    model.compile_parts()
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    one = Inputs.of(batch())
    assert other(one, "parallel").logits.abs().max() == 0
    assert model(one, "parallel").logits.abs().max() > 0


def test_a_model_without_such_layers_is_refused():
    model = tiny()
    model.language.model.model.layers, model.language.model.model.h = None, model.language.model.model.layers
    del model.language.model.model.layers
    with pytest.raises(UserError, match=r"run\.compile"):
        model.compile_parts()
