"""Figures of the book: one style, one function for each kind of picture. Functions take data and return a figure.

:func:`show` puts a figure on the page with its number, caption and alternative text; it looks the same in the built
book, in Jupyter and on Colab.
"""
from __future__ import annotations

import base64
import html
import io
import itertools
from collections.abc import Callable, Mapping, Sequence

import matplotlib.pyplot as plt
import networkx as nx
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .checks import check_edge_index
from .jacobian import SpectralDensity

# Wong's colour-blind safe palette, as seaborn ships it; one look-up for the whole book.
PALETTE = sns.color_palette("colorblind").as_hex()
# Sizes are chosen for a phone: at 360 pixels of width an 11-point label of a 5.6 inch figure is still 10 pixels high.
STYLE = {"font.size": 11, "axes.titlesize": 11, "axes.labelsize": 11, "legend.fontsize": 9.5, "xtick.labelsize": 10,
         "ytick.labelsize": 10, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
         "grid.alpha": 0.25, "legend.frameon": False, "lines.linewidth": 2, "figure.dpi": 100, "savefig.dpi": 160,
         "axes.prop_cycle": plt.cycler(color=PALETTE)}
WIDTH = 5.6
SCROLLS_BEYOND = 640  # pixels: what is wider scrolls on a phone, because its letters would get too small
WIDE = 7.4


def subplots(nrows: int = 1, ncols: int = 1, width: float | None = None, height: float | None = None,
             **kwargs: object) -> tuple[Figure, Axes | np.ndarray]:
    """``plt.subplots`` in the book's style and sizes (inches)."""
    width = width or (WIDTH if ncols == 1 else WIDE)
    with plt.rc_context(STYLE):
        return plt.subplots(nrows, ncols, figsize=(width, height or 3.4 * nrows), layout="constrained", **kwargs)


def to_png(figure: Figure, dpi: int = 160) -> str:
    """The figure as a ``data:`` address, and closed."""
    buffer = io.BytesIO()
    with plt.rc_context(STYLE):
        figure.savefig(buffer, format="png", dpi=dpi, facecolor="white")
    plt.close(figure)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def figure_html(content: str, number: str, caption: str) -> str:
    """A ``<figure>`` with the id that mentions of "Figure 3.A" link to."""
    anchor = f"figure-{number.lower().replace('.', '-')}"
    return (f'<figure class="gnnssm-figure" id="{anchor}">{content}<figcaption><strong>Figure {html.escape(number)}.'
            f"</strong> {html.escape(caption, quote=False)}</figcaption></figure>")


def show(figure: Figure, number: str, caption: str, alt: str):
    """Show a figure with number, caption and alternative text.

    Args:
        figure: a matplotlib figure; it is closed.
        number: chapter and letter, such as ``"3.A"``.
        caption: what to see, with units and where the data come from; plain text and unicode, no TeX.
        alt: the picture in words, for readers who cannot see it.

    Returns:
        an object that Jupyter, Colab and the built book display.

    Raises:
        ValueError: an empty caption or alt text.
    """
    from IPython.display import HTML

    for name, text in {"number": number, "caption": caption, "alt": alt}.items():
        if not text.strip():
            raise ValueError(f"{name} must not be empty; it was {text!r}")
    return HTML(figure_html(image_html(figure, alt), number, caption))


def image_html(figure: Figure, alt: str) -> str:
    """The figure as an ``<img>`` of its own width, in a box that scrolls where that is wide; the figure is closed."""
    width = int(figure.get_figwidth() * 100)
    image = f'<img src="{to_png(figure)}" alt="{html.escape(alt)}" style="width:{width}px;max-width:100%">'
    return f'<div class="gnnssm-wide" tabindex="0">{image}</div>' if width > SCROLLS_BEYOND else image


def _numpy(values: object) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)


