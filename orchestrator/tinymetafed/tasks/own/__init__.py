"""Tasks on data of a user's own: one file for each kind."""

from .signals import Signals
from .table import Table

__all__ = ["Signals", "Table"]
