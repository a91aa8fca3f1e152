"""Files of settings (TOML), checked into types; what is wrong is said in the user's words."""

import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo

from .errors import TinyMetaFedError, printable

T = TypeVar("T", bound=BaseModel)


class Settings(BaseModel):
    """A table of a file: no key that is not known, nothing changes later."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


LARGEST = 2**20
"""Bytes of a file of settings; what is larger, or never ends, is none."""


def read_text(path: Path) -> str:
    """UTF-8, with a byte-order mark or without. Raises TinyMetaFedError."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise TinyMetaFedError(f"{path}: larger than 1 MiB, so no file of settings")
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise TinyMetaFedError(f"{path}: cannot be read: {reason}") from None


def parse(text: str, origin: str) -> dict[str, Any]:
    """TOML as a tree. Raises TinyMetaFedError that names `origin`."""
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also of an impossible date, or a huge number
        raise TinyMetaFedError(f"{origin}: not TOML: {error}") from None


def value(text: str) -> Any:
    """What a text on the command line stands for: TOML, or a string, which needs no quotes."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text.strip()


def index(values: list[Any], key: str) -> int:
    """The index that a key of --set or of a comparison's changes is. Raises KeyError with what is
    wrong."""
    if key.isascii() and key.isdecimal() and int(key) < len(values):
        return int(key)
    there = f"0 to {len(values) - 1}" if values else "none"
    raise KeyError(f"no index {key!r:.40} of a list; there are {there}; to add one, give all of it")


def read(model: type[T], path: Path) -> T:
    """The settings in a file. Raises TinyMetaFedError."""
    return check(model, parse(read_text(path), str(path)), str(path), path.parent)


def folder_of(info: ValidationInfo) -> Path:
    """The folder that paths in settings are relative to while they are checked."""
    return (info.context or {}).get("folder", Path())


def names(folder: Path) -> list[str]:
    """Of the settings files in a folder."""
    return sorted(path.stem for path in folder.glob("*.toml"))


HERE = Path()


def check(model: type[T], tree: dict[str, Any], origin: str, folder: Path = HERE) -> T:
    """folder: that paths in it are relative to. Raises TinyMetaFedError that names `origin`, the
    key and what it may be, a line for each error."""
    try:
        return model.model_validate(tree, context={"folder": folder})
    except ValidationError as error:
        lines = described(model, error)
        raise TinyMetaFedError("\n".join(f"{origin}: {line}" for line in lines)) from None


def described(model: type[BaseModel], error: ValidationError) -> list[str]:
    """A line for each thing that is wrong: the key, and what it may be."""
    # What would follow from a value that is wrong itself is no error of its own.
    details = [one for one in error.errors() if one["type"] != "default_factory_not_called"]
    # A list without what is wrong in it may be too short besides: no error of its own.
    wrong = {detail["loc"][:i] for detail in details for i in range(len(detail["loc"]))}
    return [_describe(model, detail) for detail in details if detail["loc"] not in wrong]


def _describe(model: type[BaseModel], detail: Any) -> str:
    """One line: key, what is wrong with its value, and what is allowed."""
    keys, schema = _find(model, detail["loc"])
    key = ".".join(keys)
    context, shown = detail.get("ctx", {}), printable(repr(detail["input"]))
    match detail["type"]:
        case "extra_forbidden":
            known = ", ".join(_find(model, detail["loc"][:-1])[1].get("properties", {}))
            return f"{key}: unknown key; known are: {known}"
        case "missing":
            return f"{key}: missing"
        case kind if kind.startswith("tmf_"):  # ours
            return f"{key}: {shown} is not allowed; {detail['msg']}"
        case "literal_error":
            return f"{key}: {shown} is not allowed; use {context['expected']}"
        case "union_tag_invalid" | "union_tag_not_found" as kind:
            tag = ".".join([*keys, schema["discriminator"]["propertyName"]])
            if kind == "union_tag_not_found":
                return f"{tag}: missing"
            unknown = printable(repr(context["tag"]))
            return f"{tag}: {unknown} is unknown; use {context['expected_tags']}"
        case "value_error" if not key:
            return str(context["error"])
        case "value_error":
            return f"{key}.{context['error']}"
        case _:
            allowed = _range(schema)
            return f"{key}: {shown} is not allowed; {allowed or detail['msg']}"


def _find(
    model: type[BaseModel], location: tuple[str | int, ...]
) -> tuple[list[str], dict[str, Any]]:
    """The keys on the way to `location`, in which the tag of a union is a step but no key; and the
    JSON schema of what lies there, empty where there is none."""
    root = model.model_json_schema()
    keys: list[str] = []
    schema: dict[str, Any] = root
    for step in (None, *location):
        if step is not None and "discriminator" in schema:
            schema = {"$ref": schema["discriminator"]["mapping"].get(step, "")}
        elif step in ("number", "object") and "oneOf" in schema:  # a value, or a table for it
            kinds = [("number" if "type" in one else "object", one) for one in schema["oneOf"]]
            schema = dict(kinds)[step]
        elif isinstance(step, int):
            keys.append(str(step))
            items = schema.get("prefixItems", [])
            schema = items[step] if step < len(items) else schema.get("items", {})
        elif step is not None:
            keys.append(step)
            schema = schema.get("properties", {}).get(step, {})
        schema = next((s for s in schema.get("anyOf", []) if s.get("type") != "null"), schema)
        if "$ref" in schema:
            schema = root["$defs"].get(schema["$ref"].rpartition("/")[2], {})
    return keys, schema


def _range(schema: dict[str, Any]) -> str:
    words = {
        "minimum": "at least", "exclusiveMinimum": "more than", "maximum": "at most",
        "exclusiveMaximum": "less than", "minItems": "at least", "maxItems": "at most",
        "pattern": "matching",
    }  # fmt: skip
    limits = " and ".join(f"{words[key]} {schema[key]}" for key in words if key in schema)
    kinds = {"integer": "a whole number", "number": "a number", "array": "a list of values"}
    found = "table" if "discriminator" in schema else schema.get("type", "")
    kind = kinds.get(found, f"a {found}")
    return f"use {kind} {limits}".rstrip() if found else ""