def _grid(count: int, ncols: int, height: float, **kwargs: object) -> tuple[Figure, list[Axes]]:
    ncols = min(ncols, count)
    nrows = -(-count // ncols)
    figure, axes = subplots(nrows, ncols, height=height * nrows, squeeze=False, **kwargs)
    for spare in axes.flat[count:]:
        spare.set_visible(False)
    return figure, list(axes.flat[:count])


# ---------------------------------------------------------------- graphs and matrices

def draw_graph(edge_index: torch.Tensor, num_nodes: int, values: object = None, labels: Sequence[str] | None = None,
               positions: Mapping[int, tuple[float, float]] | None = None, axis: Axes | None = None, title: str = "",
               value_label: str = "", directed: bool = False, node_size: float = 550,
               centre: float | None = None, edge_values: object = None) -> Figure:
    """A small graph, its nodes coloured by ``values`` if there are any.

    Args:
        edge_index, num_nodes: the graph. values: ``(n,)`` numbers. labels: node names, 0, 1, ... if ``None``.
        positions: node -> (x, y); a spring layout with a fixed seed if ``None``. axis: where to draw.
        title: of the panel. value_label: of the colour bar, shown when given.
        directed: draw each edge as an arrow from ``edge_index[0]`` to ``edge_index[1]``, self-loops included.
        node_size: area of a node in square points. centre: the middle of a two-sided colour map.
        edge_values: ``(E,)`` non-negative numbers, in the order of ``edge_index``: the larger, the thicker an edge.

    Raises:
        TypeError, ValueError: ``edge_index`` and ``num_nodes`` describe no graph (no undirected one, unless ``directed``).
    """
    edge_index, num_nodes = check_edge_index(edge_index, num_nodes, undirected=not directed)
    figure, axis = (axis.figure, axis) if axis is not None else subplots(width=4, height=3)
    graph = nx.DiGraph() if directed else nx.Graph()
    graph.add_nodes_from(range(num_nodes))
    graph.add_edges_from(edge_index.t().tolist())
    positions = positions or nx.spring_layout(graph, seed=0)
    colours = PALETTE[9] if values is None else _numpy(values)
    names = dict(enumerate(labels if labels is not None else range(num_nodes)))
    weight = np.full(edge_index.shape[1], 0.3) if edge_values is None else _numpy(edge_values) / _numpy(edge_values).max()
    width = dict(zip(map(tuple, edge_index.t().tolist()), 5 * weight, strict=True))
    nx.draw_networkx_edges(graph, positions, ax=axis, edge_color="0.5", width=[width[pair] for pair in graph.edges],
                           node_size=node_size)
    scale = {}
    if values is not None:
        limit = None if centre is None else float(np.abs(colours - centre).max()) or 1.0
        scale = {"cmap": "viridis"} if limit is None else {"cmap": "vlag", "vmin": centre - limit, "vmax": centre + limit}
    drawn = nx.draw_networkx_nodes(graph, positions, ax=axis, node_color=colours, edgecolors="black",
                                   node_size=node_size, **scale)
    nx.draw_networkx_labels(graph, positions, names, ax=axis, font_size=11,
                            bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 1})
    if value_label and values is not None:
        figure.colorbar(drawn, ax=axis, label=value_label, shrink=0.8)
    axis.set_axis_off()
    axis.set_title(title)
    axis.margins(0.2)
    return figure


def matrices(panels: Mapping[str, object], ncols: int = 2, decimals: int = 2) -> Figure:
    """Small matrices as heat maps with their entries written in, on one colour scale."""
    arrays = {title: np.atleast_2d(_numpy(values)) for title, values in panels.items()}
    limit = max(float(np.abs(a).max()) for a in arrays.values())
    figure, axes = _grid(len(arrays), ncols, 3.2)
    for axis, (title, array) in zip(axes, arrays.items(), strict=True):
        sns.heatmap(array, ax=axis, annot=array.size <= 36, fmt=f".{decimals}f", cmap="vlag", vmin=-limit, vmax=limit,
                    cbar=False, square=True, linewidths=0.5, annot_kws={"size": 10})
        axis.set_title(title)
        axis.grid(False)
    return figure


def regime_map(table: pd.DataFrame, xlabel: str, ylabel: str, value_label: str, centre: float | None = None,
               title: str = "") -> Figure:
    """A heat map over two knobs: ``table`` has the one in its columns and the other in its index."""
    figure, axis = subplots(height=3.8)
    sns.heatmap(table.iloc[::-1], ax=axis, cmap="viridis" if centre is None else "vlag", center=centre,
                cbar_kws={"label": value_label})
    axis.set(xlabel=xlabel, ylabel=ylabel, title=title)
    return figure


# ---------------------------------------------------------------- curves

_colour_of: dict[object, int] = {}  # name -> place in PALETTE, for the figures that follow


def colours_of(names: Sequence[object]) -> list[str]:
    """A colour for each name: the one that it had in earlier figures of this session, if no other name here has it.

    So a model keeps its colour from figure to figure of a chapter.
    """
    chosen: dict[object, int] = {}
    for name in names:
        if _colour_of.get(name) not in (None, *chosen.values()):
            chosen[name] = _colour_of[name]
    free = [i for i in range(len(PALETTE)) if i not in chosen.values()]
    for k, name in enumerate(name for name in dict.fromkeys(names) if name not in chosen):
        chosen[name] = free[k] if k < len(free) else k % len(PALETTE)
        _colour_of.setdefault(name, chosen[name])
    return [PALETTE[chosen[name]] for name in names]


