"""A fleet of several kinds of nodes comes to what nodes of one kind come to."""

from pathlib import Path

import pytest

from conftest import MakeExperiment
from printing import printed
from running import STRATEGIES, came_to, execute, in_pieces, ledger, weights
from tinymetafed.energy.ledger import SLEEP
from tinymetafed.energy.settings import EnergySettings
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.report.described import describe
from tinymetafed.report.summary import summary

GROUPS = (
    "{backend='host', count=2}", "{backend='qemu', count=1}",
    "{backend='qemu', link='uart', count=1}", "{backend='host', count=3}",
)  # fmt: skip


def fleet(*groups: str, per_round: int = 4) -> str:
    """`nodes` of an experiment."""
    return f"nodes={{per_round={per_round}, groups=[{', '.join(groups)}]}}"


@pytest.mark.parametrize("strategy", ["tinymetafed", "feedback", "scaffold"])
def test_weights_are_those_of_nodes_of_one_kind(
    experiment: MakeExperiment, tmp_path: Path, strategy: str
):
    changes = (*STRATEGIES[strategy], "rounds=7", "participation={leave=0.3, join=0.6}")
    host = experiment(*changes, "nodes={backend='host', count=7, per_round=4}")
    mixed = experiment(*changes, fleet(*GROUPS))
    store, run = execute(mixed, tmp_path / "mixed")
    expected, alone = execute(host, tmp_path / "host")
    assert run.backend == "host+qemu"
    ours, theirs = came_to(store, run), came_to(expected, alone)
    for one in ("theta", "changed", "evaluations", "kept", "server"):
        assert ours[one] == theirs[one]
    rows = store.node_rounds(run.id)
    assert [row.counted for row in rows] == [row.node in (2, 3) for row in rows]
    assert {row.node for row in rows} == set(range(7))
    bytes_of = [[(row.bytes_down, row.bytes_up) for row in one] for one in (
        rows, expected.node_rounds(alone.id)
    )]  # fmt: skip
    assert bytes_of[0] == bytes_of[1]


def test_a_fleet_goes_on_where_it_was(experiment: MakeExperiment, tmp_path: Path):
    changes = (*STRATEGIES["feedback"], "rounds=4", "participation={leave=0.4, join=0.5}")
    mixed = experiment(*changes, fleet(*GROUPS))
    undisturbed = came_to(*execute(mixed, tmp_path / "one"))
    assert came_to(*in_pieces(mixed, tmp_path / "pieces", [1, 3])) == undisturbed


def test_noise_is_on_the_links_of_any_group(experiment: MakeExperiment, tmp_path: Path):
    noise = "faults.links=[{nodes=[0, 3], lost_frames=0.05, flipped_bytes=1e-4}]"
    quiet = experiment(fleet(*GROUPS), "rounds=3")
    noisy = experiment(fleet(*GROUPS), "rounds=3", noise)
    assert weights(noisy, tmp_path / "a").tobytes() == weights(quiet, tmp_path / "b").tobytes()


def test_each_group_is_priced_for_its_own_device_and_radio(
    experiment: MakeExperiment, tmp_path: Path
):
    mixed = experiment(
        "rounds=3", "evaluation.every=3",
        fleet(
            "{backend='qemu', count=1}", "{backend='host', count=1}",
            "{backend='qemu', count=1, radio='lora7', device='stm32l476'}", per_round=3,
        ),
    )  # fmt: skip
    store, run = execute(mixed, tmp_path / "mixed")
    found = ledger(store, run)
    for node, (device, radio) in {0: ("nrf52840", "ble1m"), 2: ("stm32l476", "lora7")}.items():
        energy = EnergySettings(device=device, radio=radio)
        alone = describe(store, run).account(store, run, [(range(3), energy)])
        assert [one for one in found if one.node == node and one.account != SLEEP] == [
            one for one in alone.entries() if one.node == node and one.account != SLEEP
        ]
    assert {one.node for one in found} == {0, 2}
    awake = [0.0, 0.0, 0.0]
    for one in found:
        awake[one.node] += one.seconds * (one.account != SLEEP)
    asleep = {one.node: one.seconds for one in found if one.account == SLEEP and one.round == 3}
    assert awake[2] > 10 * awake[0]
    assert asleep[0] > asleep[2] == 0
    table = printed(*summary(store, run, None))
    assert "host" in table
    assert "not counted" in table
    assert "stm32l476, lora7" in table
    assert "Not counted, so not summed" not in table


def test_a_node_is_late_by_what_its_group_is_priced_for(experiment: MakeExperiment, tmp_path: Path):
    mixed = experiment(
        "rounds=3", "participation.deadline=0.5",
        fleet("{backend='qemu', count=2}", "{backend='qemu', count=2, radio='lora7'}"),
    )  # fmt: skip
    store, run = execute(mixed, tmp_path)
    rows = store.node_rounds(run.id)
    assert len(rows) == 12
    assert [row.late for row in rows] == [row.node >= 2 for row in rows]


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ("{count=3, groups=[{count=2}]}", "nodes.count: 3, but the groups have 2; leave it out"),
        ("{backend='host', groups=[{}]}", "nodes.backend: each group has its own; give it there"),
        (
            "{groups=[{backend='host', link='uart'}]}",
            "nodes.groups.0.link: host nodes have no choice",
        ),
        ("{groups=[{}, {firmware='bare', board='nrf52840dk'}]}", "nodes.groups.1.board: bare firm"),
        ("{groups=[{count=2}], per_round=3}", "nodes.per_round: 3 nodes take part but nodes.count"),
        ("{groups=[{count=0}]}", "nodes.groups.0.count: 0 is not allowed"),
        ("{groups=[{backend='host'}], emulate=1}", "nodes.emulate: a fleet has emulated nodes"),
        (
            "{groups=[{backend='host'}], engine='ray', address='local'}",
            "nodes.engine: ray has nodes of one kind at work",
        ),
        ("{groups=[{device='z80'}]}", "nodes.groups.0.device: .z80. is not allowed"),
    ],
)
def test_what_is_no_fleet(experiment: MakeExperiment, nodes: str, message: str):
    with pytest.raises(TinyMetaFedError, match=message):
        experiment(f"nodes={nodes}")
