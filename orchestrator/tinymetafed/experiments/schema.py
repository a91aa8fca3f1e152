"""The JSON schema of experiment and comparison files, for editors and for the reference.

A field's description is the string literal below it, as documentation tools read it. It is looked
up here and not as a class is made (pydantic's use_attribute_docstrings), which would read all
sources again each time that a command starts.
"""

import ast
import inspect
import json
import sys
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from ..plugins import OWN
from .comparison import ComparisonSettings
from .experiment import Experiment

KINDS: dict[str, type[BaseModel]] = {"experiment": Experiment, "comparison": ComparisonSettings}
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema(kind: str) -> dict[str, Any]:
    """Of the files of a kind. Raises KeyError where there is no such kind."""
    found = _with_own(KINDS[kind].model_json_schema(schema_generator=_Described))
    if model := found["$defs"].get("ModelSettings"):
        model["required"].remove("layers")
        model["anyOf"] = [{"required": [key]} for key in ("layers", "onnx", "tflite", "from_run")]
    return {"$schema": DIALECT, **found, "title": f"TinyMetaFed {kind}"}


def text(kind: str) -> str:
    """The schema of the files of a kind as it is printed. Raises KeyError."""
    return json.dumps(schema(kind), indent=1, ensure_ascii=False) + "\n"


def _with_own(part: Any) -> Any:
    """Also allows the classes of a user's own, whose settings are not known here."""
    if isinstance(part, list):
        return [_with_own(one) for one in part]
    if not isinstance(part, dict):
        return part
    part = {key: _with_own(value) for key, value in part.items()}
    if OWN not in part:
        return part
    name: dict[str, Any] = {"anyOf": [{"type": "string", "pattern": ":"}]}
    if installed := part.pop(OWN):
        name["anyOf"].append({"enum": installed})
    kept = {key: part.pop(key) for key in ("title", "description", "default") if key in part}
    if part.get("type") == "string":
        return kept | {"anyOf": [part, name]}
    own = {"type": "object", "required": ["name"], "properties": {"name": name}}
    return kept | {"anyOf": [part, own]}


class _Described(GenerateJsonSchema):
    """Has the descriptions of fields."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        found = super().model_schema(schema)
        if found.get("type") == "object":
            found["description"] = " ".join(found.get("description", "").split())
            texts = descriptions(schema["cls"])
            for key, value in found.get("properties", {}).items():
                if key in texts:
                    value["description"] = texts[key]
        return found


def descriptions(model: type[BaseModel]) -> dict[str, str]:
    """Of its fields, by their names; a class's own before those of what it derives from."""
    found: dict[str, str] = {}
    for one in reversed(model.__mro__):
        found |= _of_module(one.__module__).get(one.__qualname__, {})
    return found


@cache
def _of_module(name: str) -> dict[str, dict[str, str]]:
    """The string literals below the fields of a module's classes, by class and field."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[name]))
    except (OSError, TypeError):  # no source, as of what is built in
        return {}
    return {
        one.name: {
            field.target.id: " ".join(text.value.value.split())
            for field, text in zip(one.body, one.body[1:], strict=False)
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
            and isinstance(text.value.value, str)
        }
        for one in tree.body
        if isinstance(one, ast.ClassDef)
    }  # fmt: skip
