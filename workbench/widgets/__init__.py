"""Views for JupyterLab: a plain state, pure functions from state and dataset to arrays, a widget that only draws."""
