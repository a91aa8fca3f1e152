# pyright: reportMissingImports=false
"""Emulated nodes as the clients of a Flower app (https://flower.ai), so that any strategy of
Flower's can train them: `pip install 'tinymetafed[flower]'`.

    app = tinymetafed.flower.client_app("smoke")
    arrays = tinymetafed.flower.initial_arrays("smoke")
"""

import os

from ..errors import TinyMetaFedError

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")  # nothing is sent anywhere, unless asked for
try:
    import flwr.clientapp  # noqa: F401
except ImportError as error:
    raise TinyMetaFedError(
        f"Flower is not installed ({error}); use: pip install 'tinymetafed[flower]'"
    ) from None

from .app import NodesClientApp, client_app, initial_arrays

__all__ = ["NodesClientApp", "client_app", "initial_arrays"]
