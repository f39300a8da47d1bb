"""Figures of merit and their statistics, each written once: plain arrays, no labels, no torch."""
