"""Keywords of Robot Framework (https://robotframework.org) 6.1 or later, for scenarios on a
federation: ``Library    tinymetafed.robot``."""

from .library import FederationLibrary
from .units import Energy, Size

__all__ = ["Energy", "FederationLibrary", "Size"]

robot = FederationLibrary
"""What Robot Framework finds by the module's name."""
