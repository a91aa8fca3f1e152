"""Classes of a user's own, by the names that an experiment file gives them.

"./file.py:Class" is in a file beside the experiment, "package.module:Class" in what is installed,
and a name without a colon may be an entry point of an installed package, in a group such as
`tinymetafed.strategies`. What a class is made from is known, so that a run can tell.
"""

import importlib
import importlib.metadata
import importlib.util
import json
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from hashlib import sha256
from pathlib import Path
from traceback import walk_tb
from types import ModuleType
from typing import Any, ClassVar, get_args

from pydantic import (
    BaseModel,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationError,
    ValidationInfo,
)
from pydantic.errors import PydanticUserError
from pydantic.json_schema import PydanticJsonSchemaWarning
from pydantic_core import CoreSchema, InitErrorDetails, core_schema

from .errors import TinyMetaFedError, printable
from .settings import Settings, described, folder_of, read_text

OWN = "x-own"
"""Key of a JSON schema whose values may also be classes of a user's own: names of the installed
ones, beside those that have a colon."""

SOURCE = "source of "
"""Before the name of a source, in a run's versions."""

_roots: set[str] = set()
"""Files and folders that users' classes are from."""


class PluginError(TinyMetaFedError):
    """A class of a user's own is why: file and line, and what was raised there. Where it was raised
    by the user's code, it is the cause of this."""


@dataclass(frozen=True)
class Source:
    """What a class of a user's own is made from.

    name: absolute path of its file, or its module. text: of the file; empty where a module has no
    source. package: name and version of the installed package; empty where it is of none.
    """

    name: str
    text: str
    package: str = ""

    @cached_property
    def version(self) -> str:
        """What tells it from another one: package and version, SHA-256 of the text."""
        digest = f"SHA-256 {sha256(self.text.encode()).hexdigest()}" if self.text else ""
        return ", ".join(part for part in (self.package, digest) if part) or "unknown"


class _Own:
    """A class of a user's own under the name by which it was asked for."""

    plugin_source: ClassVar[Source]
    plugin_kind: ClassVar["Kind"]

    def __reduce__(self) -> Any:
        """Travels to other processes with its source, since nobody can import it there."""
        assert isinstance(self, BaseModel)
        return _restored, (self.plugin_kind, self.plugin_source, self.model_dump(mode="json"))


@dataclass(frozen=True)
class Kind:
    """Annotates a union of settings that are told apart by `name`: it also takes users' classes.

    group: of entry points, behind "tinymetafed.". base: of the classes. needs: fields or properties
    that each has besides what is abstract. check: raises ValueError, which begins with a name of
    these, where an object's are none.
    """

    group: str
    base: type[Settings]
    needs: tuple[str, ...]
    check: Callable[[Any], None]

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        known = [name for one in get_args(source) or (source,) for name in _names(one)]

        def validate(value: Any, inner: Callable[[Any], Any], info: ValidationInfo) -> Any:
            if isinstance(value, self.base):
                return value
            name = value.get("name") if isinstance(value, dict) else None
            if not isinstance(name, str) or name in known:
                return inner(value)
            try:
                found = self.find(name, folder_of(info))
            except TinyMetaFedError as error:
                raise ValueError(f"name: {error}") from error
            if found is None:
                raise ValueError(
                    f"name: {printable(repr(name))} is unknown; use {self._known(known)}"
                )
            return self.make(found, value, info.context)

        schema = core_schema.simple_ser_schema("any")
        return core_schema.with_info_wrap_validator_function(
            validate, handler(source), serialization=schema
        )

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {**handler(schema), OWN: self.installed}

    @property
    def installed(self) -> list[str]:
        """Names of the entry points that there are."""
        return sorted(importlib.metadata.entry_points(group=f"tinymetafed.{self.group}").names)

    def _known(self, builtin: list[str]) -> str:
        every = [repr(name) for name in (*builtin, *self.installed)]
        return ", ".join([*every, "'./FILE.py:CLASS', 'PACKAGE.MODULE:CLASS'"])

    def find(self, name: str, folder: Path) -> type[Settings] | None:
        """The class of that name, its own `name` the absolute one. folder: of the experiment's
        file. None where it is neither a file's nor a module's nor an entry point. Raises
        TinyMetaFedError."""
        where, colon, attribute = name.rpartition(":")
        if not colon:
            if name.endswith(".py") or "/" in name:
                raise PluginError(f"{printable(name)} names no class; use {printable(name)}:CLASS")
            entry = _entry_point(f"tinymetafed.{self.group}", name)
            if entry is None:
                return None
            module, source = _from_module(entry.module)
            return self._checked(module, entry.attr, source, name)
        name = absolute(name, folder)
        if name.startswith("/"):
            module, source = _from_file(Path(name.rpartition(":")[0]))
            return self._checked(module, attribute, source, name)
        module, source = _from_module(where)
        return self._checked(module, attribute, source, name)

    def make(
        self, found: type[Settings], tree: dict[str, Any], context: dict[str, Any] | None = None
    ) -> Any:
        """An object with these settings. Raises ValidationError with an error for each key that is
        wrong, PluginError where the class's own code raises anything else."""
        name = found.model_fields["name"].default
        try:
            with blaming():
                made = found.model_validate({**tree, "name": name}, context=context)
                self.check(made)
        except ValidationError as error:
            lines = described(found, error)
        except ValueError as error:
            lines = [str(error)]
        else:
            return made
        details = [
            InitErrorDetails(type="value_error", input=name, ctx={"error": ValueError(line)})
            for line in lines
        ]
        raise ValidationError.from_exception_data(found.__name__, details)

    def _checked(
        self, module: ModuleType, attribute: str, source: Source, name: str
    ) -> type[Settings]:
        found = getattr(module, attribute, None)
        base = f"tinymetafed.{self.base.__name__}"
        if found is None:
            there = ", ".join(
                key
                for key, one in vars(module).items()
                if isinstance(one, type) and issubclass(one, self.base)
                and one.__module__ == module.__name__
            )  # fmt: skip
            there = there and f"; there is: {there}"
            raise PluginError(f"{source.name} has no {printable(attribute)!r}{there}")
        if not (isinstance(found, type) and issubclass(found, self.base)):
            raise PluginError(f"{source.name}: {attribute} is no class derived from {base}")
        fields = found.model_fields
        missing = sorted(getattr(found, "__abstractmethods__", ()))
        missing += [one for one in self.needs if one not in fields and not hasattr(found, one)]
        if missing:
            raise PluginError(
                f"{source.name}: {attribute} has no {', '.join(missing)}, which a {base} needs"
            )
        return _own(found, self, source, name)


