"""Tasks on data of a user's own: one file for each kind."""

from .audio import Audio
from .images import Images
from .signals import Signals
from .table import Table

__all__ = ["Audio", "Images", "Signals", "Table"]
