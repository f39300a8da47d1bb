"""The view of a dataset: a plain state, pure functions from state and dataset to arrays, a widget that only draws."""