@cache
def _own(found: type[Settings], kind: Kind, source: Source, name: str) -> type[Settings]:
    """The class under this name, whichever it gives itself."""
    body = {
        "__module__": found.__module__, "__qualname__": found.__qualname__,
        "__doc__": found.__doc__, "__annotations__": {"name": str}, "name": name,
    }  # fmt: skip
    with blaming():
        make: Any = type(found)
        made = make(found.__name__, (_Own, found), body)
        made.plugin_source, made.plugin_kind = source, kind
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", PydanticJsonSchemaWarning)
                made.model_json_schema()
        except (PydanticUserError, PydanticJsonSchemaWarning) as error:
            raise PluginError(
                f"{source.name}: {found.__name__}: its settings cannot be kept as JSON: "
                f"{str(error).partition(chr(10))[0]}"
            ) from None
    return made


def _restored(kind: Kind, source: Source, tree: dict[str, Any]) -> Any:
    adopt([source])
    found = kind.find(tree["name"], Path())
    assert found is not None
    return found.model_validate(tree)


def _names(one: Any) -> tuple[str, ...]:
    field = getattr(one, "model_fields", {}).get("name")
    return get_args(field.annotation) if field is not None else ()


# ---- where classes are from ---------------------------------------------------------------------

_adopted: dict[str, Source] = {}
_modules: dict[Source, ModuleType] = {}


def adopt(sources: list[Source] | tuple[Source, ...]) -> None:
    """From now on classes of these names are made from these texts, whatever the files have."""
    _adopted.update((one.name, one) for one in sources)


def sources(model: BaseModel) -> list[Source]:
    """Of the users' classes in settings, each once."""
    found: dict[Source, None] = {}

    def look(one: Any) -> None:
        if isinstance(one, _Own):
            found[one.plugin_source] = None
        if isinstance(one, BaseModel):
            for value in vars(one).values():
                look(value)
        elif isinstance(one, tuple):
            for value in one:
                look(value)

    look(model)
    return list(found)


def absolute(name: Any, folder: Path) -> Any:
    """The name of a class, a file in it with its whole path."""
    where, colon, attribute = name.rpartition(":") if isinstance(name, str) else ("", "", "")
    is_file = colon and (where.endswith(".py") or "/" in where)
    return f"{(folder / where).resolve()}:{attribute}" if is_file else name


