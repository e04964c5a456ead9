"""Figures and sliders: drawn from data, described in words, usable without a kernel."""
import re

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch

matplotlib.use("Agg")

from gnnssm_lite import graphs, jacobian, plotting, widgets  # noqa: E402
from gnnssm_lite.models import GCN  # noqa: E402


def toy(scale: float = 1.0, shift: int = 0):
    figure, axis = plotting.subplots()
    axis.plot([0, 1], [shift, scale])
    return figure


def test_show_carries_number_caption_and_alt_text():
    page = plotting.show(toy(), "3.A", "Norm of Â, ‖J‖₂ < 1", 'a line, "rising"').data
    assert 'id="figure-3-a"' in page and "Figure 3.A." in page and "‖J‖₂ &lt; 1" in page
    assert 'alt="a line, &quot;rising&quot;"' in page and "data:image/png;base64," in page


@pytest.mark.parametrize("missing", ["number", "caption", "alt"])
def test_show_refuses_a_figure_without_words(missing):
    words = {"number": "3.A", "caption": "words", "alt": "words"} | {missing: " "}
    with pytest.raises(ValueError, match=f"{missing} must not be empty"):
        plotting.show(toy(), **words)


def test_drawing_leaves_the_reader_s_style_and_no_open_figure():
    matplotlib.pyplot.close("all")
    before = dict(matplotlib.rcParams)
    plotting.show(toy(), "1.A", "caption", "alt")
    assert dict(matplotlib.rcParams) == before and not matplotlib.pyplot.get_fignums()


def frame():
    return pd.DataFrame([{"depth": k, "norm": 0.5 ** k + seed, "model": model}
                         for k in range(4) for seed in range(2) for model in "ab"])


