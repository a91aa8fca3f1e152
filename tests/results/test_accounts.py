"""The store's rows of a run on QEMU, and what is made of them."""

import dataclasses
from dataclasses import astuple
from pathlib import Path

import pytest

from running import execute, ledger
from tinymetafed.energy.ledger import balance
from tinymetafed.energy.settings import EnergySettings
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.experiments.experiment import Experiment, read
from tinymetafed.places import PROJECT
from tinymetafed.results import accounts
from tinymetafed.results.store import Run, Store

DEMO = PROJECT / "experiments/demo.toml"


@pytest.fixture(scope="module")
def settings() -> Experiment:
    changes = ("rounds=3", "nodes.count=2", "evaluation.devices=2", "energy.device=stm32l476")
    return read(DEMO, changes)


@pytest.fixture(scope="module")
def ran(settings: Experiment, tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Run]:
    return execute(settings, tmp_path_factory.mktemp("runs"))


def test_every_round_of_every_node_is_there(ran: tuple[Store, Run]):
    store, run = ran
    phases = store.phases(run.id)
    for number in (1, 2, 3):
        for node in (0, 1):
            mine = {row.phase for row in phases if (row.round, row.node) == (number, node)}
            assert mine >= {"receive", "reconstruct", "learn", "select", "send"}
            assert ("start" in mine) == (number == 1)  # the boot
            assert "evaluate" not in mine  # judging is no part of the federation's work
    assert all(row.counted for row in store.node_rounds(run.id))


def test_classes_add_up_to_instructions_and_cycles_lie_within_bounds(ran: tuple[Store, Run]):
    store, run = ran
    for row in store.phases(run.id):
        classes = dict(row.classes)
        classes.pop("exception", None)
        assert sum(classes.values()) == row.instructions
        for shortest, expected, longest in row.cycles.values():
            assert shortest <= expected <= longest
            assert 0.5 * row.instructions < shortest
            assert longest < 5 * row.instructions + 1000


def test_training_is_the_same_in_every_round(ran: tuple[Store, Run]):
    """Other samples, as many of them: instructions and cycles differ by branches alone."""
    store, run = ran
    for phase in ("reconstruct", "learn"):
        counts = [row.instructions for row in store.phases(run.id) if row.phase == phase]
        assert max(counts) < 1.05 * min(counts)


def test_the_ledger_of_a_run_is_that_of_its_rows(ran: tuple[Store, Run], settings: Experiment):
    """What spending.py makes of arrays is what energy/ledger.py makes of each row."""
    store, run = ran
    rows, phases = store.node_rounds(run.id), store.phases(run.id)
    booked = accounts.book(rows, phases, settings.priced)
    found = ledger(store, run)
    assert len(found) == len(booked)
    for one, two in zip(found, booked, strict=True):
        assert astuple(one)[:3] == astuple(two)[:3]
        assert astuple(one)[3:] == pytest.approx(astuple(two)[3:], rel=1e-12, abs=1e-15)


def test_another_device_s_price(ran: tuple[Store, Run]):
    """The same work: computing on the nRF54L15 takes less than on the STM32L476."""
    store, run = ran
    rows, phases = store.node_rounds(run.id), store.phases(run.id)

    def learning(device: str) -> float:
        entries = accounts.book(rows, phases, [(range(2), EnergySettings(device=device))])
        return balance([entry for entry in entries if entry.account == "learn"]).joules

    by_hand = sum(
        row.cycles["cortex-m4"][1] / 80e6 * 3.0 * 10.9e-3 for row in phases if row.phase == "learn"
    )
    assert learning("stm32l476") == pytest.approx(by_hand, rel=1e-9)
    assert learning("nrf54l15") < learning("nrf52840") < learning("stm32l476")


def test_a_core_that_the_run_was_not_priced_for(ran: tuple[Store, Run]):
    store, run = ran
    phases = [
        dataclasses.replace(row, cycles={"cortex-m5": [1, 1, 1]}) for row in store.phases(run.id)
    ]
    with pytest.raises(TinyMetaFedError, match=r"nrf52840: the run has no cycles of its core"):
        accounts.book(store.node_rounds(run.id), phases, [(range(2), EnergySettings())])


def test_nothing_counted_is_no_ledger(tmp_path: Path):
    experiment = read(DEMO, ("rounds=1", "nodes.backend=host", "evaluation.devices=1"))
    store, run = execute(experiment, tmp_path)
    assert ledger(store, run) == []
    assert store.phases(run.id) == []
    assert not any(row.counted for row in store.node_rounds(run.id))
