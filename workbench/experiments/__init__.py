"""Causal experiments: runs of a network with edits, beside equal-budget controls."""
