"""Where computations run. The only module that names an accelerator."""
from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def default_device(prefer: str | None = None) -> torch.device:
    """The device a chapter should compute on: a CUDA GPU when there is one, else the CPU.

    Args:
        prefer: a CPU or a CUDA GPU by name, such as ``"cpu"`` or ``"cuda:1"``; ``None`` lets the machine decide.

    Raises:
        ValueError: ``prefer`` names another kind of device, or one that this machine does not have.
    """
    if prefer is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(prefer)
    except RuntimeError as error:
        raise ValueError(f"prefer must name a device, such as 'cpu'; it was {prefer!r}") from error
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"prefer must name the CPU or a CUDA device, such as 'cuda:0'; it was {prefer!r}")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"prefer must be a device of this machine; it was {prefer!r} and no CUDA device is available")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"prefer must be one of the {torch.cuda.device_count()} CUDA devices of this machine, counted "
                         f"from 0; it was {prefer!r}")
    return device


def describe(device: torch.device) -> str:
    """A name of the device for records, such as ``"cpu"`` or ``"cuda (NVIDIA A100)"``."""
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    return device.type


def synchronize(device: torch.device) -> None:
    """Wait for queued work on ``device``, so that a wall time means what it says."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def fork_rng(device: torch.device):
    """A context in which torch may be seeded; the generators of CPU and ``device`` are put back at its end."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


def get_rng_state(device: torch.device) -> list[torch.Tensor]:
    """States of the CPU's generator and, if it has its own, of the device's."""
    return [torch.get_rng_state()] + ([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])


def set_rng_state(device: torch.device, states: list[torch.Tensor]) -> None:
    """Put back what :func:`get_rng_state` gave."""
    torch.set_rng_state(states[0].cpu())
    if device.type == "cuda" and len(states) > 1:
        torch.cuda.set_rng_state(states[1].cpu(), device)


@contextmanager
def determinism_notes(device: torch.device) -> Iterator[list[str]]:
    """A list that is filled, while the block runs, with what makes its numbers on ``device`` differ from time to time.

    On the CPU it stays empty. On an accelerator torch takes its deterministic algorithms inside the block, and each
    operation that has none is noted once.
    """
    notes: list[str] = []
    if device.type == "cpu":
        yield notes
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when it starts
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    with warnings.catch_warnings():
        warnings.filterwarnings("always", message="(?s).*deterministic")
        show = warnings.showwarning

        def collect(message: Warning | str, *rest: object) -> None:
            text = " ".join(str(message).split())
            if "deterministic" not in text:
                show(message, *rest)
            elif text not in notes:
                notes.append(text)

        warnings.showwarning = collect
        torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            yield notes
        finally:
            torch.use_deterministic_algorithms(before[0], warn_only=before[1])


def flush_denormals() -> None:
    """Let this process count numbers below 1.2e-38 as zero, for experiments whose signals vanish.

    A CPU computes with such numbers up to a hundred times more slowly, and no result here depends on them. The setting
    stays for the process, except that a sweep puts it back after each run; it does nothing where the processor has no
    such mode.
    """
    torch.set_flush_denormal(True)
