"""Where recorded results live: a tidy CSV for each experiment, and beside it a JSON file with its provenance."""
from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import tempfile
from pathlib import Path

import pandas as pd
import torch

from .. import __version__
from ..datasets.cache import write_atomic
from ..device import describe

PACKAGE = Path(__file__).resolve().parents[1]
LAYOUT = 1  # of the JSON file; a reader of another layout says so instead of guessing


def results_dir() -> Path:
    """``book/results`` of a checkout, else the copy inside the installed package."""
    checkout = PACKAGE.parent / "book" / "results"
    return checkout if checkout.is_dir() else PACKAGE / "_results"


def results(name: str, folder: str | os.PathLike | None = None) -> pd.DataFrame:
    """The recorded results of an experiment.

    Raises:
        FileNotFoundError: nothing is recorded under this name; the message lists what is.
        ValueError: results and provenance do not belong together.
    """
    folder = Path(folder) if folder is not None else results_dir()
    path = folder / f"{name}.csv"
    if not path.is_file():
        known = sorted(p.stem for p in folder.glob("*.csv"))
        raise FileNotFoundError(f"no results are recorded for {name!r} in {folder}; there are {known}")
    rows = provenance(name, folder)["rows"]
    frame = pd.read_csv(path) if rows else pd.DataFrame()
    if len(frame) != rows:
        raise ValueError(f"{path} must have the {rows} rows that its provenance says; it has {len(frame)}: they were not "
                         "written together. Record the experiment again")
    return frame


def provenance(name: str, folder: str | os.PathLike | None = None) -> dict:
    """How the recorded results of an experiment came about: configuration, seeds, versions, device, wall time, commit.

    Raises:
        FileNotFoundError: there is no provenance beside the results.
        ValueError: the file has another layout than this version of the package reads.
    """
    path = (Path(folder) if folder is not None else results_dir()) / f"{name}.json"
    if not path.is_file():
        raise FileNotFoundError(f"no provenance is recorded for {name!r}: {path.name} is missing")
    record = json.loads(path.read_text())
    if record.get("layout") != LAYOUT:
        raise ValueError(f"{path.name} has layout {record.get('layout')!r}; this version reads layout {LAYOUT}")
    return record


def describe_run(name: str, folder: str | os.PathLike | None = None) -> str:
    """One sentence for a caption: device, date and commit of a recorded run."""
    record = provenance(name, folder)
    return (f"Recorded run of {record['date']} on {record['device']}, torch {record['versions']['torch']}, "
            f"commit {record['commit'][:7]}.")


def record(name: str, frame: pd.DataFrame, config: dict, device: torch.device, seconds: float,
           folder: str | os.PathLike | None = None, runs: list[dict] | None = None) -> Path:
    """Write results and provenance, each atomically, the results last, so that a reader never sees half of a run.

    ``runs`` holds the provenance of the single runs of a sweep, which other processes may have done on other days: their
    number, commits, devices, total wall time and what was not deterministic are recorded as ``runs``.
    """
    folder = Path(folder) if folder is not None else results_dir()
    folder.mkdir(parents=True, exist_ok=True)
    content = {"layout": LAYOUT, "name": name, "config": config, "versions": versions(), "device": describe(device),
               "threads": torch.get_num_threads(), "wall_time_s": round(seconds, 2), "commit": commit(),
               "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"), "rows": len(frame)}
    if runs:
        content["runs"] = _summary(runs)
    path, fresh = folder / f"{name}.csv", folder / f".{name}.csv.new"
    try:
        write_atomic(fresh, frame.to_csv(index=False, float_format="%.12g").encode())  # the large part first: is there room?
        write_atomic(folder / f"{name}.json", (json.dumps(content, indent=2, default=str) + "\n").encode())
        os.replace(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)
    return path


def check_writable(folder: str | os.PathLike | None = None) -> None:
    """Find out before an experiment, not after it, whether its results can be written to ``folder``.

    Raises:
        ValueError: they cannot.
    """
    folder = Path(folder) if folder is not None else results_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(f"the folder of results must be one that can be written; {folder} gave {error}") from error


def _summary(runs: list[dict]) -> dict:
    def seen(key: str) -> list[str]:  # of a run that was taken over from a record it is a list
        return sorted({value for run in runs for value in ([run[key]] if isinstance(run[key], str) else run[key])})

    notes = {note for run in runs if run["deterministic"] is not True for note in run["deterministic"]}
    return {"number": len(runs), "commits": seen("commit"), "devices": seen("device"), "dates": seen("date"),
            "wall_time_s": round(sum(run["seconds"] for run in runs), 2), "deterministic": sorted(notes) or True}


def versions() -> dict[str, str]:
    """Versions of Python and of the packages on which numbers depend."""
    packages = ("torch", "torch-geometric", "numpy", "scipy")
    return {"python": platform.python_version(), "gnnssm_lite": __version__} | {
        package: importlib.metadata.version(package) for package in packages}


def commit() -> str:
    """The commit of the checkout that ran, with ``-dirty`` when the package was changed since; ``unknown`` outside one."""
    def git(*arguments: str) -> str:
        command = ["git", "-C", str(PACKAGE), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    try:
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("GNNSSM_COMMIT", "unknown")
