"""A grid of runs, each a pure function of its configuration, kept in one file a run so that a sweep can be interrupted.

Beside the file ``HASH.json`` of a run lie, while it is running, ``HASH.lock`` (held by the process that runs it) and
``HASH.checkpoint`` (from which a run that was killed continues). Both are gone when the run is recorded.
"""
from __future__ import annotations

import contextlib
import contextvars
import datetime
import difflib
import errno
import functools
import hashlib
import inspect
import itertools
import json
import math
import multiprocessing
import os
import pickle
import random
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from filelock import FileLock, Timeout
from tqdm.auto import tqdm

from ..checks import check_int
from ..datasets import cache_dir
from ..datasets.cache import write_atomic
from ..device import default_device, describe, determinism_notes, fork_rng
from .records import commit, versions

LAYOUT = 2  # of a run's file; layout 1 was one flat object
RESERVED = {"checkpoint": "the runner passes it", "seconds": "the runner measures it", "history": "it is part of a result"}
MAX_DEATHS = 3  # of worker processes in a row while no run ends
POLL_SECONDS = 0.5  # between two looks at a run that another process holds
FULL_BYTES = 65536  # a disk with less than this left is full

# torch's generator belongs to the whole process, so a process does one run at a time, whatever the threads of its executor.
# A run may itself sweep, in its own thread: the inner run puts back what it sets.
_ONE_RUN = threading.RLock()
# set while somebody only asks how far a sweep is
_counting: contextvars.ContextVar[bool] = contextvars.ContextVar("_counting", default=False)
_finished_only: contextvars.ContextVar[bool] = contextvars.ContextVar("_finished_only", default=False)
_collected: contextvars.ContextVar[list[dict] | None] = contextvars.ContextVar("_collected", default=None)
# the results and the provenance of a record that a sweep goes on from
_continued: contextvars.ContextVar[tuple[pd.DataFrame, dict] | None] = contextvars.ContextVar("_continued", default=None)


class SweepError(RuntimeError):
    """Some runs failed. ``failures`` holds ``(configuration, exception)`` of each; all other runs are kept."""

    def __init__(self, message: str, failures: list[tuple[dict, BaseException]] | None = None) -> None:
        super().__init__(message)
        self.failures = failures or []


class RunFolderError(OSError):
    """A run cannot be kept: the folder is not writable or the disk is full. What was recorded before stays."""


class _Counted(BaseException):
    """Carries ``(finished, total)`` out of a sweep that is only counted."""


class CorruptRunError(ValueError):
    """The file of a run is not whole. The message names it."""


class OldLayoutError(ValueError):
    """The file of a run was written by another version of the package. The message names it and says what to do."""


@dataclass(frozen=True)
class _Job:
    name: str
    function: Callable[..., dict]
    config: dict
    path: Path
    threads: int | None  # of torch while it runs; None leaves them as they are


# ---------------------------------------------- configurations

def grid(**axes: Iterable) -> list[dict]:
    """All combinations of the axes' values, in the order of nested loops: the last axis changes fastest.

    Args:
        axes: a list, tuple or range of values for each parameter.

    Raises:
        TypeError: an axis is a single value or has no order.
        ValueError: an axis is empty.
    """
    for key, values in axes.items():
        if isinstance(values, (str, bytes, set, frozenset, dict)) or not isinstance(values, Iterable):
            raise TypeError(f"{key} must be a list of values; it was {values!r} (one value goes in a list of its own)")
    columns = {key: list(values) for key, values in axes.items()}
    for key, values in columns.items():
        if not values:
            raise ValueError(f"{key} must hold at least one value; it was empty")
    return [dict(zip(columns, values, strict=True)) for values in itertools.product(*columns.values())]


def run_path(name: str, config: dict, folder: str | os.PathLike | None = None) -> Path:
    """The file that keeps the run of ``config``: in the user cache unless a ``folder`` is given."""
    text = json.dumps({"config": config, "versions": _versions()}, sort_keys=True, default=str)
    return _folder(name, folder) / f"{hashlib.sha256(text.encode()).hexdigest()[:20]}.json"


