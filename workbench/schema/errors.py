"""The errors and warnings of the package.

Every error says what was given, what was expected, and what to do next.
"""

from __future__ import annotations


class WorkbenchError(Exception):
    """Base of every error the package raises on purpose."""


class InputError(WorkbenchError, ValueError):
    """An argument is wrong; nothing was computed and nothing stored was touched."""


class SelectionError(InputError):
    """A layer, timestep, head, concept or space was asked for that the dataset does not hold."""


class ModelError(WorkbenchError, RuntimeError):
    """A model cannot be loaded, does not fit, or is of a kind that is not supported."""


class ContractError(ModelError):
    """An adapter does not do what the contract of model families asks of it."""


class TraceError(WorkbenchError, RuntimeError):
    """A forward pass did not deliver every expected piece exactly once, finite and in shape."""


class SchemaError(WorkbenchError, ValueError):
    """A dataset does not follow the contract."""


class StoreError(WorkbenchError, RuntimeError):
    """A stored run is missing, damaged or cannot be written."""


class CancelledError(WorkbenchError, RuntimeError):
    """Something was stopped because it was asked to; what was finished before is kept."""


class WorkbenchWarning(UserWarning):
    """Something legal but suspicious."""
