"""Sphinx extension with what the book needs from its surroundings.

* Repository, issue and Colab buttons, only when the address of the repository is known from the environment:
  ``BOOK_REPOSITORY_URL``, else ``GITHUB_SERVER_URL`` and ``GITHUB_REPOSITORY``; the branch from ``BOOK_BRANCH``.
* JavaScript from ``book/_static/vendor`` when it has been put there (see ``.ci/vendor``), the public CDNs otherwise.
* ``GNNSSM_BOOK_BUILD=1`` for the kernels, so that widgets come out in the form that needs no kernel.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config

VENDOR = Path(__file__).resolve().parents[1] / "_static" / "vendor"


def repository_address(environ: Mapping[str, str]) -> str:
    """The repository's address, or an empty string when nothing names it."""
    address = environ.get("BOOK_REPOSITORY_URL", "")
    if not address and environ.get("GITHUB_REPOSITORY"):
        address = f"{environ.get('GITHUB_SERVER_URL', 'https://github.com')}/{environ['GITHUB_REPOSITORY']}"
    return address.strip().rstrip("/").removesuffix(".git")


def set_buttons(app: Sphinx, config: Config) -> None:
    """Always sets every option: Jupyter Book would put its own address where one is missing."""
    address = repository_address(os.environ)
    config.html_theme_options |= {
        "repository_url": address,
        "repository_branch": os.environ.get("BOOK_BRANCH") or "main",
        "path_to_docs": "",
        "launch_buttons": {"colab_url": "https://colab.research.google.com"} if address else {},
        "use_repository_button": bool(address),
        "use_issues_button": bool(address),
    }


def use_vendored_scripts(app: Sphinx, config: Config) -> None:
    if (VENDOR / "tex-svg-full.js").is_file():
        config.mathjax_path = "vendor/tex-svg-full.js"
    if (VENDOR / "embed-amd.js").is_file() and (VENDOR / "require.js").is_file():
        config.nb_ipywidgets_js = {"vendor/require.js": {}, "vendor/embed-amd.js": {}}


def prepare_kernels(app: Sphinx) -> None:
    os.environ["GNNSSM_BOOK_BUILD"] = "1"
    # Builds matplotlib's font cache here once: a kernel that does it writes a message into the page.
    import matplotlib.font_manager  # noqa: F401


def setup(app: Sphinx) -> dict:
    app.connect("config-inited", set_buttons)
    app.connect("config-inited", use_vendored_scripts)
    app.connect("builder-inited", prepare_kernels)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
