"""Noise on links: which frames it takes, and that nothing but bytes comes of it."""

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import SMALL, MakeExperiment
from printing import printed
from running import STRATEGIES, came_to, execute, in_pieces, play
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.experiments.experiment import parse
from tinymetafed.federation.federation import Federation
from tinymetafed.nodes.noise import Noise
from tinymetafed.nodes.settings import LinkNoise
from tinymetafed.nodes.update import Update
from tinymetafed.report import page, summary
from tinymetafed.report.events import text
from tinymetafed.report.groups import compare
from tinymetafed.report.results import Result
from tinymetafed.results.store import NodeRound
from tinymetafed.strategies import Round, ServerState

FRAMES = [bytes([1 + i % 255]) * (1 + i % 40) + b"\0" for i in range(2000)]
MILD = (
    "{lost_frames=0.1, doubled_frames=0.1, reordered_frames=0.1, flipped_bytes=2e-4, "
    "lost_bytes=2e-4}"
)
KINDS = ("flipped_bytes", "lost_bytes", "lost_frames", "doubled_frames", "reordered_frames")


def _noise(rates: Mapping[str, float], node: int = 0, seed: int = 1, round_: int = 1) -> Noise:
    noise = Noise([LinkNoise.model_validate(rates)], node, seed)
    noise.begin(round_)
    return noise


def _up(noise: Noise, pieces: Iterable[bytes]) -> bytes:
    return b"".join(map(noise.up, pieces))


RATES = st.fixed_dictionaries({kind: st.sampled_from([0.0, 0.01, 0.3]) for kind in KINDS})


@settings(max_examples=50)
@given(RATES, st.lists(st.integers(0, 3000), max_size=8))
def test_what_becomes_of_a_frame_does_not_depend_on_how_it_comes(
    rates: dict[str, float], cuts: list[int]
):
    data = b"".join(FRAMES[:150])
    edges = [0, *sorted(cuts), len(data)]
    pieces = [data[a:b] for a, b in itertools.pairwise(edges)]
    assert _up(_noise(rates), pieces) == _up(_noise(rates), FRAMES[:150])


def test_noise_differs_by_seed_node_direction_and_round_alone():
    data = b"".join(FRAMES)
    rates = {"lost_frames": 0.3, "flipped_bytes": 0.01}
    found = {
        _up(_noise(rates), [data]),
        _up(_noise(rates, seed=2), [data]),
        _up(_noise(rates, node=1), [data]),
        _up(_noise(rates, round_=2), [data]),
        b"".join(piece for frame in FRAMES for piece in _noise_down(frame)),
    }
    assert len(found) == 5
    assert _up(_noise(rates), [data]) in found


_DOWN = _noise({"lost_frames": 0.3, "flipped_bytes": 0.01})


def _noise_down(frame: bytes) -> list[bytes]:
    return _DOWN.down(frame)


@pytest.mark.parametrize("kind", ["lost_frames", "doubled_frames", "reordered_frames"])
def test_frames_are_taken_as_often_as_the_rate_has_it(kind: str):
    """Binomial; within five standard deviations."""
    noise = _noise({kind: 0.2})
    arrived = [frame + b"\0" for frame in _up(noise, FRAMES).split(b"\0")[:-1]]
    n, p = len(FRAMES), 0.2
    assert abs(noise.spoiled - n * p) < 5 * np.sqrt(n * p * (1 - p))
    more = {"lost_frames": -noise.spoiled, "doubled_frames": noise.spoiled}.get(kind, 0)
    assert abs(len(arrived) - n - more) <= 1  # one may be held back at the end
    same_order = {"lost_frames": [f for f in FRAMES if f in arrived], "doubled_frames": FRAMES}
    if kind == "reordered_frames":
        assert sorted(arrived) == sorted(FRAMES[: len(arrived)])
        assert arrived != FRAMES
    elif kind == "doubled_frames":
        assert [f for i, f in enumerate(arrived) if i == 0 or f != arrived[i - 1]] == FRAMES
    else:
        assert set(arrived) <= set(same_order[kind])


@pytest.mark.parametrize("kind", ["flipped_bytes", "lost_bytes"])
def test_bytes_are_spoiled_as_often_as_the_rate_has_it(kind: str):
    """Binomial; within five standard deviations."""
    frame = b"\xff" * 60_000 + b"\0"
    n, p = len(frame), 0.01
    spoilt = _noise({kind: p}).up(frame)
    taken = n - len(spoilt) if kind == "lost_bytes" else np.count_nonzero(_bytes(spoilt) != 255) - 1
    assert abs(taken - n * p) < 5 * np.sqrt(n * p * (1 - p))
    if kind == "flipped_bytes":
        assert len(spoilt) == n
        changes = np.bincount(_bytes(spoilt)[:-1] ^ 255, minlength=129)
        assert set(np.flatnonzero(changes)) == {0, *(1 << bit for bit in range(8))}
        assert changes[1:].max() < 2 * n * p / 8  # each bit is as likely