REFERENCE_DASHES = (":", "--", "-.", (0, (8, 3)))


def lines(data: pd.DataFrame, x: str, y: str, hue: str, xlabel: str, ylabel: str, logy: bool = False, logx: bool = False,
          errorbar: object = "sd", order: Sequence[str] | None = None, reference: Mapping[str, float] | None = None,
          axis: Axes | None = None, title: str = "", spread: str = "band") -> Figure:
    """One line for each value of ``hue``: the mean, and a band of one standard deviation where there are several runs.

    On a logarithmic axis both are taken of the logarithms (geometric mean). Where one run has no finite value (or no
    finite logarithm) neither has the mean, which is not drawn there: a mean of the other runs would hide it.

    Args:
        data: tidy data; NaN in y is a run that was not measured there and is left out.
        x, y, hue: its columns. xlabel, ylabel: with units. order: of the legend.
        reference: horizontal grey lines, name -> height, each dashed in its own way.
        spread: how to draw ``errorbar``, as a ``"band"`` or as ``"bars"`` at each point.
    """
    figure, axis = (axis.figure, axis) if axis is not None else subplots()
    order = list(order or dict.fromkeys(data[hue]))
    if logy:
        axis.set_yscale("log")  # before drawing: seaborn then averages logarithms, and no band falls below zero
    if logx:
        axis.set_xscale("log")
    sns.lineplot(_without_infinite_means(data, x, y, hue, logy), x=x, y=y, hue=hue, style=hue, hue_order=order,
                 style_order=order, errorbar=errorbar, ax=axis, err_style=spread, palette=colours_of(order), markers=False)
    for (name, height), dashes in zip((reference or {}).items(), itertools.cycle(REFERENCE_DASHES), strict=False):
        axis.axhline(height, color="0.3", linestyle=dashes, label=name)
    axis.set(xlabel=xlabel, ylabel=ylabel, title=title)
    axis.legend()
    return figure


def _without_infinite_means(data: pd.DataFrame, x: str, y: str, hue: str, logy: bool) -> pd.DataFrame:
    infinite = np.isinf(data[y]) | (data[y] <= 0 if logy else False)
    return data.assign(**{y: data[y].mask(infinite.groupby([data[x], data[hue]]).transform("any"))})


# ---------------------------------------------------------------- spectra

def densities(panels: Mapping[str, object], curves: Mapping[str, tuple[object, object]] | None = None, bins: int = 60,
              xlabel: str = "squared singular value γ", curve_label: str = "closed form", upper: float | None = None,
              ncols: int = 2, logy: bool = True) -> Figure:
    """Histograms of squared singular values, one panel each on common axes, with closed forms laid over some.

    Args:
        panels: title -> sample of squared singular values, or a :class:`~gnnssm_lite.jacobian.SpectralDensity`.
        curves: title -> ``(x, density)``, for the panels that have a closed form.
        upper: right end of the axis; the largest value seen if ``None``.
    """
    upper = upper or max(_largest(values) for values in panels.values())
    edges = np.linspace(0, upper, bins + 1)
    figure, axes = _grid(len(panels), ncols, 2.8, sharex=True, sharey=True)
    for axis, (title, values) in zip(axes, panels.items(), strict=True):
        axis.stairs(_histogram(values, edges), edges, fill=True, color=PALETTE[0], alpha=0.55, label="measured")
        if curves and title in curves:
            x, density = (_numpy(c) for c in curves[title])
            axis.plot(x, np.where(density > 0, density, np.nan), color=PALETTE[3], label=curve_label)
        axis.set_title(title)
        axis.legend(loc="upper right")
        if logy:
            axis.set_yscale("log")
    figure.supxlabel(xlabel, fontsize=11)
    figure.supylabel("density", fontsize=11)
    return figure


def histogram(panels: Mapping[str, object], edges: object, xlabel: str, ylabel: str = "count", logy: bool = False,
              ncols: int = 1) -> Figure:
    """Counts of one quantity in given bins, one panel a sample on common axes.

    Args:
        panels: title -> sample. edges: ends of the bins.
    """
    edges = _numpy(edges)
    figure, axes = _grid(len(panels), ncols, 2.6, sharex=True, sharey=True)
    for axis, (title, values) in zip(axes, panels.items(), strict=True):
        counts, _ = np.histogram(_numpy(values), bins=edges)
        axis.stairs(counts, edges, fill=True, color=PALETTE[0])
        axis.set(title=title, yscale="log" if logy else "linear")
    figure.supxlabel(xlabel, fontsize=11)
    figure.supylabel(ylabel, fontsize=11)
    return figure