def _folder(name: str, folder: str | os.PathLike | None) -> Path:
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_.-]*[A-Za-z0-9_-]", name):
        raise ValueError(f"name must consist of letters, digits, '-', '_' and '.'; it was {name!r}")
    return (Path(folder).absolute() if folder is not None else cache_dir().absolute() / "runs") / name


def _check_grid(grid: Iterable[dict]) -> list[dict]:
    if isinstance(grid, (dict, str)) or not isinstance(grid, Iterable):
        raise TypeError(f"grid must be a list of configurations (dicts); it was {grid!r}")
    configs, seen = list(grid), {}
    if not configs:
        raise ValueError("grid must hold at least one configuration; it was empty")
    for index, config in enumerate(configs):
        text = _check_config(f"grid[{index}]", config)
        _check_device(f"grid[{index}]", config)
        if text in seen:
            raise ValueError(f"grid must not repeat a configuration; grid[{seen[text]}] and grid[{index}] are both {config}")
        seen[text] = index
    return configs


def _check_config(where: str, config: object) -> str:
    """The configuration as one line of JSON, which must keep it as it is."""
    if not isinstance(config, dict):
        raise TypeError(f"{where} must be a dict; it was {config!r}")
    for key, value in config.items():
        if key in RESERVED:
            raise ValueError(f"{where} must not set {key!r}: {RESERVED[key]}")
        if not isinstance(key, str) or not _is_json(value):
            raise TypeError(f"{where} must hold strings, finite numbers, booleans, None and lists of them, as JSON does; "
                            f"{key!r} was {value!r} of type {type(value).__name__}")
    return json.dumps(config, sort_keys=True)


def _is_json(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_json, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_json(item) for key, item in value.items())
    return value is None or isinstance(value, (str, bool, int)) or (isinstance(value, float) and math.isfinite(value))


def _check_device(where: str, config: dict) -> None:
    """Only the name: a worker elsewhere may have a device that this machine lacks."""
    device = config.get("device")
    try:
        torch.device("cpu" if device is None else device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"{where} must set 'device' to the name of a device, such as 'cpu', or None; it was {device!r}"
                         ) from error


