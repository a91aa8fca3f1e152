"""A bench for federated meta-learning on emulated microcontrollers.

    import tinymetafed

    experiment = tinymetafed.read_experiment("smoke.toml", {"rounds": 20})
    result = tinymetafed.run(experiment)
    result.learning_curve

What is listed in `__all__` is the public API: it stays as it is from version to version, and what
is not may change. Names are imported when they are first used, so that the import is quick.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import (
        Adapted,
        Comparison,
        Experiment,
        Result,
        RoundReport,
        Rounds,
        build_experiment,
        comparison,
        read_experiment,
        result,
        resume,
        rounds,
        run,
        runs,
    )
    from .errors import FirmwareFault, TinyMetaFedError
    from .models.layers import Shape
    from .models.model import Model
    from .nodes.backend import Backend
    from .nodes.program import (
        Evaluate,
        Mark,
        Program,
        Renew,
        Select,
        Send,
        Store,
        Train,
        Variate,
    )
    from .nodes.transport import NodeLost, Transport
    from .nodes.update import Update
    from .plugins import PluginError
    from .strategies.base import (
        Averaging,
        Batch,
        Count,
        MiniBatchSGD,
        OnlineSGD,
        Rate,
        Round,
        ServerState,
        Strategy,
        WithoutSupport,
        annealed,
        mean_update,
        send_all,
    )
    from .tasks.base import Limits, Task
    from .tasks.samples import Samples

_PLACES = {
    "api": (
        "Adapted", "Comparison", "Experiment", "Result", "RoundReport", "Rounds",
        "build_experiment", "comparison", "read_experiment", "result", "resume", "rounds", "run",
        "runs",
    ),
    "errors": ("FirmwareFault", "TinyMetaFedError"),
    "models.layers": ("Shape",),
    "models.model": ("Model",),
    "nodes.backend": ("Backend",),
    "nodes.program": (
        "Evaluate", "Mark", "Program", "Renew", "Select", "Send", "Store", "Train", "Variate",
    ),
    "nodes.transport": ("NodeLost", "Transport"),
    "nodes.update": ("Update",),
    "plugins": ("PluginError",),
    "strategies.base": (
        "Averaging", "Batch", "Count", "MiniBatchSGD", "OnlineSGD", "Rate", "Round", "ServerState",
        "Strategy", "WithoutSupport", "annealed", "mean_update", "send_all",
    ),
    "tasks.base": ("Limits", "Task"),
    "tasks.samples": ("Samples",),
}  # fmt: skip
_PLACE = {name: place for place, names in _PLACES.items() for name in names}

__all__ = [
    "Adapted", "Averaging", "Backend", "Batch", "Comparison", "Count", "Evaluate", "Experiment",
    "FirmwareFault", "Limits", "Mark", "MiniBatchSGD", "Model", "NodeLost", "OnlineSGD",
    "PluginError", "Program", "Rate", "Renew", "Result", "Round", "RoundReport", "Rounds",
    "Samples", "Select", "Send", "ServerState", "Shape", "Store", "Strategy", "Task",
    "TinyMetaFedError", "Train", "Transport", "Update", "Variate", "WithoutSupport", "annealed",
    "build_experiment", "comparison", "mean_update", "read_experiment", "result", "resume",
    "rounds", "run", "runs", "send_all",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _PLACE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(f".{_PLACE[name]}", __name__), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
