"""Evaluating zero-shot segmentation: data sets, protocols, methods, and the tables of the paper.

:func:`workbench.evaluate` measures methods on many images under one :class:`~workbench.evaluation.protocols.Protocol`;
everything that decides a number is in the protocol, which is hashed, stored and printed. Nothing is ever downloaded.
"""
