"""A fleet of several kinds of nodes comes to what nodes of one kind come to."""

from pathlib import Path

import pytest

from conftest import MakeExperiment
from running import STRATEGIES, came_to, execute, in_pieces, weights
from tinymetafed.errors import TinyMetaFedError

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


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ("{count=3, groups=[{count=2}]}", "nodes.count: 3, but the groups have 2; leave it out"),
        ("{backend='host', groups=[{}]}", "nodes.backend: each group has its own; give it there"),
        ("{groups=[{backend='host', link='uart'}]}", "nodes.groups.0.link: host nodes have none"),
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
