"""Computation on captured datasets: selections, heat maps, segmentation, truth and metrics; no torch, no drawing."""
