"""Tile shapes of Triton kernels that walk over rows: a pure function of the row's width."""

import triton


def row_tile(width: int, elements: int) -> tuple[int, int]:
    """(rows, columns) of a tile of about ``elements``: powers of two, without a ragged end where the width allows."""
    even = width & -width
    columns = even if even >= 128 else triton.next_power_of_2(max(width, 1))
    columns = min(columns, 1024)
    return max(1, elements // max(columns, 128)), columns