DENSITY = jacobian.SpectralDensity(np.array([0.1, 0.5, 2.0]), np.array([0.5, 0.25, 0.25]), 12)
PICTURES = {
    "graph": lambda: plotting.draw_graph(graphs.path(4), 4, values=torch.arange(4.0), value_label="x"),
    "two-sided graph": lambda: plotting.draw_graph(graphs.path(4), 4, values=torch.arange(4.0) - 1, labels=(),
                                                   node_size=90, centre=0.0),
    "matrices": lambda: plotting.matrices({"A": torch.eye(3), "B": torch.ones(2, 3)}),
    "regime map": lambda: plotting.regime_map(pd.DataFrame(np.eye(3)), "depth", "scale", "log energy"),
    "lines": lambda: plotting.lines(frame(), "depth", "norm", "model", "depth (layers)", "norm", logy=True,
                                    reference={"one": 1.0}),
    "lines with bars": lambda: plotting.lines(frame(), "depth", "norm", "model", "depth (layers)", "norm", spread="bars"),
    "densities": lambda: plotting.densities({"sample": np.linspace(0, 1, 50), "lanczos": DENSITY},
                                            {"sample": (np.linspace(0, 1, 9), np.ones(9))}),
    "histogram": lambda: plotting.histogram({"a": torch.linspace(0, 1, 50), "b": np.ones(9)}, np.linspace(0, 1, 6), "x",
                                            logy=True),
    "stairs": lambda: plotting.stairs({"x": {"a": torch.ones(5), "b": np.arange(5.0)}}, np.linspace(0, 1, 6), "x", logy=True),
    "complex plane": lambda: plotting.complex_plane({"a": torch.exp(1j * torch.arange(5.0)), "b": np.ones(3)}),
    "phase portrait": lambda: plotting.phase_portrait({"a": np.ones((3, 5, 2))}),
    "bars": lambda: plotting.bars(frame(), "norm", "model", None, "norm", "model"),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_every_kind_of_picture_draws_with_labelled_axes(kind):
    figure = PICTURES[kind]()
    page = plotting.show(figure, "1.A", "caption", "alt").data
    assert len(page) > 3000
    if kind not in ("graph", "two-sided graph", "matrices"):
        words = [axis.get_xlabel() for axis in figure.axes] + [getattr(figure, "_supxlabel", None)]
        assert any(words)


@pytest.mark.parametrize(("bad", "logy", "drawn"), [
    (np.inf, False, [0, 1, 2]), (-np.inf, True, [0, 1, 2]), (0.0, True, [0, 1, 2]), (-1.0, True, [0, 1, 2]),
    (0.0, False, [0, 1, 2, 3]), (-1.0, False, [0, 1, 2, 3]), (np.nan, True, [0, 1, 2, 3])])
def test_a_line_stops_where_one_run_has_no_finite_mean(bad, logy, drawn):
    """The other model and the other run are finite; a run that was not measured (NaN) leaves the others' mean."""
    data = frame()
    data.loc[(data.depth == 3) & (data.model == "b") & (data.norm > 1), "norm"] = bad
    figure = plotting.lines(data, "depth", "norm", "model", "depth", "norm", logy=logy)
    shown = [list(line.get_xdata()) for line in figure.axes[0].get_lines() if len(line.get_xdata())]
    matplotlib.pyplot.close(figure)
    assert shown == [[0, 1, 2, 3], drawn]


def test_two_sided_colours_are_symmetric_about_their_centre():
    figure = plotting.draw_graph(graphs.path(3), 3, values=torch.tensor([-1.0, 0.0, 3.0]), centre=0.0)
    nodes = next(c for c in figure.axes[0].collections if c.get_array() is not None and len(c.get_array()) == 3)
    assert nodes.get_clim() == (-3, 3)


def test_a_graph_without_values_draws_without_warning(recwarn):
    plotting.draw_graph(graphs.path(3), 3, centre=0.0)
    assert not recwarn.list


def test_edge_values_make_edges_thick_in_proportion_and_keep_to_their_edge():
    edges = graphs.star(4)
    values = torch.tensor([float(u + v) for u, v in edges.t().tolist()])
    figure = plotting.draw_graph(edges, 4, edge_values=values, positions={0: (0, 0), 1: (1, 0), 2: (0, 1), 3: (-1, 0)})
    lines = figure.axes[0].collections[0]
    ends = [tuple(np.round(path.vertices[-1]).astype(int)) for path in lines.get_paths()]
    assert dict(zip(ends, np.asarray(lines.get_linewidths()) / 5 * 3, strict=True)) == pytest.approx(
        {(1, 0): 1, (0, 1): 2, (-1, 0): 3})
    matplotlib.pyplot.close(figure)


def test_histogram_counts_every_value_once():
    figure = plotting.histogram({"a": torch.tensor([0.1, 0.1, 0.9])}, [0, 0.5, 1], "x")
    assert list(figure.axes[0].patches[0].get_data().values) == [2, 1]


def test_stairs_draw_each_mass_as_given_and_name_it():
    figure = plotting.stairs({"x": {"a": [0.2, 0.8], "b": torch.tensor([0.5, 0.5])}}, [0, 1, 2], "x")
    drawn = {patch.get_label(): patch.get_data() for patch in figure.axes[0].patches}
    assert list(drawn["a"].values) == [0.2, 0.8] and list(drawn["b"].values) == [0.5, 0.5]
    assert list(drawn["a"].edges) == [0, 1, 2]


def test_densities_integrate_to_one_on_the_axis():
    edges = np.linspace(0, 3, 31)
    assert np.sum(DENSITY.histogram(edges) * np.diff(edges)) == pytest.approx(1)
    assert np.sum(plotting._histogram(torch.rand(1000), edges) * np.diff(edges)) == pytest.approx(1)


def test_static_slider_holds_every_combination_and_needs_no_kernel():
    page = widgets.static(toy, "4.B", "caption", "a line", scale=[0.5, 1.0, 2.0], shift=[0, 1]).data
    assert page.count("data:image/png;base64,") == 6 and page.count('type="range"') == 2
    assert 'id="figure-4-b"' in page and "scale" in page and 'alt="a line"' in page
    assert len(set(re.findall(r"data:image/png;base64,[A-Za-z0-9+/=]+", page))) == 6


def test_explore_is_static_in_the_book_and_live_elsewhere(monkeypatch):
    calls = []

    def draw(scale):
        calls.append(scale)
        return toy(scale)

    monkeypatch.setenv("GNNSSM_BOOK_BUILD", "1")
    assert widgets.explore(draw, "4.B", "caption", "alt", scale=[1.0, 2.0, 3.0]).data and calls == [1.0, 2.0, 3.0]
    monkeypatch.delenv("GNNSSM_BOOK_BUILD")
    calls.clear()
    widgets.explore(draw, "4.B", "caption", "alt", scale=[1.0, 2.0, 3.0])
    assert calls == [2.0]


@pytest.fixture
def shown(monkeypatch):
    """What ``explore`` displays where there is a kernel."""
    import IPython.display

    monkeypatch.delenv("GNNSSM_BOOK_BUILD", raising=False)
    displayed = []
    monkeypatch.setattr(IPython.display, "display", displayed.append)
    return displayed


def test_live_slider_draws_anew_and_says_where_it_stands(shown):
    matplotlib.pyplot.close("all")
    calls = []

    def draw(scale, shift):
        calls.append((scale, shift))
        return toy(scale, shift)

    widgets.explore(draw, "4.B", "caption", "a line", scale=[1.0, 2.0, 3.0], shift=[0, 1])
    (box,) = shown
    scale, shift, picture = box.children
    assert scale.options == (1.0, 2.0, 3.0) and (scale.value, shift.value) == (2.0, 1)
    pages = [picture.value]
    for value in (scale.options[0], scale.options[-1]):
        scale.value = value
        pages.append(picture.value)
    assert calls == [(2.0, 1), (1.0, 1), (3.0, 1)] and len(set(pages)) == 3
    assert 'id="figure-4-b"' in pages[2] and "caption" in pages[2] and 'alt="a line (scale = 3, shift = 1)"' in pages[2]
    assert not matplotlib.pyplot.get_fignums()


def test_live_slider_shows_an_error_of_a_move_and_goes_on(shown):
    def draw(scale):
        if scale == 3.0:
            raise RuntimeError("broken <picture>")
        return toy(scale)

    widgets.explore(draw, "4.B", "caption", "alt", scale=[1.0, 2.0, 3.0])
    scale, picture = shown[0].children
    scale.value = 3.0
    assert "RuntimeError: broken &lt;picture&gt;" in picture.value and "<img" not in picture.value
    scale.value = 1.0
    assert "<img" in picture.value


def test_live_slider_makes_no_output_widget(shown, monkeypatch):
    """nbclient may wait for ever for a cell with one (jupyter/nbclient, issue 312)."""
    import ipywidgets

    made = []
    monkeypatch.setattr(ipywidgets.Output, "__init__", lambda *args, **kwargs: made.append(args))
    widgets.explore(toy, "4.B", "caption", "alt", scale=[1.0])
    assert shown and not made


@pytest.mark.parametrize("knobs, message", [
    ({}, "knobs must name at least one knob"),
    ({"scale": []}, "knob scale must have at least one value"),
    ({"scale": range(100)}, "knobs must have at most 80 combinations; they had 100"),
])
def test_bad_knobs_are_refused(knobs, message):
    with pytest.raises(ValueError, match=message):
        widgets.explore(toy, "4.B", "caption", "alt", **knobs)


@pytest.mark.parametrize("building", ["1", ""])
def test_an_error_in_the_first_picture_fails_the_cell(monkeypatch, building):
    monkeypatch.setenv("GNNSSM_BOOK_BUILD", building)

    def draw(scale):
        raise RuntimeError("broken picture")

    with pytest.raises(RuntimeError, match="broken picture"):
        widgets.explore(draw, "4.B", "caption", "alt", scale=[1.0])


def test_spectral_density_of_a_layer_can_be_drawn():
    S = graphs.normalized_adjacency(graphs.grid(4, 4), 16, dtype=torch.float64)
    density = jacobian.spectral_density(GCN(4, 4, "tanh").double(), torch.randn(16, 4, dtype=torch.float64), S)
    assert plotting.show(plotting.densities({"GCN": density}), "3.A", "caption", "alt").data


def test_two_reference_lines_can_be_told_apart():
    data = pd.DataFrame({"x": [0, 1], "y": [1.0, 2.0], "model": "GCN"})
    axis = plotting.lines(data, "x", "y", "model", "x", "y", reference={"low": 0.5, "high": 1.5}).axes[0]
    low, high = (line for line in axis.lines if line.get_label() in ("low", "high"))
    assert low.get_linestyle() != high.get_linestyle() and low.get_ydata()[0] == 0.5


def test_a_name_keeps_its_colour_from_figure_to_figure_and_no_two_share_one():
    first = plotting.colours_of(["colour-a", "colour-b", "colour-c"])
    second = plotting.colours_of(["colour-c", "colour-d", "colour-a"])
    assert second[0] == first[2] and second[2] == first[0] and second[1] not in (second[0], second[2])
    assert len(set(first)) == 3 and plotting.colours_of(["colour-b", "colour-b"]) == [first[1], first[1]]
    many = plotting.colours_of([f"colour-{i}" for i in range(3 * len(plotting.PALETTE))])
    assert set(many) == set(plotting.PALETTE)
    other = plotting.colours_of(["colour-x"])[0]  # alone in its figure, it may have taken the colour of colour-a
    assert len(set(plotting.colours_of(["colour-a", "colour-x", "colour-b"]))) == 3 and other in plotting.PALETTE


def test_only_a_wide_figure_scrolls_in_its_own_box():
    def html_of(width):
        return plotting.show(plotting.subplots(width=width, height=3)[0], number="1.A", caption="c", alt="a").data
    assert "gnnssm-wide" not in html_of(5.6) and "gnnssm-wide" in html_of(9)
