"""Sliders over plotting functions: live where there is a kernel, pre-drawn where there is none."""
from __future__ import annotations

import hashlib
import html
import io
import itertools
import json
import os
import traceback
from base64 import b64encode
from collections.abc import Callable, Sequence

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from .plotting import STYLE, figure_html, image_html

MAX_FRAMES = 80


def explore(draw: Callable[..., Figure], number: str, caption: str, alt: str, **knobs: Sequence):
    """Let a reader turn knobs and see ``draw(**values)``.

    In Jupyter and on Colab these are sliders of ipywidgets, which call ``draw`` at each move. In the built book, which
    has no kernel, every combination is drawn beforehand and plain sliders pick among the pictures.

    Args:
        draw: a pure function of the knobs that returns a matplotlib figure.
        number, caption, alt: as :func:`gnnssm_lite.plotting.show`; the knobs' values are added to ``alt``.
        knobs: name -> the values it takes, in order; the middle one is shown first. Underscores in names show as spaces.

    Raises:
        ValueError: no knob, a knob without values, or more combinations than can be drawn beforehand.
    """
    _check_knobs(knobs)
    if os.environ.get("GNNSSM_BOOK_BUILD"):
        return static(draw, number, caption, alt, **knobs)
    return _live(draw, number, caption, alt, **knobs)


def _check_knobs(knobs: dict[str, Sequence]) -> None:
    if not knobs:
        raise ValueError("knobs must name at least one knob; there was none")
    frames = 1
    for name, values in knobs.items():
        if len(values) == 0:
            raise ValueError(f"knob {name} must have at least one value; it had none")
        frames *= len(values)
    if frames > MAX_FRAMES:
        raise ValueError(f"knobs must have at most {MAX_FRAMES} combinations; they had {frames}")


def _live(draw: Callable[..., Figure], number: str, caption: str, alt: str, **knobs: Sequence) -> None:
    """Sliders over one picture. ``ipywidgets.interact`` would put an Output widget around it, for which nbclient (in
    nbconvert, nbgrader, …) may wait for ever: https://github.com/jupyter/nbclient/issues/312.
    """
    import ipywidgets
    from IPython.display import display

    sliders = {name: ipywidgets.SelectionSlider(options=list(values), value=values[len(values) // 2],
                                                description=name.replace("_", " "), continuous_update=False,
                                                style={"description_width": "initial"})
               for name, values in knobs.items()}

    def page() -> str:
        values = {name: slider.value for name, slider in sliders.items()}
        words = ", ".join(f"{name.replace('_', ' ')} = {_label(value)}" for name, value in values.items())
        return figure_html(image_html(draw(**values), f"{alt} ({words})"), number, caption)

    def redraw(_: object) -> None:
        try:
            picture.value = page()
        except Exception:  # no cell is running that could show it
            picture.value = f"<pre>{html.escape(traceback.format_exc())}</pre>"

    picture = ipywidgets.HTML(page())
    for slider in sliders.values():
        slider.observe(redraw, names="value")
    display(ipywidgets.VBox([*sliders.values(), picture]))


def static(draw: Callable[..., Figure], number: str, caption: str, alt: str, **knobs: Sequence):
    """The kernel-free form of :func:`explore`: a figure with one range input a knob over pre-drawn pictures.

    Raises:
        ValueError: as :func:`explore`.
    """
    from IPython.display import HTML

    _check_knobs(knobs)
    frames = [_frame(draw(**dict(zip(knobs, values, strict=True)))) for values in itertools.product(*knobs.values())]
    digest = "gnnssm-" + hashlib.sha256("".join(frames).encode()).hexdigest()[:12]
    names = [name.replace("_", " ") for name in knobs]
    inputs = "".join(
        f'<label>{html.escape(name)} = <output></output><input type="range" min="0" max="{len(values) - 1}" '
        f'value="{len(values) // 2}" step="1" aria-label="{html.escape(name)}"></label>'
        for name, values in zip(names, knobs.values(), strict=True))
    settings = json.dumps({"frames": frames, "names": names, "alt": alt,
                           "values": [[_label(v) for v in values] for values in knobs.values()]})
    content = f'<div class="gnnssm-slider" id="{digest}">{inputs}<img alt="{html.escape(alt)}" style="max-width:100%"></div>'
    return HTML(figure_html(content, number, caption) + f"<script>({_SCRIPT})(\"{digest}\", {settings});</script>")


_SCRIPT = """(id, data) => {
  const root = document.getElementById(id), inputs = [...root.querySelectorAll("input")], image = root.querySelector("img");
  const show = () => {
    const at = inputs.map(input => Number(input.value));
    image.src = data.frames[at.reduce((index, i, k) => index * data.values[k].length + i, 0)];
    const words = at.map((i, k) => data.names[k] + " = " + data.values[k][i]);
    image.alt = data.alt + " (" + words.join(", ") + ")";
    inputs.forEach((input, k) => {
      input.previousElementSibling.textContent = data.values[k][at[k]];
      input.setAttribute("aria-valuetext", words[k]);
    });
  };
  inputs.forEach(input => input.addEventListener("input", show));
  show();
}"""


def _label(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _frame(figure: Figure, dpi: int = 110) -> str:
    """The figure as a small ``data:`` address: 64 colours are enough for a plot, and a third of the bytes."""
    from PIL import Image

    buffer, small = io.BytesIO(), io.BytesIO()
    with plt.rc_context(STYLE):
        figure.savefig(buffer, format="png", dpi=dpi, facecolor="white")
    plt.close(figure)
    Image.open(buffer).convert("RGB").quantize(64).save(small, format="png", optimize=True)
    return "data:image/png;base64," + b64encode(small.getvalue()).decode()
