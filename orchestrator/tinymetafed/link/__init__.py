"""The link protocol without I/O: bytes in, events out; no sockets, no clocks."""

from .connection import Connection
from .messages import Answers, Error, Fault, Hello, Request, Response

__all__ = ["Answers", "Connection", "Error", "Fault", "Hello", "Request", "Response"]
