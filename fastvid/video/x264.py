"""Options of x264 with which the same frames give the same bytes on every machine."""

import functools
from pathlib import Path


def x264_params(*params: str) -> str:
    """Return a value for the option ``x264-params`` of FFmpeg's encoder libx264.

    With x264's AVX-512 code, some encodings of one video differ from the others (seen with PyAV 18.1 on a Xeon; never
    with AVX2, nor without the macroblock tree). Where the processor has AVX-512, x264 is therefore kept to AVX2, whose
    bytes are those that processors without AVX-512 give.

    Args:
        params: ``name=value`` pairs to go with it.
    """
    return ":".join([*params, "asm=avx2"] if _has_avx512() else params)


@functools.cache
def _has_avx512() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except FileNotFoundError:  # not Linux
        return False
    return " avx512f " in flags
