"""Concept attention for diffusion transformers, as labelled datasets."""

__version__ = "0.1.0"