def _check_parameters(function: Callable[..., dict], configs: list[dict]) -> None:
    parameters = inspect.signature(function).parameters
    kinds = {parameter.kind for parameter in parameters.values()}
    required = {key for key, parameter in parameters.items() if parameter.default is parameter.empty
                and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)} - {"checkpoint"}
    title = getattr(function, "__name__", repr(function))
    for index, config in enumerate(configs):
        unknown = [] if inspect.Parameter.VAR_KEYWORD in kinds else [key for key in config if key not in parameters]
        if unknown:
            near = difflib.get_close_matches(unknown[0], parameters, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; it takes {', '.join(parameters)}"
            raise ValueError(f"grid[{index}] must hold parameters of {title}; it sets {unknown[0]!r}{hint}")
        absent = sorted(required - set(config))
        if absent:
            raise ValueError(f"grid[{index}] must set {', '.join(map(repr, absent))} of {title}; it was {config!r}")


# ---------------------------------------------- one run's file

@functools.cache
def _versions() -> dict[str, str]:
    return versions()


@functools.cache
def _loaded_commit() -> str:
    """The commit when this process began to run: later changes of the checkout are not in the loaded code."""
    return commit()


def _read(path: Path) -> dict | None:
    """The record in ``path``, ``None`` where there is no file."""
    try:
        record = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise CorruptRunError(f"{path} must hold the JSON record of a run; it is truncated or changed ({error})") from error
    layout = record.get("layout", "1 (flat, without a 'layout')") if isinstance(record, dict) else "none"
    if layout != LAYOUT:
        raise OldLayoutError(f"{path} has layout {layout}; this version reads layout {LAYOUT}. Nothing was changed. Move "
                             f"the file, or its folder {path.parent}, to another place (or delete it), and run again")
    if not {"name", "config", "result", "history", "provenance"} <= set(record):
        raise CorruptRunError(f"{path} must hold the record of a run; it has only {sorted(record)}")
    return record | {"result": _decode(record["result"]), "history": _decode(record["history"])}


def _store(path: Path, record: dict) -> None:
    content = json.dumps(record, indent=1, allow_nan=False).encode() + b"\n"
    try:
        write_atomic(path, content)
    except OSError as error:
        raise RunFolderError(f"cannot write {path} ({error}). {_rescue(path, content)} All runs recorded before are kept; "
                             "make room or choose another folder, and the same command continues") from error


def _rescue(path: Path, content: bytes) -> str:
    """Put a finished run that has no room in its folder into the system's temporary folder; say where."""
    place = Path(tempfile.gettempdir()) / f"{path.stem}.{uuid.uuid4().hex[:8]}.json"
    try:
        write_atomic(place, content)
    except OSError:
        return "The run that just ended is lost and will be repeated."
    return f"The run that just ended is kept in {place}; move it to {path}."


def _encode(value: object) -> object:
    """JSON has no infinite numbers; they become ``{"float": "inf"}``, so that no string is taken for one."""
    if isinstance(value, (list, tuple)):
        return [_encode(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(float(value))}
    return value


def _decode(value: object) -> object:
    if isinstance(value, list):
        return [_decode(item) for item in value]
    if isinstance(value, dict) and isinstance(value.get("float"), str):
        return float(value["float"])
    return {key: _decode(item) for key, item in value.items()} if isinstance(value, dict) else value


def _plain(where: str, value: object) -> object:
    """A number of torch or numpy as Python's; refuses what is no number, string, bool or None."""
    if not isinstance(value, (str, bool, int, float)) and getattr(value, "ndim", None) == 0:
        value = value.item()
    if value is not None and not isinstance(value, (str, bool, int, float)):
        raise TypeError(f"{where} must be a number or a string; it was {value!r} of type {type(value).__name__}")
    return _encode(value)


def _split(outcome: object) -> tuple[dict, dict | None]:
    """What the function returned, as ``(result, history)`` for the record."""
    if not isinstance(outcome, dict):
        raise TypeError(f"the function of a sweep must return a dict; it returned {type(outcome).__name__}")
    result = {str(key): _plain(f"result {key!r}", value) for key, value in outcome.items() if key != "history"}
    if "seconds" in result:
        raise ValueError(f"a result must not hold 'seconds': {RESERVED['seconds']}")
    history = outcome.get("history")
    if history is None:
        return result, None
    columns = history.to_dict("list") if isinstance(history, pd.DataFrame) else history
    history = {str(key): [_plain(f"history {key!r}", value) for value in values] for key, values in columns.items()}
    if len({len(values) for values in history.values()}) > 1:
        raise ValueError(f"columns of a history must be equally long; they had {({k: len(v) for k, v in history.items()})}")
    return result, history


# ----------------------------------------------------- one run

@contextlib.contextmanager
def _seeded(config: dict, device: torch.device) -> Iterator[None]:
    """Random numbers that a function draws without a seed of its own are decided by the configuration; all is put back."""
    seed = int.from_bytes(hashlib.sha256(json.dumps(config, sort_keys=True).encode()).digest()[:4])
    states = random.getstate(), np.random.get_state()
    try:
        with fork_rng(device):
            random.seed(seed)
            np.random.seed(seed)
            torch.manual_seed(seed)
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


@contextlib.contextmanager
def _settings(threads: int | None) -> Iterator[None]:
    """Compute with this number of threads. What a run sets for its process is put back, so that none depends on others:
    threads, denormals, torch's default dtype and whether it records gradients."""
    before, flushed = torch.get_num_threads(), _flushes_denormals()
    dtype, gradients = torch.get_default_dtype(), torch.is_grad_enabled()
    if threads is not None and threads != before:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(gradients)
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)
        if _flushes_denormals() != flushed:
            torch.set_flush_denormal(flushed)


def _flushes_denormals() -> bool:
    return float(torch.tensor(1e-310, dtype=torch.float64) * 1.0) == 0.0


def _record(job: _Job) -> dict:
    """Run the function and describe the run."""
    loaded = _loaded_commit()
    device = default_device(job.config.get("device", "cpu"))
    checkpoint = job.path.with_suffix(".checkpoint")
    extra = {"checkpoint": checkpoint} if "checkpoint" in inspect.signature(job.function).parameters else {}
    resumed = bool(extra) and checkpoint.exists()
    commits = _commits_of(checkpoint, loaded, resumed) if extra else [loaded]
    with _settings(job.threads), _seeded(job.config, device), determinism_notes(device) as notes:
        threads, start = torch.get_num_threads(), time.perf_counter()
        result, history = _split(job.function(**job.config, **extra))
        seconds = round(time.perf_counter() - start, 3)
    origin = {"versions": _versions(), "device": describe(device), "threads": threads, "seconds": seconds,
              "commit": loaded if commits == [loaded] else commits,
              "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"), "deterministic": notes or True,
              "resumed": resumed}  # the seconds of a resumed run count from its last start
    return {"layout": LAYOUT, "name": job.name, "config": job.config, "result": result, "history": history,
            "provenance": origin}