def recorded(versions: str) -> dict[str, str]:
    """The versions of users' classes among those of a run, JSON, by the name of their source."""
    try:
        found = json.loads(versions)
    except ValueError:
        return {}
    items = found.items() if isinstance(found, dict) else ()
    return {key.removeprefix(SOURCE): one for key, one in items if key.startswith(SOURCE)}


def check_unchanged(run: int, versions: str) -> None:
    """Raises TinyMetaFedError where what a run's users' classes are made from is not what it began
    with: what is computed now would be of another experiment. versions: of the run, JSON."""
    for name, before in recorded(versions).items():
        try:
            source = _read(Path(name)) if name.startswith("/") else _from_module(name)[1]
        except TinyMetaFedError as error:
            raise TinyMetaFedError(f"run {run} cannot go on: {error}") from None
        if source.version != before:
            raise TinyMetaFedError(
                f"run {run} cannot go on: {name} has changed since it began ({before}; now "
                f"{source.version}); bring back what it was, or run the experiment again"
            )


def short(name: str) -> str:
    """A name for a table: without the folder of a file."""
    return name.rpartition("/")[2]


def _read(path: Path) -> Source:
    return _adopted.get(str(path)) or Source(str(path), read_text(path))


def _from_file(path: Path) -> tuple[ModuleType, Source]:
    source = _read(path)
    if (module := _modules.get(source)) is None:
        digest = sha256(source.text.encode()).hexdigest()[:16]
        module = ModuleType(f"tinymetafed_plugin_{path.stem}_{digest}")
        module.__file__ = str(path)
        _roots.add(str(path))
        sys.modules[module.__name__] = module  # by which annotations are resolved
        try:
            with blaming():
                exec(compile(source.text, str(path), "exec"), vars(module))
        except BaseException:
            del sys.modules[module.__name__]
            raise
        _modules[source] = module
    return module, source


@cache
def _from_module(name: str) -> tuple[ModuleType, Source]:
    top = name.partition(".")[0]
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        raise PluginError(f"there is no module {printable(top)!r}; is its package installed?")
    _roots.update(spec.submodule_search_locations or ())
    if spec.origin is not None:
        _roots.add(spec.origin)
    with blaming(default=f"module {printable(name)}"):
        module = importlib.import_module(name)
    file = getattr(module, "__file__", None) or ""
    text = read_text(Path(file)) if file.endswith(".py") else ""
    source = Source(name, text, _package(top))
    adopted = _adopted.get(name, source)
    if adopted != source:
        raise PluginError(f"{name}: is here {source.version}, and elsewhere {adopted.version}")
    return module, source


def _package(top: str) -> str:
    """Name and version of what has installed a top-level module; empty where nothing has."""
    names = importlib.metadata.packages_distributions().get(top, [])
    return ", ".join(f"{one} {importlib.metadata.version(one)}" for one in dict.fromkeys(names))


@cache
def _entry_point(group: str, name: str) -> importlib.metadata.EntryPoint | None:
    found = {
        (one.module, one.attr): one
        for one in importlib.metadata.entry_points(group=group, name=name)
    }
    if len(found) > 1:
        every = " and ".join(one.value for one in found.values())
        raise PluginError(f"{name} is an entry point of several packages: {every}; use one of them")
    return next(iter(found.values()), None)


# ---- what users' code raises --------------------------------------------------------------------


@contextmanager
def blaming(default: str | None = None) -> Iterator[None]:
    """What is raised meanwhile in a user's file becomes a PluginError, whose cause it is.

    default: what is to blame where no line of such a file is; nobody where not given, and it is
    raised as it was. TinyMetaFedError and what says that settings are wrong stay as they are.
    """
    try:
        yield
    except (TinyMetaFedError, ValidationError):
        raise
    except (Exception, SystemExit) as error:
        place = _place(error) or default
        if place is None:
            raise
        what = error.msg if isinstance(error, SyntaxError) else str(error)
        first = printable(what.strip().partition("\n")[0])
        raise PluginError(f"{place}: {type(error).__name__}: {first}".rstrip(": ")) from error


def _place(error: BaseException) -> str | None:
    """The last line of a user's file that was on the way to the error."""
    if isinstance(error, SyntaxError) and error.filename and _is_own(error.filename):
        return f"{error.filename}:{error.lineno}"
    found = None
    for frame, line in walk_tb(error.__traceback__):
        if _is_own(frame.f_code.co_filename):
            found = f"{frame.f_code.co_filename}:{line}"
    return found


def _is_own(file: str) -> bool:
    return file in _roots or any(file.startswith(f"{root}/") for root in _roots)
