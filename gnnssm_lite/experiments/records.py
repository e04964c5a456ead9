"""Where recorded results live: a tidy CSV for each experiment, and beside it a JSON file with its provenance."""
from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import io
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
    origin, content = provenance(name, folder), path.read_bytes()
    if origin.get("sha256") != _digest(content):
        raise ValueError(f"{path} must be the file whose SHA-256 its provenance says; it is not: they were not written "
                         "together, or one was changed. Record the experiment again")
    return pd.read_csv(io.BytesIO(content)) if origin["rows"] else pd.DataFrame()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content.replace(b"\r\n", b"\n")).hexdigest()  # a checkout may change the ends of lines


def provenance(name: str, folder: str | os.PathLike | None = None) -> dict:
    """How the recorded results of an experiment came about: configuration, seeds, versions, device, wall time, commit.

    Raises:
        FileNotFoundError: there is no provenance beside the results.
        ValueError: the file is not whole, or has another layout than this version of the package reads.
    """
    path = (Path(folder) if folder is not None else results_dir()) / f"{name}.json"
    if not path.is_file():
        raise FileNotFoundError(f"no provenance is recorded for {name!r}: {path.name} is missing")
    try:
        record = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} must hold the provenance of results; it is truncated or changed ({error})") from error
    layout = record.get("layout") if isinstance(record, dict) else None
    if layout != LAYOUT:
        raise ValueError(f"{path} has layout {layout!r}; this version reads layout {LAYOUT}")
    return record


def describe_run(name: str, folder: str | os.PathLike | None = None) -> str:
    """One sentence for a caption: device, date and commit of a recorded run, or of all runs of a recorded sweep."""
    record = provenance(name, folder)
    torch_version = f"torch {record['versions']['torch']}"
    if "runs" not in record:
        return f"Recorded run of {record['date']} on {record['device']}, {torch_version}, commit {record['commit'][:7]}."
    runs = record["runs"]
    days = " to ".join(dict.fromkeys((min(runs["dates"]), max(runs["dates"]))))
    commits = (f"commit {runs['commits'][0][:7]}" if len(runs["commits"]) == 1
               else f"{len(runs['commits'])} commits, which book/results/{name}.json lists")
    return f"{runs['number']} recorded runs of {days} on {', '.join(runs['devices'])}, {torch_version}, {commits}."


def record(name: str, frame: pd.DataFrame, config: dict, device: torch.device, seconds: float,
           folder: str | os.PathLike | None = None, runs: list[dict] | None = None) -> Path:
    """Write results and provenance, each atomically; :func:`results` notices if only one of them was replaced.

    ``runs`` holds the provenance of the single runs of a sweep, which other processes may have done on other days: their
    number, commits, devices, threads, total wall time, how many were resumed, and what was not deterministic are recorded
    as ``runs``.
    """
    folder = Path(folder) if folder is not None else results_dir()
    folder.mkdir(parents=True, exist_ok=True)
    content = {"layout": LAYOUT, "name": name, "config": config, "versions": versions(), "device": describe(device),
               "threads": torch.get_num_threads(), "wall_time_s": round(seconds, 2), "commit": commit(),
               "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"), "rows": len(frame)}
    if runs:
        content["runs"] = _summary(runs)
    path, fresh = folder / f"{name}.csv", folder / f".{name}.csv.new"
    table = frame.to_csv(index=False, float_format="%.12g").encode()
    content["sha256"] = _digest(table)
    try:
        write_atomic(fresh, table)  # the large part first: is there room?
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
    def seen(key: str) -> list:  # of a run that was taken over from a record, or resumed by other code, it is a list
        return sorted({value for run in runs for value in (run[key] if isinstance(run[key], list) else [run[key]])})

    notes = {note for run in runs if run["deterministic"] is not True for note in run["deterministic"]}
    return {"number": len(runs), "commits": seen("commit"), "devices": seen("device"), "dates": seen("date"),
            "threads": seen("threads"), "resumed": sum(bool(run["resumed"]) for run in runs),
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
