"""Sizes and times as people read them."""


def size(count: float) -> str:
    """Format a number of bytes, such as ``1.5 GB``."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 999.5 or unit == "TB":  # what rounds to less than 1000
            break
        count /= 1000
    whole = unit == "B" or count >= 999.5
    return f"{count:,.0f} {unit}" if whole else f"{count:.3g} {unit}"


def duration(seconds: float) -> str:
    """Format a number of seconds in readable units."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 60 else f"{minutes / 60:.1f} h"