def _commits_of(checkpoint: Path, loaded: str, resumed: bool) -> list[str]:
    """Every commit whose code took part in a run; a file beside the checkpoint keeps them until the run is recorded."""
    note = checkpoint.with_suffix(".checkpoint_commits")
    known = json.loads(note.read_bytes()) if resumed and note.is_file() else []
    commits = known if loaded in known else [*known, loaded]
    write_atomic(note, json.dumps(commits).encode())
    return commits


def _execute(job: _Job) -> str:
    """Do one run and record it: ``"ran"``, or ``"finished"`` or ``"locked"`` where another process did or does it."""
    with _ONE_RUN:
        lock = FileLock(job.path.with_suffix(".lock"), timeout=0)
        try:
            lock.acquire()
        except Timeout:
            return "locked"
        except OSError as error:
            raise _folder_error(job.path.parent, error) from error
        try:
            finished = _finished_or_aside(job.path)
            if not finished:
                _store(job.path, _guarded_record(job))
            _tidy(job.path)
            return "finished" if finished else "ran"
        finally:
            lock.release()


def _guarded_record(job: _Job) -> dict:
    try:
        return _record(job)
    except Exception as error:
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
        if full or shutil.disk_usage(job.path.parent).free < FULL_BYTES:
            raise _folder_error(job.path.parent, error) from error
        raise


def _finished_or_aside(path: Path) -> bool:
    """Whether the run is recorded. A file that is not whole is moved aside, never deleted. Call it with the lock held."""
    try:
        return _read(path) is not None
    except CorruptRunError:
        os.replace(path, path.with_suffix(f".{uuid.uuid4().hex[:8]}.corrupt"))
        return False


def _tidy(path: Path) -> None:
    """Remove what a recorded run no longer needs, parts of files that a killed process left included.

    A process that took the lock of the removed file finds the run recorded, so it does not matter that others may take
    the lock of a new one.
    """
    for pattern in (f"{path.stem}.checkpoint*", f".{path.stem}.*.part", f"{path.stem}.lock"):
        for file in path.parent.glob(pattern):
            with contextlib.suppress(OSError):
                file.unlink()


def _folder_error(folder: Path, error: BaseException) -> RunFolderError:
    return RunFolderError(f"cannot write the folder of runs {folder} ({type(error).__name__}: {error}). All runs recorded "
                          "before are kept; make room or choose another folder, and the same command continues")


# ------------------------------------------- many runs at once

