import re
from collections import defaultdict

import hypothesis.strategies as st
import pytest
from hypothesis import given

from tinymetafed.energy import power
from tinymetafed.energy.ledger import ASLEEP, RECEIVE, SLEEP, TRANSMIT, WAKE_UP, Work, balance, book
from tinymetafed.places import PROJECT

NRF52840, BLE1M = power.device("nrf52840"), power.radio("ble1m")
DEVICES = [power.device(path.stem) for path in power.FOLDER.glob("*.toml")]
RADIOS = [power.radio(path.stem) for path in (power.FOLDER / "radios").glob("*.toml")]


def alike(
    device: power.Device, radio: power.BitRadio | power.LoRaRadio, count: int
) -> dict[int, tuple[power.Device, power.BitRadio | power.LoRaRadio]]:
    """Nodes that are all priced for the same."""
    return dict.fromkeys(range(count), (device, radio))


figures = st.tuples(*[st.integers(0, 10**8)] * 3).map(lambda three: tuple(sorted(three)))
works = st.builds(
    Work,
    st.integers(1, 3),
    st.integers(0, 3),
    st.dictionaries(st.sampled_from(["receive", "learn", "select", ASLEEP]), figures),
    st.lists(st.integers(0, 10**5), max_size=4).map(tuple),
    st.lists(st.integers(0, 10**5), max_size=4).map(tuple),
)
rounds = st.lists(works, unique_by=lambda work: (work.round, work.node))


def test_the_worked_example_of_the_documentation():
    """docs/energy.md does the arithmetic by hand; the ledger does the same."""
    text = (PROJECT / "docs/energy.md").read_text()
    found = re.search(r"= ([\d,]+) cycles a step", text)
    assert found is not None
    cycles = int(found[1].replace(",", ""))
    # 64 MHz, 3.0 V, 3.3 mA, and 3% more cycles from flash: by hand.
    microseconds = cycles * 1.03 / 64
    microjoules = microseconds * 3.0 * 3.3e-3
    assert f"{microseconds:,.0f} µs" in text
    assert f"{microjoules:.2f} µJ" in text
    (learn,) = (
        entry
        for entry in book(
            [Work(1, 0, {"learn": (cycles, cycles, cycles)}, (), ())], alike(NRF52840, BLE1M, 1)
        )
        if entry.account == "learn"
    )
    assert learn.seconds * 1e6 == pytest.approx(microseconds, rel=1e-12)
    assert learn.joules * 1e6 == pytest.approx(microjoules, rel=1e-12)


def test_bytes_by_hand():
    """1,000 bytes up by BLE 1M: four packets of 244 bytes and one of 24."""
    entries = {e.account: e for e in book([Work(1, 0, {}, (), (1000,))], alike(NRF52840, BLE1M, 1))}
    on_air = (4 * 265 + 45) * 8e-6
    gaps, acknowledgements = 5 * 300e-6, 5 * 80e-6
    joules = 3.0 * (6.40e-3 * on_air + 6.26e-3 * (gaps + acknowledgements))
    assert entries[TRANSMIT].seconds == pytest.approx(on_air + gaps + acknowledgements, rel=1e-12)
    assert entries[TRANSMIT].joules == pytest.approx(joules, rel=1e-12)
    assert entries[RECEIVE].joules == 0


def test_a_node_wakes_for_each_packet_that_it_gets():
    entries = {e.account: e for e in book([Work(1, 0, {}, (245,), ())], alike(NRF52840, BLE1M, 1))}
    assert entries[WAKE_UP].seconds == pytest.approx(2 * 3e-6)


def test_a_frame_begins_with_a_packet_of_its_own():
    """Five requests in one frame of 60 bytes take one packet, in frames of their own five."""

    def joules(*frames: int) -> float:
        return balance(book([Work(1, 0, {}, frames, ())], alike(NRF52840, BLE1M, 1))).joules

    packet = 21 * 8e-6 * 6.26e-3 + 80e-6 * 6.40e-3 + 300e-6 * 6.26e-3  # without its payload
    wake_up = 3e-6 * 3.0 * 3.3e-3
    assert joules(*[12] * 5) - joules(60) == pytest.approx(4 * (3.0 * packet + wake_up), rel=1e-6)


@given(rounds, st.sampled_from(DEVICES), st.sampled_from(RADIOS), st.floats(0, 1000))
def test_every_node_s_round_is_as_long(
    work: list[Work], device: power.Device, radio: power.BitRadio, interval: float
):
    entries = book(work, alike(device, radio, 4), interval)
    lengths: dict[tuple[int, int], float] = defaultdict(float)
    for entry in entries:
        assert entry.seconds >= -1e-9
        assert 0 <= entry.low <= entry.joules * (1 + 1e-12) <= entry.high * (1 + 1e-12) + 1e-18
        lengths[entry.round, entry.node] += entry.seconds
    for number in {one.round for one in work}:
        longest = max(lengths[number, node] for node in range(4))
        assert longest >= interval * (1 - 1e-9)
        for node in range(4):
            assert lengths[number, node] == pytest.approx(longest, rel=1e-9, abs=1e-12)


@given(rounds)
def test_the_sum_is_that_of_the_rounds(work: list[Work]):
    whole = balance(book(work, alike(NRF52840, BLE1M, 4)))
    parts = [
        balance(book([one for one in work if one.round == number], alike(NRF52840, BLE1M, 4)))
        for number in (1, 2, 3)
    ]
    assert whole.joules == pytest.approx(sum(part.joules for part in parts), rel=1e-9, abs=1e-15)
    assert whole.seconds == pytest.approx(sum(part.seconds for part in parts), rel=1e-9, abs=1e-12)


def test_what_was_not_counted_is_not_guessed():
    """Neither the node's phases, nor how long the round was, so nobody's sleep."""
    learn = {"learn": (1, 2, 3), ASLEEP: (9, 9, 9)}
    work = [Work(1, 0, None, (100,), ()), Work(1, 1, learn, (), ())]
    accounts = {(e.node, e.account) for e in book(work, alike(NRF52840, BLE1M, 2))}
    assert not {name for _, name in accounts} & {SLEEP, ASLEEP}
    assert {name for node, name in accounts if node == 0} == {RECEIVE, TRANSMIT, WAKE_UP}
    assert (1, "learn") in accounts
