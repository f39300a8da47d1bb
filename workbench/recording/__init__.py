"""Turning runs of a model into labelled pieces: the one place that wires models to the store."""