def _start_worker(lifeline: object) -> None:
    """A worker leaves interrupts to its parent and ends with it, however the parent ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)

    def watch() -> None:
        with contextlib.suppress(EOFError, OSError):
            lifeline.recv()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def _pool(jobs: int) -> Iterator[Executor]:
    """Fresh local processes. They are ended at once when the block is left by an exception; their runs keep checkpoints."""
    context = multiprocessing.get_context("spawn")
    reader, lifeline = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_start_worker, initargs=(reader,))
    try:
        yield pool
        pool.shutdown(wait=True)
    finally:
        lifeline.close()
        pool.shutdown(wait=True, cancel_futures=True)
        reader.close()


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Processes started inside compute with one thread each; the variable is read when their libraries load."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        del os.environ["OMP_NUM_THREADS"]
        if before is not None:
            os.environ["OMP_NUM_THREADS"] = before


def _outcomes(todo: list[_Job], jobs: int, executor: Executor | None, alone: bool) -> Iterator[tuple[_Job, object]]:
    """Each job with what :func:`_execute` returned, or the exception that it raised; ``alone``: one job at a time."""
    if executor is None and jobs == 1:
        for job in todo:
            try:
                yield job, _execute(job)
            except Exception as error:
                yield job, error
        return
    with contextlib.nullcontext(executor) if executor is not None else _pool(1 if alone else min(jobs, len(todo))) as pool:
        futures = {}
        try:
            with _one_thread():
                for job in todo:
                    futures[pool.submit(_execute, job)] = job
        except BrokenExecutor as error:
            yield from ((job, error) for job in todo)
            return
        try:
            for future in as_completed(futures):
                error = future.exception()
                yield futures[future], future.result() if error is None else error
        finally:
            for future in futures:
                future.cancel()


def _wait_for_any(jobs: list[_Job]) -> None:
    """Sleep until a process elsewhere has let go of one of these runs, finished or not."""
    while True:
        time.sleep(POLL_SECONDS)
        for job in jobs:
            with contextlib.suppress(Timeout), FileLock(job.path.with_suffix(".lock"), timeout=0):
                return


def _complete(todo: list[_Job], jobs: int, executor: Executor | None, bar: tqdm) -> list[tuple[_Job, BaseException]]:
    """Do all runs; those that other processes hold come last. Returns the failures."""
    failures, deaths, alone, order = [], 0, False, {job.path: index for index, job in enumerate(todo)}
    while todo:
        left, ended, death = [], 0, None
        with contextlib.closing(_outcomes(todo, jobs, executor, alone)) as outcomes:
            for job, outcome in outcomes:
                if isinstance(outcome, RunFolderError):
                    raise outcome
                if outcome == "locked" or isinstance(outcome, BrokenExecutor):
                    left.append(job)
                    death = death if outcome == "locked" else outcome
                    continue
                if isinstance(outcome, BaseException):
                    failures.append((job, outcome))
                ended += 1
                bar.update()
                bar.set_postfix({"failed": len(failures)} if failures else {}, refresh=False)
        deaths = 0 if ended else deaths + (death is not None)
        if death is not None and (executor is not None or deaths > MAX_DEATHS):
            return failures + [(job, death) for job in sorted(left, key=lambda job: order[job.path])]
        if left and not ended and death is None:
            bar.set_postfix(elsewhere=len(left))
            _wait_for_any(left)
        todo = sorted(left, key=lambda job: order[job.path])
        if death is not None:  # the run that died was among those that had started: the others go first now
            alone = len(todo) <= jobs
            todo = todo[1:] + todo[:1] if alone else todo[jobs:] + todo[:jobs]
            order = {job.path: index for index, job in enumerate(todo)}
    return failures


def _plan(name: str, function: Callable[..., dict], grid: Iterable[dict], folder: str | os.PathLike | None,
          threads: int | None) -> list[_Job]:
    configs = _check_grid(grid)
    _check_parameters(function, configs)
    return [_Job(name, function, config, run_path(name, config, folder), threads) for config in configs]


def _unfinished(plan: list[_Job]) -> list[_Job]:
    """Jobs without a record. An older layout stops the sweep before it starts; a file that is not whole is named.

    What a process left that was killed right after it recorded a run is removed; its lock would go last.
    """
    todo = []
    for job in plan:
        try:
            if _read(job.path) is None:
                todo.append(job)
            elif job.path.with_suffix(".lock").exists():
                _tidy(job.path)
        except CorruptRunError as error:
            warnings.warn(f"{error}; it is moved aside as {job.path.stem}.….corrupt and the run is done again", stacklevel=3)
            todo.append(job)
    return todo


def _take_over(plan: list[_Job], frame: pd.DataFrame, origin: dict) -> None:
    """Keep the recorded runs of the plan that have no file here, as if they had been done here."""
    if origin["versions"] != _versions():
        differ = {key: value for key, value in origin["versions"].items() if _versions().get(key) != value}
        raise ValueError(f"the record of {origin['name']} must come from the versions that are installed; it was made with "
                         f"{differ}, here they are {({key: _versions().get(key) for key in differ})}. Run it without "
                         "--continue, or install those versions")
    # A result may stand in the column of a parameter; what the experiment was called with says the parameter then.
    keys = [key for key in plan[0].config if key not in origin["config"]]
    lacking = [key for key in (*keys, "seconds") if key not in frame]
    if lacking or frame.duplicated(keys).any() or "runs" not in origin:
        raise ValueError(f"the record of {origin['name']} must have a row for each run to be continued, with its "
                         f"configuration and seconds; it lacks {lacking or 'such rows'}")
    rows = {tuple(row[key] for key in keys): row for row in frame.to_dict("records")}
    _prepare(plan[0].path.parent)
    for job in plan:
        called = all(value == origin["config"].get(key, value) for key, value in job.config.items())
        row = rows.get(tuple(job.config.get(key) for key in keys)) if called else None
        if row is not None:
            _adopt(job, _from_row(job, row, origin))


def _adopt(job: _Job, record: dict) -> None:
    """Keep a record of another machine as this run's file; not where there is one already, or another process makes it."""
    with contextlib.suppress(Timeout), FileLock(job.path.with_suffix(".lock"), timeout=0):
        if not _finished_or_aside(job.path):
            _store(job.path, record)
        _tidy(job.path)


