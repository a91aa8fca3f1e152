"""Runs by their settings and tags."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any

from ..errors import TinyMetaFedError, printable
from ..settings import value
from .store import Run, Store

NOTHING = object()


def select(store: Store, where: Iterable[str] = (), tags: Iterable[str] = ()) -> list[Run]:
    """The runs that have all of these settings and tags, the oldest first.

    where: KEY=VALUE with dotted keys, as --set takes them. Raises TinyMetaFedError where no run in
    the store has such a setting or tag, so that a slip of the pen is no empty list.
    """
    runs = store.runs()
    trees = {run.id: run.tree | {"name": run.name} for run in runs}  # it may have been renamed
    chosen = runs
    for condition in where:
        key, equals, text = condition.partition("=")
        steps = [step.strip() for step in key.split(".")]
        if not equals or not all(steps):
            raise TinyMetaFedError(
                f"--where {printable(condition)}: expected KEY=VALUE, e.g. nodes.count=8"
            )
        found = {number: _at(tree, steps) for number, tree in trees.items()}
        if runs and all(one is NOTHING for one in found.values()):
            raise TinyMetaFedError(f"--where {printable(key)}: {_unknown(key, trees.values())}")
        if tables := [one for one in found.values() if isinstance(one, dict)]:
            keys = dict.fromkeys(name for one in tables for name in one)
            if not isinstance(value(text), dict):
                raise TinyMetaFedError(
                    f"--where {printable(condition)}: a table; give one of its keys: "
                    f"{', '.join(keys)}"
                )
        chosen = [run for run in chosen if _same(found[run.id], text)]
    for tag in tags:
        tagged = {run.id for run in runs if tag in store.labels_of(run.id).tags}
        if runs and not tagged:
            known = sorted({one for run in runs for one in store.labels_of(run.id).tags})
            there = f"there are: {', '.join(known)}" if known else "there is none yet"
            raise TinyMetaFedError(f"--tag {printable(tag)}: no run has this tag; {there}")
        chosen = [run for run in chosen if run.id in tagged]
    return chosen


def _at(tree: Any, steps: Sequence[str]) -> Any:
    for step in steps:
        if isinstance(tree, dict) and step in tree:
            tree = tree[step]
        elif isinstance(tree, list) and step.isdecimal() and int(step) < len(tree):
            tree = tree[int(step)]
        else:
            return NOTHING
    return tree


def _same(found: Any, text: str) -> bool:
    """Whether it is what the text stands for; a string needs no quotes, whatever it looks like, and
    none is one that is not set."""
    wanted = value(text)
    if found is None:
        return wanted == "none"
    if isinstance(found, str):
        return found in (wanted, text.strip())
    if isinstance(found, bool) or isinstance(wanted, bool):
        return found is wanted
    return found == wanted


def _unknown(key: str, trees: Iterable[Any]) -> str:
    known = {one for tree in trees for one in _keys(tree)}
    close = get_close_matches(key, known, 3)
    close += sorted(one for one in known if one.endswith(f".{key}") and one not in close)[:3]
    return "no run has such a setting" + (f"; is it {' or '.join(close)}?" if close else "")


def _keys(tree: Any, before: str = "") -> Iterable[str]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for name, part in items:
        yield f"{before}{name}"
        if isinstance(part, dict | list):
            yield from _keys(part, f"{before}{name}.")