def _largest(values: object) -> float:
    return float(values.nodes.max()) if isinstance(values, SpectralDensity) else float(_numpy(values).max())


def _histogram(values: object, edges: np.ndarray) -> np.ndarray:
    if isinstance(values, SpectralDensity):
        return values.histogram(edges)
    counts, _ = np.histogram(_numpy(values), bins=edges)
    return counts / (len(_numpy(values).reshape(-1)) * np.diff(edges))


def stairs(panels: Mapping[str, Mapping[str, object]], edges: object, xlabel: str, ylabel: str = "share",
           ncols: int = 1, height: float = 2.3, logy: bool = False) -> Figure:
    """Outlines of several distributions over the same bins, laid over one another, one panel each comparison.

    Args:
        panels: title -> name -> mass in each bin. edges: ends of the bins. height: of a panel, in inches.
    """
    edges = _numpy(edges)
    figure, axes = _grid(len(panels), ncols, height, sharex=True, sharey=True)
    for number, (axis, (title, masses)) in enumerate(zip(axes, panels.items(), strict=True)):
        for kind, (name, mass) in enumerate(masses.items()):
            axis.stairs(_numpy(mass), edges, color=PALETTE[(0, 3, 2, 1)[kind % 4]], linewidth=2, label=name,
                        linestyle=("-", "--", ":", "-.")[kind % 4], baseline=None if logy else 0)
        axis.set(title=title, yscale="log" if logy else "linear")
        if number == 0:
            axis.legend()
    figure.supxlabel(xlabel, fontsize=11)
    figure.supylabel(ylabel, fontsize=11)
    return figure


def complex_plane(panels: Mapping[str, object], radius: float = 1.0, ncols: int = 2, limit: float | None = None) -> Figure:
    """Eigenvalues in the complex plane with the circle of the given radius (the edge of chaos)."""
    spectra = {title: _numpy(values).reshape(-1) for title, values in panels.items()}
    limit = limit or 1.1 * max(radius, *(float(np.abs(v).max()) for v in spectra.values()))
    figure, axes = _grid(len(spectra), ncols, 3.4, sharex=True, sharey=True)
    for axis, (title, values) in zip(axes, spectra.items(), strict=True):
        axis.add_patch(plt.Circle((0, 0), radius, fill=False, color="0.3", linestyle="--"))
        axis.scatter(values.real, values.imag, s=9, alpha=0.5, color=PALETTE[0], linewidths=0)
        axis.set(title=title, xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
    figure.supxlabel("real part", fontsize=11)
    figure.supylabel("imaginary part", fontsize=11)
    return figure


def phase_portrait(panels: Mapping[str, np.ndarray], ncols: int = 2, height: float = 3.2) -> Figure:
    """Two-dimensional feature dynamics: each panel an array ``(layers, nodes, 2)``; dark is early, light is late."""
    figure, axes = _grid(len(panels), ncols, height)
    for axis, (title, states) in zip(axes, panels.items(), strict=True):
        steps = np.linspace(0, 0.9, len(states))
        for state, shade in zip(states, steps, strict=True):
            axis.scatter(state[:, 0], state[:, 1], s=5, color=plt.cm.viridis(shade), alpha=0.6, linewidths=0)
        axis.plot(0, 0, marker="+", color=PALETTE[3], markersize=12, markeredgewidth=2)
        axis.set(title=title)
    figure.supxlabel("first feature", fontsize=11)
    figure.supylabel("second feature", fontsize=11)
    return figure


def bars(data: pd.DataFrame, x: str, y: str, hue: str | None, xlabel: str, ylabel: str,
         decorate: Callable[[Axes], None] | None = None) -> Figure:
    """Bars with one standard deviation, lying, so that names stay legible on a phone: ``y`` holds the names."""
    figure, axis = subplots(height=0.5 * data[y].nunique() + 1.6)
    count = data[hue].nunique() if hue else 1
    sns.barplot(data, x=x, y=y, hue=hue, errorbar="sd", ax=axis, palette=PALETTE[:count] if hue else None,
                color=None if hue else PALETTE[0])
    axis.set(xlabel=xlabel, ylabel=ylabel)
    if decorate:
        decorate(axis)
    return figure
