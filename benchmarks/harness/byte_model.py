"""The least bytes an op must move: every input element read once, every output element written once.

One function per op and pass, of sizes alone: what the benchmarks divide by time, and what predicts a card that was not
measured (bytes / datasheet bandwidth is a time that no kernel beats). Sizes are counts, ``*_size`` bytes per element.
"""

INDEX = 8  # int64
FLOAT = 4


def multiblock_mask(B: int, M: int, V: int) -> int:
    """Count the bytes: sample ids [B] read, masked [B, M] and visible [B, V] written."""
    return B * INDEX * (1 + M + V)


def masked_latent_loss_forward(
    B: int,
    M: int,
    D: int,
    *,
    pred_size: int,
    target_size: int,
    with_grad: bool = True,
    target_scale: bool = False,
    weight: bool = False,
) -> int:
    """Count the bytes: pred [B, M, D], the masked rows of target [B, N, D] and their indices read, the gradient stored.

    An int8 target (``target_size=1``) has a float16 scale for each row (``target_scale``), a weighted loss a float.
    """
    row = D * (pred_size * (2 if with_grad else 1) + target_size) + INDEX
    row += (2 if target_scale else 0) + (FLOAT if weight else 0)
    return B * M * row + FLOAT


def masked_latent_loss_backward(B: int, M: int, D: int, *, pred_size: int, scaled: bool = True) -> int:
    """Count the bytes: the stored gradient read, and written after multiplication by the upstream scale on the device.

    On a CPU the scale can be looked at, and where it is 1 the pass is left out (``scaled=False``).
    """
    return 2 * B * M * D * pred_size + FLOAT if scaled else 0


def gather_tokens(B: int, K: int, D: int, *, size: int) -> int:
    """Count the bytes: K rows of x [B, N, D] and their indices read, [B, K, D] written."""
    return B * K * (2 * D * size + INDEX)


def scatter_tokens(B: int, N: int, K: int, D: int, *, size: int) -> int:
    """Count the bytes of the backward pass: gradient [B, K, D] and indices read, all of [B, N, D] written."""
    return B * (K * (D * size + INDEX) + N * D * size)


def gather_tubelets(B: int, V: int, *, out_size: int, tubelet: int = 2, patch: int = 16) -> int:
    """Count the bytes: uint8 pixels of V tubelets a clip and their indices read, as many numbers of ``out_size``
    written.
    """
    return B * V * (3 * tubelet * patch * patch * (1 + out_size) + INDEX)


def foveated_glimpse(
    B: int, T: int, G: int, S: int, *, levels: int = 1, pixel_size: int = 1, out_size: int, pixels: int | None = None
) -> int:
    """Count the bytes: [B, T, G, levels, 3, S, S] written; pixels, and x, y and scale of each fixation read.

    ``pixels`` is the number of those under the crops, which overlap within a fixation and may between fixations; None
    is one for each sample, as separate crops at the frame's own resolution have.
    """
    samples = B * T * G * levels * S * S
    return 3 * (samples * out_size + (samples if pixels is None else pixels) * pixel_size) + B * T * G * 3 * FLOAT


def foveated_glimpse_backward(
    B: int, T: int, G: int, S: int, *, levels: int = 1, pixel_size: int = 1, out_size: int, pixels: int | None = None
) -> int:
    """Count the bytes of the gaze gradient: the incoming gradient and the pixels read, d(x, y, scale) written."""
    forward = foveated_glimpse(B, T, G, S, levels=levels, pixel_size=pixel_size, out_size=out_size, pixels=pixels)
    return forward + B * T * G * 3 * FLOAT


def query_attend_forward(B: int, H: int, N: int, D: int, *, Q: int = 1, size: int, stats: bool = True) -> int:
    """Count the bytes: key and value [B, H, N, D] and query [B, H, Q, D] read, the output and its statistics written.

    Kept for the backward pass: a float32 log-sum-exp for each query. The statistics are a float32 entropy and an int64
    peak.
    """
    per_query = 2 * D * size + FLOAT + (FLOAT + INDEX if stats else 0)
    return B * H * (2 * N * D * size + Q * per_query)


def query_attend_backward(B: int, H: int, N: int, D: int, *, Q: int = 1, size: int) -> int:
    """Count the bytes: key, value, query, output, its gradient and log-sum-exp read; gradients of query, key, value
    written.
    """
    return B * H * (4 * N * D * size + Q * (4 * D * size + FLOAT))
