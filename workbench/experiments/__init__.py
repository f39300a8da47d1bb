"""Causal experiments: runs of a network with edits, read where they reach, beside named controls."""