def _from_row(job: _Job, row: dict, origin: dict) -> dict:
    """The file of a recorded run. A record knows commits, devices and dates of all its runs together, so these are lists."""
    result = {key: _plain(f"result {key!r}", value) for key, value in row.items()
              if key != "seconds" and (key not in job.config or job.config[key] != value)}
    runs = origin["runs"]
    known = {"versions": origin["versions"], "device": runs["devices"], "threads": runs.get("threads", origin["threads"]),
             "seconds": row["seconds"], "commit": runs["commits"], "date": runs["dates"],
             "deterministic": runs["deterministic"], "resumed": False, "continued": True}
    return {"layout": LAYOUT, "name": job.name, "config": job.config, "result": result, "history": None, "provenance": known}


def _prepare(folder: Path) -> None:
    probe = folder / f".{uuid.uuid4().hex}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(probe, b"\0" * 4096)
        probe.unlink()
    except OSError as error:
        raise _folder_error(folder, error) from error


def _check_picklable(function: Callable[..., dict]) -> None:
    try:
        pickle.dumps(function)
        if getattr(function, "__module__", None) == "__main__" and not hasattr(sys.modules["__main__"], "__file__"):
            raise TypeError("a notebook's or a console's functions cannot be imported by other processes")
    except Exception as error:
        raise TypeError("function must be defined at the top of a module, so that other processes can import it (jobs > 1); "
                        f"it was {function!r}") from error


def sweep(name: str, function: Callable[..., dict], grid: Iterable[dict], folder: str | os.PathLike | None = None,
          progress: bool = False, jobs: int = 1, executor: Executor | None = None) -> pd.DataFrame:
    """Run ``function(**config)`` for every configuration that has no record yet, and return all results.

    Each run is recorded by the process that did it, atomically, when it ends. An interrupted sweep continues where it
    stopped and repeats no finished run; a run that was killed continues from its checkpoint if ``function`` takes one.
    Processes may sweep the same folder at once: each run is done by one of them. Runs of other versions of the package,
    of Python, torch, torch-geometric, numpy and scipy do not count. A run is known by ``name`` and its configuration, not by
    the code of ``function``: after a change of the function take another ``name`` or another ``folder``.

    Args:
        name: of the sweep, and of its folder.
        function: takes a configuration, returns a flat dict of numbers and strings, and optionally ``"history"``, a dict
            or DataFrame of equally long columns, a row an epoch. If it has a parameter ``checkpoint`` it is given a path
            to continue from, as :func:`gnnssm_lite.training.fit` does. A result may have the name of a parameter and then
            stands in its place in the returned frame. A parameter ``device`` is the device of the run: a name, or ``None``
            to let the machine decide. The function may itself call ``sweep``.
        grid: the configurations, such as :func:`grid` makes. Runs start in this order.
        folder: where runs are kept; ``runs`` in the user cache by default.
        progress: show a progress bar with the time for each run and the time left.
        jobs: number of local processes; each computes with one thread. 1 runs in this process with the threads it has.
        executor: instead of ``jobs``, any executor whose workers see ``folder``, such as
            ``distributed.Client(...).get_executor()``. It is not shut down. Runs compute with one thread.

    Returns:
        a DataFrame with a row for each run and the order of the grid; columns are configuration, results and ``seconds``.

    Raises:
        TypeError, ValueError: the grid is not one, names parameters that ``function`` does not take, or repeats itself.
        OldLayoutError: a file in the place of a run has an older layout; nothing was run or changed.
        RunFolderError: the folder cannot be written; before the first run, or when the disk became full.
        SweepError: runs failed, after all others ended.
    """
    check_int("jobs", jobs, 1)
    plan = _plan(name, function, grid, folder, 1 if jobs > 1 or executor is not None else None)
    if _continued.get() is not None:
        _take_over(plan, *_continued.get())
    if _counting.get():
        raise _Counted(sum(job.path.is_file() for job in plan), len(plan))
    todo = _unfinished(plan)
    if _finished_only.get():
        plan, todo = [job for job in plan if job not in todo], []
    if todo:
        if jobs > 1 and executor is None:
            _check_picklable(function)
        _prepare(plan[0].path.parent)
        _loaded_commit()
    with tqdm(total=len(plan), initial=len(plan) - len(todo), desc=name, unit="run", smoothing=0.1, disable=not progress,
              ) as bar:
        failures = _complete(todo, jobs, executor, bar)
    if failures:
        raise _sweep_error(name, plan, failures) from failures[0][1]
    return _frame(_collect([_recorded(job.path) for job in plan]))


