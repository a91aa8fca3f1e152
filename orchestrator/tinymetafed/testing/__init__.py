"""Federations under test: what Robot Framework's keywords and pytest's fixtures are thin over."""

from .federation import Federation, Node

__all__ = ["Federation", "Node"]
