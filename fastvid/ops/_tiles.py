"""Tile shapes of Triton kernels that process rows, as a pure function of the row's width."""

from collections.abc import Iterable

import triton

from fastvid.ops._launch import Launch


def row_tile(width: int, elements: int) -> tuple[int, int]:
    """Return the (rows, columns) of a tile of about ``elements``, both powers of two."""
    even = width & -width
    columns = even if even >= 128 else triton.next_power_of_2(max(width, 1))
    columns = min(columns, 1024)
    return max(1, elements // max(columns, 128)), columns


def row_launches(width: int, tiles: Iterable[tuple[int, int]]) -> list[Launch]:
    """Return the launches of a kernel over rows of ``width``, from the elements and the warps of its tiles."""
    shapes = [(*row_tile(width, elements), warps) for elements, warps in tiles]
    return [{"ROWS": rows, "BLOCK": columns, "num_warps": warps} for rows, columns, warps in shapes]


def row_class(width: int, size: int) -> str:
    """Return the shape class of a kernel over rows of ``width`` elements of ``size`` bytes."""
    return f"{row_tile(width, 1)[1]} columns of {size} bytes"