def _recorded(path: Path) -> dict:
    record = _read(path)
    if record is None:
        raise FileNotFoundError(f"a run ended, but its record {path} is not here; workers on other machines need the same "
                                "folder (folder=... on a shared file system)")
    return record


def _sweep_error(name: str, plan: list[_Job], failures: list[tuple[_Job, BaseException]]) -> SweepError:
    job, error = failures[0]
    reason = f"{type(error).__name__}: {error}"
    if isinstance(error, BrokenExecutor):
        reason = (f"its worker process died {MAX_DEATHS + 1} times (out of memory? a script that sweeps with jobs > 1 also "
                  f"needs `if __name__ == \"__main__\":`); {reason}")
    return SweepError(f"{len(failures)} of {len(plan)} runs of {name!r} failed; the others are kept in {job.path.parent}. "
                      f"First failure, {job.config}: {reason}", [(job.config, error) for job, error in failures])


# --------------------------------------------- reading results

@contextlib.contextmanager
def collect_runs() -> Iterator[list[dict]]:
    """The provenance of every run whose result a sweep returns inside the block, for the record of an experiment."""
    token = _collected.set([])
    try:
        yield _collected.get()
    finally:
        _collected.reset(token)


@contextlib.contextmanager
def finished_only() -> Iterator[None]:
    """Inside the block a sweep runs nothing and returns the runs that have ended, however few."""
    token = _finished_only.set(True)
    try:
        yield
    finally:
        _finished_only.reset(token)


@contextlib.contextmanager
def continued(frame: pd.DataFrame, origin: dict) -> Iterator[None]:
    """Inside the block a sweep counts the runs of a record as done, so that work goes on where another machine stopped.

    Recorded runs that have no file here get one, without what the run said of its epochs.

    Args:
        frame: recorded results, a row a run: the sweep's configurations, results and ``seconds``.
        origin: their provenance, as :func:`gnnssm_lite.experiments.provenance` returns it.

    Raises:
        ValueError: by a sweep in the block: the record was made with other versions, or its rows are no runs.
    """
    token = _continued.set((frame, origin))
    try:
        yield
    finally:
        _continued.reset(token)


def finished_of_total(experiment: Callable[[], object]) -> tuple[int, int]:
    """How many runs of the first sweep of ``experiment`` have ended, and how many it has. None is run or read."""
    token = _counting.set(True)
    try:
        experiment()
    except _Counted as counted:
        return counted.args
    finally:
        _counting.reset(token)
    return 0, 0


def _collect(runs: list[dict]) -> list[dict]:
    if _collected.get() is not None:
        _collected.get().extend(run["provenance"] for run in runs)
    return runs


def _frame(runs: list[dict]) -> pd.DataFrame:
    return pd.DataFrame([run["config"] | run["result"] | {"seconds": run["provenance"]["seconds"]} for run in runs])


