"""A grid of runs, each a pure function of its configuration, kept in one file a run so that a sweep can be interrupted."""
from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from ..datasets import cache_dir
from .records import _write, versions


def run_path(name: str, config: dict, folder: Path | None = None) -> Path:
    """The file that keeps the run of ``config``: in the user cache unless a ``folder`` is given."""
    text = json.dumps({"config": config, "versions": versions()}, sort_keys=True, default=str)
    return (folder or cache_dir() / "runs") / name / f"{hashlib.sha256(text.encode()).hexdigest()[:20]}.json"


def sweep(name: str, function: Callable[..., dict], grid: Iterable[dict], folder: Path | None = None,
          progress: bool = False) -> pd.DataFrame:
    """Run ``function(**config)`` for every configuration that has no result yet, and return all results.

    Each result is written atomically when its run ends, so an interrupted sweep continues where it stopped and repeats
    no finished run. Results of other package versions do not count.

    Args:
        name: of the sweep. function: returns a flat dict of numbers. grid: the configurations.
        folder: where runs are kept. progress: show a progress bar with the time left.

    Returns:
        a row a run: configuration, results and ``seconds``.
    """
    rows = []
    for config in tqdm(list(grid), desc=name, disable=not progress):
        path = run_path(name, config, folder)
        if not path.is_file():
            start = time.perf_counter()
            result = function(**config)
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, json.dumps(config | result | {"seconds": round(time.perf_counter() - start, 2)}))
        rows.append(json.loads(path.read_text()))
    return pd.DataFrame(rows)
