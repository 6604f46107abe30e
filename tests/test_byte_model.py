"""The least bytes of every op, against numbers worked out by hand."""

from benchmarks.harness import byte_model as model


def test_multiblock_mask():
    # 2 ids in; 2 x (3 masked + 1 visible) indices out: 10 numbers of 8 bytes.
    assert model.multiblock_mask(B=2, M=3, V=1) == 80


def test_masked_latent_loss():
    # One token of 4 numbers: bf16 pred 8, bf16 target 8, its index 8, bf16 gradient 8; the loss 4.
    assert model.masked_latent_loss_forward(1, 1, 4, pred_size=2, target_size=2) == 36
    assert model.masked_latent_loss_forward(1, 1, 4, pred_size=2, target_size=2, with_grad=False) == 28
    # int8 target 4 and its float16 scale 2 for the 8 of bf16.
    assert model.masked_latent_loss_forward(1, 1, 4, pred_size=2, target_size=1, target_scale=True) == 34
    # A weight of 4 bytes for the token.
    assert model.masked_latent_loss_forward(1, 1, 4, pred_size=2, target_size=2, weight=True) == 40
    # Gradient read, 8, and written, 8; the upstream scale 4.
    assert model.masked_latent_loss_backward(1, 1, 4, pred_size=2) == 20
    assert model.masked_latent_loss_backward(1, 1, 4, pred_size=2, scaled=False) == 0


def test_masked_latent_loss_at_the_size_of_the_readme():
    # 16 x 1176 x 768 = 14,450,688 elements of 4 + 2 + 4 bytes, 18,816 indices, the loss.
    assert model.masked_latent_loss_forward(16, 1176, 768, pred_size=4, target_size=2) == 144_506_880 + 150_528 + 4


def test_gather_tokens_and_its_scatter():
    # 2 rows of 4 floats read and written, 2 indices.
    assert model.gather_tokens(B=1, K=2, D=4, size=4) == 32 + 32 + 16
    # 2 rows and 2 indices read, 3 rows written; in two samples.
    assert model.scatter_tokens(B=2, N=3, K=2, D=4, size=4) == 2 * (32 + 16 + 48)


def test_gather_tubelets():
    # 2 x 16 x 16 pixels of 3 bytes are 1536 bytes; written as bf16 3072; an index.
    assert model.gather_tubelets(B=1, V=1, out_size=2) == 1536 + 3072 + 8
    assert model.gather_tubelets(B=3, V=5, out_size=4, tubelet=1, patch=2) == 15 * (12 + 48 + 8)


def test_foveated_glimpse():
    # 2 x 2 samples of 3 colours: 12 bytes read, 24 written as bf16; x, y and scale are 12.
    assert model.foveated_glimpse(1, 1, 1, 2, out_size=2) == 48
    assert model.foveated_glimpse(1, 1, 1, 2, levels=3, out_size=2) == 3 * 36 + 12
    assert model.foveated_glimpse_backward(1, 1, 1, 2, out_size=2) == 48 + 12
    # Levels of one fixation overlap: 4 x 4 pixels hold both the 2 x 2 and those around them.
    assert model.foveated_glimpse(1, 1, 1, 2, levels=2, out_size=2, pixels=16) == 2 * 24 + 48 + 12
    # 8 clips x 16 frames x 4 glimpses of 96 x 96: 14.2 MB read, 28.3 MB written.
    assert round(model.foveated_glimpse(8, 16, 4, 96, out_size=2) / 1e6, 1) == 42.5


def test_query_attend():
    # 3 keys and values of 4 bf16 are 48; query and output 16, log-sum-exp 4, entropy 4, peak 8.
    assert model.query_attend_forward(1, 1, 3, 4, size=2) == 48 + 16 + 16
    assert model.query_attend_forward(1, 1, 3, 4, size=2, stats=False) == 48 + 16 + 4
    # Keys, values and their gradients 96; query, output and their gradients 32; log-sum-exp 4.
    assert model.query_attend_backward(1, 1, 3, 4, size=2) == 96 + 32 + 4