def _bytes(data: bytes) -> np.ndarray:
    return np.frombuffer(data, np.uint8)


def test_only_its_repetition_overtakes_a_frame_to_a_node():
    always = _noise({"reordered_frames": 1.0})
    assert always.down(b"a\0") == []
    assert not always.heard
    assert always.down(b"b\0") == []  # the exchange has gone on: the first is lost
    noise = _noise({"reordered_frames": 0.5})
    for _ in range(50):
        while noise.down(b"a\0"):
            pass
        while not (arrived := noise.down(b"a\0")):
            pass
        assert arrived == [b"a\0", b"a\0"]
        assert noise.heard


def test_a_frame_whose_end_is_lost_swallows_the_next():
    noise, frame = _noise({"lost_bytes": 0.3}), b"a\0"
    cut, heard = False, 0
    for _ in range(200):
        arrived = noise.down(frame)
        assert noise.heard == (arrived == [frame] and not cut)
        heard += noise.heard
        if arrived:
            cut = not arrived[-1].endswith(b"\0")
    assert 20 < heard < 200


def test_there_is_noise_in_rounds_alone():
    noise = _noise({"lost_frames": 1.0})
    assert noise.down(b"a\0") == []
    assert noise.up(b"a\0") == b""
    noise.begin(None)
    assert (noise.down(b"a\0"), noise.heard, noise.up(b"a\0b")) == ([b"a\0"], True, b"a\0b")
    assert noise.spoiled == 2


@settings(max_examples=25)
@given(
    st.sampled_from(["tinymetafed", "feedback-int8", "scaffold", "fedavg"]),
    st.integers(0, 2**32),
    st.fixed_dictionaries({
        "flipped_bytes": st.floats(0, 3e-4), "lost_bytes": st.floats(0, 3e-4),
        "lost_frames": st.floats(0, 0.15), "doubled_frames": st.floats(0, 0.3),
        "reordered_frames": st.floats(0, 0.15),
    }),
    st.sampled_from(["both", "down", "up"]),
)  # fmt: skip
def test_whatever_the_noise_the_weights_are_those_of_an_undisturbed_run(
    strategy: str, seed: int, rates: dict[str, float], direction: str
):
    changes = (*STRATEGIES[strategy], f"seed={seed}")
    noise = json.dumps({**rates, "direction": direction}).replace(":", "=")
    disturbed = parse(SMALL, "SMALL", (*changes, f"faults.links=[{noise}]"))
    quiet = play(parse(SMALL, "SMALL", changes), 2)
    noisy = play(disturbed, 2)
    assert [one.theta.tobytes() for one in noisy] == [one.theta.tobytes() for one in quiet]
    assert [{k: v.tobytes() for k, v in one.kept.items()} for one in noisy] == [
        {k: v.tobytes() for k, v in one.kept.items()} for one in quiet
    ]


def test_a_frame_that_is_lost_is_counted_and_so_is_its_repetition(
    experiment: MakeExperiment, tmp_path: Path
):
    """Each attempt is a frame down; what a node sends counts whether it arrives or not."""

    def rows(name: str, *changes: str) -> list[NodeRound]:
        store, run = execute(experiment(*changes, "rounds=30"), tmp_path / name)
        return store.node_rounds(run.id)

    quiet = rows("quiet")
    for direction in ("down", "up"):
        noise = f"[{{lost_frames=0.2, direction={direction!r}, nodes=[1]}}]"
        noisy = rows(direction, f"faults.links={noise}")
        for before, after in zip(quiet, noisy, strict=True):
            (down, up), (down_now, up_now) = json.loads(before.frames), json.loads(after.frames)
            if before.node != 1:
                assert after == before
            assert sum(down_now) == after.bytes_down
            assert sum(up_now) == after.bytes_up
            again = len(down_now) - len(down)
            assert down_now[-again:] == down[-1:] * again if again else down_now == down
            assert len(up_now) - len(up) == (again if direction == "up" else 0)
        assert sum(row.bytes_down for row in noisy) > sum(row.bytes_down for row in quiet)


@pytest.mark.parametrize("link", ["dma", "uart"])
def test_noise_on_qemu_is_the_noise_on_the_host(
    experiment: MakeExperiment, tmp_path: Path, link: str
):
    changes = (f"faults.links=[{MILD}]", "rounds=6")
    store, run = execute(experiment(*changes), tmp_path / "host")
    emulated = experiment(*changes, f"nodes={{backend='qemu', count=3, link={link!r}}}")
    other, found = execute(emulated, tmp_path / "qemu")
    assert found.theta == run.theta
    rows = [{**vars(row), "counted": None} for row in store.node_rounds(1)]
    assert [{**vars(row), "counted": None} for row in other.node_rounds(1)] == rows


