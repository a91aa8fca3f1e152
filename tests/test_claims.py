"""Verdicts of docs/claims.md are by rule."""

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tinymetafed.experiments import comparison
from tinymetafed.places import EXPERIMENTS, PROJECT

PAGE = PROJECT / "docs/claims.md"


@pytest.fixture(scope="module")
def claims() -> ModuleType:
    spec = importlib.util.spec_from_file_location("claims", PROJECT / "docs/claims.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def row(task: str, quantity: str, **figures: Any) -> dict[str, Any]:
    """Of a comparison's results, P = 10% beside Reptile."""
    names = ("difference", "difference_low", "difference_high", "ratio", "ratio_low", "ratio_high")
    nothing = dict.fromkeys(names)
    given = {"task": task, "strategy": "P = 10%", "quantity": quantity, "pairs": 3}
    return nothing | given | figures


def ratio(middle: float, low: float, high: float) -> dict[str, float]:
    return {"ratio": middle, "ratio_low": low, "ratio_high": high}


@pytest.mark.parametrize(
    ("second", "says"),
    [
        (ratio(0.5, 0.4, 0.9), "**Holds**: yes on 2 of 2 tasks, no on 0, open on 0."),
        (ratio(0.9, 0.8, 1.1), "**Holds partly**: yes on 1 of 2 tasks, no on 0, open on 1."),
        (ratio(1.2, 1.1, 1.3), "**Holds partly**: yes on 1 of 2 tasks, no on 1, open on 0."),
        ({}, "**Holds partly**: yes on 1 of 2 tasks, no on 0, open on 1."),
    ],
)
def test_a_claim_holds_where_the_whole_interval_is_on_its_side(
    claims: ModuleType, second: dict[str, float], says: str
):
    rows = [row("a", "bytes", **ratio(0.2, 0.1, 0.3)), row("b", "bytes", **second)]
    found = claims.verdict(claims.CLAIMS[0], rows)
    assert found.splitlines()[0] == says
    assert "| a | bytes | 80.0% (70.0 to 90.0) | yes |" in found


def test_a_bound_is_said_to_be_one(claims: ModuleType):
    """Where the baseline, or the strategy, has not reached the target with every seed."""
    convergence = next(one for one in claims.CLAIMS if one.name == "convergence")
    quantity = convergence.quantities[0]
    better = {**ratio(0.5, 0.0, 0.7), "ratio_low": None, "bound": "upper"}
    worse = {**ratio(6.0, 2.1, 0.0), "ratio_high": None, "bound": "lower"}
    text = claims.verdict(convergence, [row("a", quantity, **better), row("b", quantity, **worse)])
    assert "| a | rounds until target | > 50.0% (30.0 to 100.0) | yes |" in text
    assert "| b | rounds until target | < -500.0% (-∞ to -110.0) | no |" in text


def test_a_claim_that_holds_nowhere_does_not_hold(claims: ModuleType):
    rows = [row("a", "bytes", **ratio(1.2, 1.1, 1.3))]
    assert claims.verdict(claims.CLAIMS[0], rows).startswith("**Does not hold here**")
    undecided = [row("a", "bytes", **ratio(0.9, 0.8, 1.1))]
    assert claims.verdict(claims.CLAIMS[0], undecided).startswith("**Open**: yes on 0 of 1")
    with pytest.raises(SystemExit, match="nothing of P = 10%"):
        claims.verdict(claims.CLAIMS[0], [])


def test_controls_are_shown_and_do_not_count(claims: ModuleType):
    claim = next(one for one in claims.CLAIMS if one.controls)
    better = {"difference": 0.02, "difference_low": 0.01, "difference_high": 0.03}
    rows = [row(task, claim.quantities[0], **better) for task in claim.controls]
    rows.append(row("a", claim.quantities[0], **better | {"difference_low": -0.01}))
    rows = [one | {"strategy": claim.strategy} for one in rows]
    found = claims.verdict(claim, rows)
    assert found.startswith("**Open**: yes on 0 of 1 tasks, no on 0, open on 1. 4 controls do not")
    assert found.count("| control: yes |") == len(claim.controls)
    with pytest.raises(SystemExit, match="nothing of TinyMetaFed"):
        claims.verdict(claim, rows[:-1])


def test_of_accuracy_more_is_better(claims: ModuleType):
    figures = {"difference": 0.02, "difference_low": 0.01, "difference_high": 0.03}
    measured = claims.better("accuracy after adaptation", row("a", "x", **figures))
    assert measured == pytest.approx((2, 1, 3))


def test_the_page_has_a_place_for_each_and_is_filled_again(claims: ModuleType, tmp_path: Path):
    rows = dict[str, list[dict[str, Any]]]()
    for claim in claims.CLAIMS:
        own = row("a", claim.quantities[-1], **ratio(0.2, 0.1, 0.3)) | {"strategy": claim.strategy}
        rows.setdefault(claim.file, []).append(own)
    for name, results in rows.items():
        (tmp_path / f"{name}.json").write_text(json.dumps({"results": results}))
    once = claims.fill(PAGE.read_text(), tmp_path)
    assert once.count("**Holds**") == len(claims.CLAIMS)
    assert claims.fill(once, tmp_path) == once
    assert len(re.findall(r"<!-- end -->", once)) == len(claims.CLAIMS)
    for left in tmp_path.iterdir():
        left.unlink()
    assert claims.fill(once, tmp_path) == once  # what has not been compared stays as it is


def test_each_claim_is_about_a_strategy_of_its_comparison(claims: ModuleType):
    for claim in claims.CLAIMS:
        settings, _ = comparison.read(EXPERIMENTS / f"{claim.file}.toml")
        labels = [one.label for one in settings.strategies]
        assert claim.strategy in labels
        assert settings.compared_with != claim.strategy
        assert len(settings.tasks) >= 3
        assert set(claim.controls) < {one.label for one in settings.tasks} or not claim.controls
