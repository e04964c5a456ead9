"""``python -m gnnssm_lite run|list|show``: record experiments and look at what is recorded."""
from __future__ import annotations

import argparse
import inspect
import sys
import time

import pandas as pd

from . import experiments
from .device import default_device, synchronize
from .experiments import records


def main(arguments: list[str] | None = None) -> int:
    """Entry point of the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m gnnssm_lite", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="experiments, and which of them are recorded")
    show = commands.add_parser("show", help="a recorded result and its provenance")
    show.add_argument("name")
    run = commands.add_parser("run", help="run experiments and record them")
    run.add_argument("names", nargs="+", metavar="name")
    run.add_argument("--device", default="cpu", help="cpu (default), or auto for an accelerator if there is one")
    run.add_argument("--seeds", type=int, help="number of seeds, 0 to SEEDS - 1")
    run.add_argument("--out", help="folder to write to (default: book/results of the checkout)")
    options = parser.parse_args(arguments)
    try:
        return {"list": _list, "show": _show, "run": _run}[options.command](options)
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _list(options: argparse.Namespace) -> int:
    recorded = {path.stem for path in records.results_dir().glob("*.csv")}
    for name in experiments.names():
        print(f"{name:28s} {'recorded' if name in recorded else 'not recorded'}")
    return 0


def _show(options: argparse.Namespace) -> int:
    frame = records.results(options.name)
    for key, value in records.provenance(options.name).items():
        print(f"{key}: {value}")
    with pd.option_context("display.max_rows", 40, "display.width", 160):
        print(frame)
    return 0


def _run(options: argparse.Namespace) -> int:
    device = default_device(None if options.device == "auto" else options.device)
    chosen = {"device": str(device), "progress": True} | ({"seeds": list(range(options.seeds))} if options.seeds else {})
    for name in options.names:
        if name not in experiments.EXPERIMENTS:
            experiments.run(name)  # raises, naming the nearest known experiment
    for name in options.names:
        start = time.perf_counter()
        frame = experiments.run(name, **chosen)
        synchronize(device)
        config = _defaults(name) | chosen
        config.pop("progress")
        path = records.record(name, frame, config, device, time.perf_counter() - start, options.out)
        print(f"{name}: {len(frame)} rows in {time.perf_counter() - start:.0f} s -> {path}")
    return 0


def _defaults(name: str) -> dict:
    module = __import__(f"gnnssm_lite.experiments.{experiments.EXPERIMENTS[name]}", fromlist=[name])
    signature = inspect.signature(getattr(module, name))
    return {key: parameter.default for key, parameter in signature.parameters.items()}


if __name__ == "__main__":
    raise SystemExit(main())
