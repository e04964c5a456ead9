"""Graph neural networks as state-space models."""

__version__ = "0.1.0"
