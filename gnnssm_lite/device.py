"""Where computations run. The only module that names an accelerator."""
from __future__ import annotations

import torch


def default_device(prefer: str | None = None) -> torch.device:
    """The device a chapter should compute on: a CUDA GPU when there is one, else the CPU.

    Args:
        prefer: a device string such as ``"cpu"`` or ``"cuda:1"``; ``None`` lets the machine decide.

    Raises:
        ValueError: ``prefer`` names a device that this machine does not have.
    """
    if prefer is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(prefer)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"prefer must be a device of this machine; it was {prefer!r} and no CUDA device is available")
    return device


def describe(device: torch.device) -> str:
    """A name of the device for records, such as ``"cpu"`` or ``"cuda (NVIDIA H200)"``."""
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    return device.type


def synchronize(device: torch.device) -> None:
    """Wait for queued work on ``device``, so that a wall time means what it says."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