def test_a_disturbed_run_that_goes_on_finds_the_noise_as_it_would_be(
    experiment: MakeExperiment, tmp_path: Path
):
    settings_ = experiment(
        f"faults.links=[{MILD}]", "participation={leave=0.3, join=0.5}", "rounds=9"
    )
    whole = came_to(*execute(settings_, tmp_path / "whole"))
    assert came_to(*in_pieces(settings_, tmp_path / "pieces", [2, 3, 7])) == whole


HOPELESS = "faults.links=[{lost_frames=0.58, nodes=[2]}]"
"""Some rounds come through."""


@pytest.mark.parametrize("strategy", ["tinymetafed", "feedback-int8", "scaffold"])
def test_a_node_whose_link_is_too_noisy_is_left_out_of_the_round(
    experiment: MakeExperiment, tmp_path: Path, strategy: str, caplog: pytest.LogCaptureFixture
):
    """Round by round the others come to what they would without it, and so does a run that goes
    on."""
    settings_ = experiment(*STRATEGIES[strategy], HOPELESS, "rounds=12", "nodes.per_round=3")
    store, run = execute(settings_, tmp_path / "whole")
    events = store.events(run.id, "left out")
    without = {one.round for one in events if one.round is not None}
    assert 0 < len(without) < 12
    for one in events:
        assert text(one).startswith("of the round: node-2 did not answer '")
        assert text(one).endswith("there is noise on its link (faults.links)")
    rows = store.node_rounds(run.id)
    assert len(rows) == 36  # its bytes count
    assert all(row.bytes_down for row in rows)
    assert not any(row.diverged for row in rows)
    first, last = min(without), max(without)
    assert f"round {first}: node-2 is left out: its link is too noisy" in caplog.text
    shown = printed(*summary.summary(store, run, None))
    count = f"Links were too noisy, and nodes left out, in {len(without)} of 36 rounds of a node"
    assert count in shown
    found = page.page(compare([Result.read(store, run)]))
    assert f"left out: {len(without)} in 1 of 1 runs" in page.render(found)

    pieces = sorted({first, first + 1, last} - {12})
    assert came_to(*in_pieces(settings_, tmp_path / "pieces", pieces)) == came_to(store, run)


def test_a_round_without_a_node_is_the_round_of_the_others(
    experiment: MakeExperiment, monkeypatch: pytest.MonkeyPatch
):
    """A link that carries nothing: the updates of the others come to the server as they are."""
    came: list[list[tuple[int, bytes, bytes]]] = []
    aggregate = Federation._aggregate

    def note(
        self: Federation, state: ServerState, updates: Sequence[Update], at: Round
    ) -> ServerState:
        came.append([(u.device, u.indices.tobytes(), u.values.tobytes()) for u in updates])
        return aggregate(self, state, updates, at)

    monkeypatch.setattr(Federation, "_aggregate", note)
    changes = ("strategy={name='fedavg', query=6, batch=3}",)
    play(experiment(*changes), 1)
    play(experiment(*changes, "faults.links=[{lost_frames=1, nodes=[2]}]"), 1)
    play(experiment(*changes, "faults.links=[{lost_frames=1}]"), 1)
    whole, without = came  # where none comes, there is nothing to aggregate
    assert len(whole) == 3
    assert without == whole[:2]


@pytest.mark.parametrize(
    ("faults", "says"),
    [
        ("[{nodes=[3]}]", "faults.links.0.nodes: 3, but nodes.count is 3"),
        ("[{nodes=[0, 1]}, {nodes=[1], direction='up'}]", "faults.links.1.nodes: faults.links.0"),
        ("[{lost_frames=0.6, doubled_frames=0.5}]", "faults.links.0.lost_frames: lost_frames"),
        ("[{lost_frames=2}]", "faults.links.0.lost_frames: 2 is not allowed"),
        ("[{direction='left'}]", "faults.links.0.direction: 'left' is not allowed; use"),
        ("[{nodes=[]}]", "faults.links.0.nodes: [] is not allowed"),
        ("[{frames=1}]", "faults.links.0.frames: unknown key; known are: nodes, direction"),
    ],
)  # fmt: skip
def test_noise_that_cannot_be(experiment: MakeExperiment, faults: str, says: str):
    with pytest.raises(TinyMetaFedError) as caught:
        experiment(f"faults.links={faults}")
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            "nodes={backend='host', count=3, engine='ray', address='local'}",
            "nodes on ray have no",
        ),
        ("nodes={backend='host', count=3, emulate=1}", "leave nodes.emulate out"),
    ],
)
def test_noise_where_there_are_no_links(experiment: MakeExperiment, change: str, says: str):
    with pytest.raises(TinyMetaFedError, match=says):
        experiment("faults.links=[{lost_frames=0.1}]", change)
