"""Checks of arguments that the loaders share."""

from __future__ import annotations

from numbers import Integral


def true_or_false(name: str, value: object) -> None:
    """Raise TypeError unless ``value`` is a bool."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False; it is {value!r}")


def nonnegative_int(name: str, value: object, below: int = 2**32) -> None:
    """Raise TypeError or ValueError unless ``value`` is an int in 0 .. below - 1."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be an int; it is {value!r} ({type(value).__name__})")
    if not 0 <= value < below:
        raise ValueError(f"{name} must be an int from 0 to {below - 1}; it is {value}")
