"""Training on many small graphs: batches of dense operators against torch-geometric's DataLoader and GCNConv.

    python tests/benchmarks/bench_training.py [--repeats 5] [--threads 2]

Both train the same network (10 GCN layers of width 20, tanh, two-layer readout) on the same 5,120 graphs in batches of
512, with the same threads, in turn, after both were shown to compute the same outputs. Prints seconds an epoch, their
ratio and where the time of the dense way goes; exits with 1 when the ratio is below 8.
"""
import argparse
import sys

import torch

from gnnssm_lite.experiments.speed import WAYS, training_speed

RATIO = 8.0


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    frame = training_speed(options.repeats)
    epochs = frame[frame.part == "epoch"].set_index("way").seconds
    for way in WAYS:
        print(f"{way:24s} {epochs[way]:8.3f} s an epoch on {options.threads} thread(s)")
    for part in frame[frame.part != "epoch"].sort_values("share", ascending=False).itertuples():
        print(f"    {part.part:28s} {part.share:6.1%}")
    ratio = epochs[WAYS[1]] / epochs[WAYS[0]]
    print(f"ratio {ratio:.1f} (target: {RATIO:g})")
    return int(ratio < RATIO)


if __name__ == "__main__":
    sys.exit(main())
