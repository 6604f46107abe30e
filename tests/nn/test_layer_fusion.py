import torch
import torch.nn.functional as F

from fastvid.nn import LayerFusion


def test_layers_are_normalised_but_the_last_and_fused():
    fusion = LayerFusion(6, 3)
    tokens = 5 * torch.randn(2, 4, 18) + 3
    first, second, last = tokens.chunk(3, dim=-1)
    side_by_side = torch.cat([F.layer_norm(first, (6,)), F.layer_norm(second, (6,)), last], dim=-1)
    expected = F.gelu(F.linear(side_by_side, fusion.proj.weight, fusion.proj.bias))
    torch.testing.assert_close(fusion(tokens), expected)
    assert len(LayerFusion(6, 1).norms) == 0