def _runs(name: str, grid: Iterable[dict] | None, folder: str | os.PathLike | None) -> list[dict]:
    if grid is not None:
        found = (_read(run_path(name, config, folder)) for config in _check_grid(grid))
        return [run for run in found if run is not None]
    everything = [(path, _read(path)) for path in _folder(name, folder).glob("*.json")]
    runs = [run for path, run in everything if run is not None and path == run_path(name, run["config"], folder)]
    if len(runs) < len(everything):
        warnings.warn(f"{len(everything) - len(runs)} runs of {name!r} were made with other versions; they are left out",
                      stacklevel=3)
    return sorted(runs, key=lambda run: json.dumps(run["config"], sort_keys=True))


def load_runs(name: str, grid: Iterable[dict] | None = None, folder: str | os.PathLike | None = None) -> pd.DataFrame:
    """The recorded runs of ``grid`` (``None``: all of this sweep), as :func:`sweep` returns them; nothing is run.

    Raises:
        CorruptRunError, OldLayoutError: a file cannot be read; the message names it.
    """
    return _frame(_runs(name, grid, folder))


def histories(name: str, grid: Iterable[dict] | None = None, folder: str | os.PathLike | None = None) -> pd.DataFrame:
    """What recorded runs say of each epoch: a row an epoch of a run, with its configuration and ``epoch``."""
    frames = []
    for run in _runs(name, grid, folder):
        if run["history"] is not None:
            columns = run["history"] if "epoch" in run["history"] else (
                {"epoch": range(max((len(values) for values in run["history"].values()), default=0))} | run["history"])
            frame = pd.DataFrame(columns)
            for key, value in run["config"].items():
                if key not in frame:
                    frame[key] = [value] * len(frame)
            frames.append(frame[[key for key in run["config"] if key not in columns] + list(columns)])
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def missing(name: str, grid: Iterable[dict], folder: str | os.PathLike | None = None) -> list[dict]:
    """The configurations of ``grid`` that have no record yet.

    Raises:
        TypeError, ValueError: as :func:`sweep`.
    """
    return [config for config in _check_grid(grid) if _read(run_path(name, config, folder)) is None]


def chosen(frame: pd.DataFrame, of: list[str], option: str, score: str, paired: str | None = None) -> pd.Series:
    """Which runs count when an option is chosen by a score: for each group ``of``, the option with the lowest mean score.

    Args:
        frame: a row a run.
        of: columns that make a group, such as model and depth; the mean is over all else, seeds above all.
        option: the column that is chosen, such as the learning rate.
        score: lower is better. It must not come from test data.
        paired: a column, such as the seed, of which the means take only values that every option of a group has, so that an
            option with more seeds than the others neither gains nor loses by them. If there is no such value, all count.

    Returns:
        True for the runs of the chosen option, on the index of ``frame``.

    Raises:
        ValueError: a column that ``frame`` does not have, or a score that is NaN.
    """
    columns = [*of, option, score, *([paired] if paired is not None else [])]
    missing_columns = [column for column in columns if column not in frame]
    if missing_columns:
        raise ValueError(f"frame must have the columns {missing_columns}; it has {list(frame)}")
    if frame[score].isna().any():
        raise ValueError(f"score {score!r} must be a number in every row of frame; {frame[score].isna().sum()} are NaN")
    compared = frame if paired is None else _shared(frame, of, option, paired)
    mean = compared.groupby([*of, option], as_index=False)[score].mean()
    best = mean.loc[mean.groupby(of)[score].idxmin(), [*of, option]].rename(columns={option: "_best"})
    return pd.Series((frame.merge(best, on=of, how="left")["_best"] == frame[option].to_numpy()).to_numpy(), frame.index)


def _shared(frame: pd.DataFrame, of: list[str], option: str, paired: str) -> pd.DataFrame:
    """The rows whose value of ``paired`` every option of their group has; all rows of a group that has no such value."""
    options = frame.groupby(of, dropna=False)[option].transform("nunique")
    shared = frame.groupby([*of, paired], dropna=False)[option].transform("nunique") == options
    return frame[shared | ~shared.groupby([frame[column] for column in of], dropna=False).transform("any")]
