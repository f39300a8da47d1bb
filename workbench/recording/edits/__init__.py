"""Edits of a run as they act on a model: what they reach, what they change, what they draw from."""
