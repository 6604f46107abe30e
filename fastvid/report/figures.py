"""Figures of all pages: one look, and SVG text that is the same for the same numbers."""

import io
from collections.abc import Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import AutoLocator, LogLocator, NullFormatter

INK, GRID = "#1f2933", "#d9e0e6"
_MARGINS = (0.75, 0.1, 0.5, 0.3)  # inches on the left of each chart, on the right of the last, below and above
COLOURS = ("#2364aa", "#d1495b", "#2a9d8f", "#e9a23b", "#6d597a", "#7f8c99")


def new_axes(
    count: int, width: float | None = None, height: float = 3.0, *, measured: bool = True
) -> tuple[Figure, list[Axes]]:
    """Make a figure with ``count`` charts side by side. Width and height are of the whole, in inches.

    Args:
        count: number of charts.
        width: default: 4.2 inches a chart.
        height: of all.
        measured: place the charts by measuring all texts, a tenth of a second for each chart. False leaves room for
            labels of up to seven characters at the ticks, a title and the horizontal axis's label.
    """
    width = width or 4.2 * count
    # Without pyplot, which would look for a screen and keep every figure.
    figure = Figure(figsize=(width, height), layout="constrained" if measured else None)
    axes = figure.subplots(1, count, squeeze=False)
    if not measured:
        left, right, bottom, top = _MARGINS
        chart = (width - count * left - right) / count  # inches
        figure.subplots_adjust(
            left=left / width,
            right=1 - right / width,
            bottom=bottom / height,
            top=1 - top / height,
            wspace=left / chart,
        )
    for ax in axes[0]:
        ax.grid(True, color=GRID, linewidth=0.6)
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(colors=INK, labelsize=8)
        ax.title.set_size(10)
    return figure, list(axes[0])


def scale_logarithmically(ax: Axes) -> None:
    """Make the vertical axis logarithmic, with labels such as 0.2 and 0.5, not powers of ten."""
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(_LogarithmicTicks(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(NullFormatter())


class _LogarithmicTicks(LogLocator):
    """Ticks of a logarithmic axis, at even distances where it spans less than a decade."""

    def tick_values(self, vmin: float, vmax: float) -> Sequence[float]:
        if 0 < vmin <= vmax < 10 * vmin:
            return AutoLocator().tick_values(vmin, vmax)
        return super().tick_values(vmin, vmax)


def svg(figure: Figure) -> str:
    """Return the figure as SVG text for a page."""
    for ax in figure.axes:  # a legend with nothing in it says nothing
        legend = ax.get_legend()
        if legend is not None and not legend.get_texts():
            legend.remove()
    out = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "fastvid"}):
        _lay_out(figure)
        figure.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    return text[text.index("<svg") :]


def png(figure: Figure) -> bytes:
    """Return the figure as a PNG file."""
    out = io.BytesIO()
    _lay_out(figure)
    figure.savefig(out, format="png", dpi=100, metadata={"Software": None})
    return out.getvalue()


def _lay_out(figure: Figure) -> None:
    """Place the axes, once: a figure that has a layout engine is drawn a second time for it when it is saved."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine("none")
