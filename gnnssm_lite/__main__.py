"""``python -m gnnssm_lite run|list|show``: record experiments and look at what is recorded.

Options of ``run`` reach an experiment as parameters of its function: ``--device`` as ``device``, ``--seeds`` as ``seeds``,
``--jobs`` as ``jobs``, ``--scheduler`` as ``executor``. ``--quick`` takes the options that the experiment's module lists in
its dict ``QUICK``. An experiment that takes ``jobs`` is a sweep: each of its runs is kept when it ends (below GNNSSM_CACHE),
so after any stop the same command continues; with ``--continue`` also where another machine stopped that wrote the record.
"""
from __future__ import annotations

import argparse
import contextlib
import importlib
import inspect
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor

import pandas as pd

from . import experiments
from .checks import check_int
from .device import default_device, synchronize
from .experiments import records, runner

FLAGS = {"device": "--device", "seeds": "--seeds", "jobs": "--jobs", "executor": "--scheduler"}
HOW = ("progress", "jobs", "executor")  # parameters that do not decide the numbers; no record keeps them


def main(arguments: list[str] | None = None) -> int:
    """Entry point of the command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        return {"list": _list, "show": _show, "run": _run}[options.command](options)
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (runner.SweepError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; of a sweep, runs that ended are kept, and the same command continues", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m gnnssm_lite", description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="experiments, which of them are recorded, and how far their sweeps are")
    show = commands.add_parser("show", allow_abbrev=False, help="a recorded result and its provenance")
    show.add_argument("name")
    show.add_argument("--out", help="folder to read from (default: book/results of the checkout)")
    run = commands.add_parser("run", allow_abbrev=False, help="run experiments and record them")
    run.add_argument("names", nargs="+", metavar="name")
    run.add_argument("--device", help="cpu (default), or auto for an accelerator if there is one")
    run.add_argument("--seeds", type=int, help="number of seeds, 0 to SEEDS - 1")
    run.add_argument("--jobs", type=int, help="number of local processes for the runs of a sweep (default 1)")
    run.add_argument("--scheduler", metavar="ADDRESS", help="dask scheduler for the runs of a sweep, such as tcp://host:8786")
    run.add_argument("--quick", action="store_true", help="a reduced form that ends soon; recorded only with --out")
    run.add_argument("--continue", action="store_true", dest="go_on",
                     help="count the recorded runs of a sweep as done, also those of another machine; run the others "
                          "(the record is that in --out, if given)")
    run.add_argument("--finished", action="store_true", help="record the runs of a sweep that have ended; run nothing")
    run.add_argument("--out", help="folder to write to (default: book/results of the checkout)")
    return parser


# ------------------------------------------------------------------------------------------------ list and show

def _list(options: argparse.Namespace) -> int:
    recorded = {path.stem for path in records.results_dir().glob("*.csv")}
    for name in experiments.names():
        function = _function(name)
        sweep = "jobs" in inspect.signature(function).parameters
        done = _progress(function) if sweep else ""
        print(f"{name:28s} {'recorded' if name in recorded else 'not recorded':12s}{done}".rstrip())
    return 0


def _progress(function: Callable[..., pd.DataFrame]) -> str:
    try:
        return "   {} of {} runs of its sweep finished".format(*runner.finished_of_total(function))
    except FileNotFoundError as error:  # its runs depend on a record that is not there
        return f"   {error}"


def _show(options: argparse.Namespace) -> int:
    frame = records.results(options.name, options.out)
    for key, value in records.provenance(options.name, options.out).items():
        print(f"{key}:" if isinstance(value, dict) else f"{key}: {value}")
        for part, content in value.items() if isinstance(value, dict) else ():
            print(f"  {part}: {content}")
    with pd.option_context("display.max_rows", 40, "display.width", 160):
        print(frame)
    return 0


# ---------------------------------------------------------------------------------------------------------- run

def _run(options: argparse.Namespace) -> int:
    device = default_device(None if options.device == "auto" else options.device or "cpu")
    with contextlib.ExitStack() as stack:
        # every name and option is checked before the first experiment starts
        plan = [(name, _chosen(name, options, str(device))) for name in options.names]
        if options.out is not None or not options.quick:
            records.check_writable(options.out)
        if options.scheduler is not None:
            executor = stack.enter_context(_cluster(options.scheduler))
            plan = [(name, chosen | {"executor": executor}) for name, chosen in plan]
        for name, chosen in plan:
            _run_one(name, chosen, device, options)
    return 0


def _run_one(name: str, chosen: dict, device: object, options: argparse.Namespace) -> None:
    start = time.perf_counter()
    with contextlib.ExitStack() as stack:
        if options.go_on:
            stack.enter_context(runner.continued(*_record_of(name, options.out)))
        if options.finished:
            _check_any_finished(name, chosen)
            stack.enter_context(runner.finished_only())
        runs = stack.enter_context(runner.collect_runs())
        frame = experiments.run(name, **chosen)
    synchronize(device)
    seconds = time.perf_counter() - start
    if options.finished and options.out is None and not options.quick:
        _keep_larger(name, len(frame))
    if options.quick and options.out is None:
        print(frame)
        print(f"{name}: {len(frame)} rows in {seconds:.0f} s; quick results are recorded only with --out")
        return
    config = {key: value for key, value in (_defaults(name) | chosen).items() if key not in HOW}
    path = records.record(name, frame, config, device, seconds, options.out, runs)
    print(f"{name}: {len(frame)} rows in {seconds:.0f} s -> {path}")


def _record_of(name: str, folder: str | None) -> tuple[pd.DataFrame, dict]:
    return records.results(name, folder), records.provenance(name, folder)


def _check_any_finished(name: str, chosen: dict) -> None:
    if not runner.finished_of_total(lambda: experiments.run(name, **chosen))[0]:
        raise ValueError(f"--finished needs runs of {name} that have ended; there are none in this cache")


def _keep_larger(name: str, rows: int) -> None:
    """A cache that holds fewer finished runs than the record, that of another machine say, must not replace it."""
    try:
        recorded = records.provenance(name)["rows"]
    except FileNotFoundError:
        return
    if rows < recorded:
        raise ValueError(f"the recorded {name} has {recorded} rows, the finished runs in this cache give {rows}; they are "
                         "recorded only with --out, or with --continue together with the recorded ones")


def _chosen(name: str, options: argparse.Namespace, device: str) -> dict:
    """The options that the experiment is called with, ``executor`` apart."""
    takes = inspect.signature(_function(name)).parameters
    asked = {"device": options.device and device, "seeds": options.seeds, "jobs": options.jobs,
             "executor": options.scheduler}
    asked = {key: value for key, value in asked.items() if value is not None}
    for flag, given in {"--finished": options.finished, "--continue": options.go_on}.items():
        if given and "jobs" not in takes:
            raise ValueError(f"{flag} is for experiments that are sweeps; {name} is not one")
    for key in asked:
        if key not in takes:
            known = [flag for parameter, flag in FLAGS.items() if parameter in takes]
            known += ["--quick"] if name in getattr(_module(name), "QUICK", {}) else []
            raise ValueError(f"{name} does not take {FLAGS[key]}; it takes {', '.join(known)}{' and ' * bool(known)}--out")
    if options.jobs is not None and options.scheduler is not None:
        raise ValueError("--jobs counts local processes; with --scheduler the workers of the cluster decide")
    for key in {"seeds", "jobs"} & set(asked):
        check_int(FLAGS[key], asked[key], 1)
    asked.pop("executor", None)
    if "seeds" in asked:
        asked["seeds"] = list(range(asked["seeds"]))
        if options.out is None and not options.quick:
            _check_seeds(name, options.seeds)
    given = {key: value for key, value in {"device": device, "progress": True}.items() if key in takes}
    return (_quick(name) if options.quick else {}) | given | asked


def _check_seeds(name: str, seeds: int) -> None:
    """A run without some of the recorded seeds must not replace the record."""
    with contextlib.suppress(FileNotFoundError):
        recorded = records.provenance(name)["config"].get("seeds", ())
        lost = sorted(set(recorded) - set(range(seeds)))
        if lost:
            raise ValueError(f"the recorded {name} has the seeds {sorted(recorded)}; a run without {lost} is recorded only "
                             "with --out")


def _quick(name: str) -> dict:
    reduced = getattr(_module(name), "QUICK", {})
    if name not in reduced:
        raise ValueError(f"{name} has no quick form: QUICK in {_module(name).__name__} does not list it")
    return reduced[name]


@contextlib.contextmanager
def _cluster(address: str) -> Iterator[Executor]:
    """Runs go to the workers of a dask scheduler; each should have one thread and see the same folders."""
    try:
        from distributed import Client
    except ImportError as error:
        raise ValueError("--scheduler needs the package distributed: python -m pip install distributed") from error
    try:
        client = Client(address, timeout=10)
    except (OSError, ValueError) as error:
        raise ValueError(f"--scheduler must be the address of a running dask scheduler; {address!r} gave {error}") from error
    with client:
        yield client.get_executor()


def _module(name: str):
    if name not in experiments.EXPERIMENTS:
        experiments.run(name)  # raises, naming the nearest known experiment
    return importlib.import_module(f"gnnssm_lite.experiments.{experiments.EXPERIMENTS[name]}")


def _function(name: str) -> Callable[..., pd.DataFrame]:
    return getattr(_module(name), name)


def _defaults(name: str) -> dict:
    return {key: parameter.default for key, parameter in inspect.signature(_function(name)).parameters.items()}


if __name__ == "__main__":
    raise SystemExit(main())
