"""JSON for scripts says what the tables say, to the last digit."""

import csv
import json
import sqlite3
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from calling import call
from tinymetafed.energy.timing import READINGS


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store: run 1 on QEMU, run 2 on the host."""
    folder = tmp_path_factory.mktemp("ran")
    for backend in ("qemu", "host"):
        changes = ("rounds=2", "nodes.count=2", f"nodes.backend={backend}", f"name={backend}")
        sets = [word for change in changes for word in ("--set", change)]
        called = call(folder, "run", "smoke", *sets)
        assert called.returncode == 0, called.stderr
    return folder


def _json(folder: Path, *arguments: str) -> Any:
    called = call(folder, *arguments, "--json")
    assert called.returncode == 0, called.stderr
    return json.loads(called.stdout, parse_constant=pytest.fail)


def _sums(folder: Path, run: int) -> list[int]:
    with sqlite3.connect(folder / "runs/runs.sqlite") as database:
        query = "SELECT sum(bytes_down), sum(bytes_up) FROM node_round WHERE run = ?"
        return list(database.execute(query, [run]).fetchone())


def test_runs(ran: Path):
    one, two = _json(ran, "runs")
    assert (one["run"], one["name"], one["backend"]) == (1, "qemu", "qemu")
    assert (two["run"], two["rounds"], two["rounds_done"], two["seed"]) == (2, 2, 2, 1)
    assert (two["strategy"], two["task"], two["problem"]) == ("tinymetafed", "sine", None)
    assert one["last_evaluation"] == two["last_evaluation"]  # bit for bit
    assert one["last_evaluation"]["round"] == 2


def test_a_run(ran: Path):
    shown = _json(ran, "show", "1")
    assert [node["node"] for node in shown["nodes"]] == [0, 1]
    assert [sum(n[key] for n in shown["nodes"]) for key in ("bytes_down", "bytes_up")] == _sums(
        ran, 1
    )
    assert [(one["round"], one["part"]) for one in shown["evaluations"]] == [
        (0, "validation"), (2, "validation"), (2, "unseen"),
    ]  # fmt: skip
    assert shown["settings"]["nodes"]["count"] == 2
    joules = sum(node["joules"] for node in shown["nodes"])
    assert joules == pytest.approx(shown["energy"]["all"]["joules"], rel=1e-12)
    assert "energy" not in _json(ran, "show", "2")  # nothing is counted on the host


def test_the_energy_is_that_of_the_ledger(ran: Path):
    called = call(ran, "energy", "1", "--csv", "ledger.csv", "--radio", "lora7")
    assert called.returncode == 0, called.stderr
    sums: dict[str, float] = defaultdict(float)
    with (ran / "ledger.csv").open() as file:
        for row in csv.DictReader(file):
            sums[row["account"]] += float(row["joules"])
    found = _json(ran, "energy", "1", "--classes", "--radio", "lora7")
    assert found["priced_for"] == [{"nodes": [0, 1], "device": "nrf52840", "radio": "lora7"}]
    joules = {name: one["joules"] for name, one in found["accounts"].items() if one["seconds"]}
    assert joules == pytest.approx({k: v for k, v in sums.items() if k in joules}, rel=1e-9)
    assert found["all"]["joules"] == pytest.approx(sum(sums.values()), rel=1e-9)
    for phase in found["phases"].values():
        shortest, expected, longest = (phase["cycles"][name] for name in READINGS)
        assert 0 < shortest <= expected <= longest
    assert found["classes"]["learn"]["FP multiply"] > 0


def test_energy_of_nothing_is_an_error(ran: Path):
    called = call(ran, "energy", "2", "--json")
    assert (called.returncode, called.stdout) == (1, "")
    assert called.stderr.startswith("error: run 2: nothing was counted")


def test_a_plan(ran: Path):
    found = _json(ran, "plan", "smoke")
    table = call(ran, "plan", "smoke").stdout
    memory = found["memory"]
    assert memory["needed"] == sum(memory["parts"].values())
    assert memory["ram"] == memory["needed"] + memory["ram_of_image"]
    for figure in (memory["needed"], memory["ram"], memory["flash"], memory["available"]):
        assert f"{figure:,}" in table
    assert sum(one["parameters"] for one in found["layers"]) == 1761
    assert found["devices"]["nrf52840"] == {"fits": True, "too_few_bytes": {}}
    later = found["rounds"]["later"]
    assert later["bytes_down"] == sum(one["down"] for one in later["messages"].values())
    joules = found["energy"]["nrf52840"]["all"]["joules"]
    assert f"{1e3 * joules:,.3f}" in table
    assert set(found["radios"]) == {"ble1m", "ble2m", "ieee802154", "lora7", "uart"}


def test_a_plan_that_does_not_fit(ran: Path):
    called = call(ran, "plan", "smoke", "--json", "--set", "model.layers=[{units=30000},{units=1}]")
    assert called.returncode == 1
    assert "so no round can be played" in called.stderr
    found = json.loads(called.stdout)
    assert not found["memory"]["fits"]
    assert "rounds" not in found
