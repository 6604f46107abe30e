"""The published steps re-stated literally, and what fastvid computes in their place: equal losses and gradients."""

import pytest
import torch
from torch import nn

from benchmarks.baselines.published_fvlm import Published, Samples
from fastvid.projects.fvlm.inputs import Inputs
from tests.projects.fvlm.batches import batch, exact


def gradients(loss, model):
    """Return the gradient of every parameter that a loss depends on, by name."""
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    return {name: grad for name, grad in zip(named, found, strict=True) if grad is not None}


def assert_same(ours, published, model):
    """Compare two losses and the gradients of every parameter."""
    torch.testing.assert_close(ours, published, rtol=1e-9, atol=1e-12)
    one, other = gradients(ours, model), gradients(published, model)
    missing = set(one) ^ set(other)
    assert not any((one | other)[name].abs().max() for name in missing), missing
    for name in set(one) & set(other):
        torch.testing.assert_close(
            one[name], other[name], rtol=1e-7, atol=1e-10, msg=lambda m, name=name: f"{name}: {m}"
        )


@pytest.mark.parametrize("mode", ["coarse", "parallel", "stream"])
@pytest.mark.parametrize("query", ["deep", "shallow"])
def test_the_loss_of_answers_is_the_published_one(mode, query):
    model, inputs = exact(query=query, iterations=2), Inputs.of(batch())
    out = model(inputs, mode)
    assert_same(out.losses.mean(), Published(model).answers(Samples.of(inputs), mode, iterations=2), model)


class Head(nn.Module):
    """Predicts latents [R, T, 2, 3, 3] by one linear layer."""

    def __init__(self, width):
        super().__init__()
        self.linear = nn.Linear(width + 18, 18)

    def forward(self, hidden, previous):
        return self.linear(torch.cat([hidden, previous.flatten(2)], -1)).view_as(previous)


@pytest.mark.parametrize(("measure", "passes"), [(True, 8), (False, 6)])
def test_the_joint_step_reads_each_sequence_anew(measure, passes):
    torch.manual_seed(0)
    model, inputs = exact(layout="video-first", first_query="learnt"), Inputs.of(batch())
    samples = Samples.of(inputs)
    published = Published(model, Head(model.language.width).double(), torch.zeros(2, 3, 3).double())
    read = []
    hook = model.language.model.get_decoder().register_forward_hook(lambda *_: read.append(1))
    latents = torch.randn(*samples.frames.shape, 2, 3, 3).double()
    found = published.joint(samples, latents, measure=measure)
    hook.remove()
    assert len(read) == passes
    torch.testing.assert_close(found.loss, found.captions[1] + 0.5 * found.reconstructions[1])
    for iterations, caption in enumerate(found.captions, start=1):
        torch.testing.assert_close(caption, published.answers(samples, "parallel", iterations), rtol=1e-9, atol=1e-12)
    if measure:
        torch.testing.assert_close(found.coarse_caption, published.answers(samples, "coarse"), rtol=1e-9, atol=1e-12)
