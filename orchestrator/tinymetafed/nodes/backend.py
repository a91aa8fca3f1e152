"""What a backend of a user's own is: it starts nodes, and gives the way to each."""

from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationInfo
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from ..errors import TinyMetaFedError
from ..plugins import OWN, Kind, short
from ..settings import Settings, folder_of
from .transport import OpenTransport, Transport


class Backend(Settings):
    """A backend of a user's own, which `nodes.backend` names; its fields are the settings in
    [nodes.options]. Its nodes are not counted, as those of `host` are not."""

    @abstractmethod
    async def open(self, node: str, directory: Path) -> Transport:
        """Starts a node, and returns the way to it: the byte stream of the frames, which end with a
        zero byte. It is also called for a node that was lost, to start it anew.

        node: its name, as in the store. directory: private, for sockets and the like; it goes when
        the run ends. Raises TinyMetaFedError where the node cannot be started.
        """


KIND = Kind("backends", Backend, (), lambda backend: None)
METHODS = "write", "read", "computing", "executed", "stand", "counts", "said", "close"


def opener(backend: Backend, node: str, directory: Path) -> OpenTransport:
    """What starts one of its nodes. Raises TinyMetaFedError where that is no transport."""
    return partial(_open, backend, node, directory)


async def _open(backend: Backend, node: str, directory: Path) -> Transport:
    found = await backend.open(node, directory)
    if missing := [name for name in (*METHODS, "immediate") if not hasattr(found, name)]:
        where = short(getattr(backend, "name", type(backend).__name__))
        raise TinyMetaFedError(
            f"{where}: open() returned {type(found).__name__}, no Transport: it has no "
            f"{', '.join(missing)}"
        )
    return found


class Named:
    """Annotates the names of backends: a user's own is one too."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        known = get_args(source)

        def named(value: Any, inner: Callable[[Any], Any], info: ValidationInfo) -> Any:
            if not isinstance(value, str) or value in known:
                return inner(value)
            try:
                found = KIND.find(value, folder_of(info))
            except TinyMetaFedError as error:
                raise PydanticCustomError("tmf_own", "{text}", {"text": str(error)}) from error
            return inner(value) if found is None else found.model_fields["name"].default

        return core_schema.with_info_wrap_validator_function(
            named, handler(source), serialization=core_schema.simple_ser_schema("any")
        )

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        return {**handler(schema), OWN: KIND.installed}


class Options:
    """Annotates the settings of a user's backend, which stands in `backend` before them."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        return core_schema.with_info_wrap_validator_function(
            self._made, core_schema.any_schema(), serialization=core_schema.simple_ser_schema("any")
        )

    def _made(self, value: Any, inner: Callable[[Any], Any], info: ValidationInfo) -> Any:
        if isinstance(value, Backend):
            return value
        found = KIND.find(info.data.get("backend", ""), folder_of(info))
        if found is not None and isinstance(value, dict | None):
            return KIND.make(found, value or {}, info.context)
        if value is not None:
            text = "only a backend of your own has some, a table; leave it out"
            raise PydanticCustomError("tmf_options", "{text}", {"text": text})
        return None
