"""The energy account of the nodes: phases and bytes in, joules out.

A node computes, or sends, or receives, one after the other; in what is left of a round it sleeps. A
round lasts until the slowest of its nodes has done all that, or the interval given. While the radio
is on, the processor sleeps, and the radio's currents are those of the whole device (see the files'
sources).
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from .power import BitRadio, Device, LoRaRadio

TRANSMIT, RECEIVE, WAKE_UP, SLEEP = "radio transmit", "radio receive", "wake-up", "sleep"

ASLEEP = "idle"
"""The phase in which the node has nothing to do. What it executes then, it does because bytes wake
it one by one; it is priced as sleep."""


@dataclass(frozen=True)
class Work:
    """What one node did in one round.

    cycles: by phase, (shortest, expected, longest); None where they were not counted.
    frames_down, frames_up: bytes of each frame to and from the node, on its link. A frame is sent
    when it is there, so that it begins with a packet of its own.
    """

    round: int
    node: int
    cycles: dict[str, tuple[int, int, int]] | None
    frames_down: Sequence[int]
    frames_up: Sequence[int]


@dataclass(frozen=True)
class Entry:
    """A row of the ledger: one account of one node in one round.

    account: a phase, or one of those above. seconds: on the device. joules: expected; low and high
    are by the shortest and the longest reading of the core's manual.
    """

    round: int
    node: int
    account: str
    seconds: float
    joules: float
    low: float
    high: float


def book(
    work: Iterable[Work],
    nodes: Mapping[int, tuple[Device, BitRadio | LoRaRadio]],
    interval: float = 0.0,
    away: Callable[[int], Collection[int]] = lambda _: (),
) -> list[Entry]:
    """The ledger, rounds ascending.

    nodes: what each is priced for, by its index. interval: seconds between the starts of two
    rounds, at least. A round in which a node was not counted has no sleep, since how long it lasted
    is not known; that node has its radio only.
    away: of a round, the nodes that were not there, and did not sleep either.
    """
    rounds: dict[int, list[Work]] = defaultdict(list)
    for one in work:
        rounds[one.round].append(one)
    entries: list[Entry] = []
    for number, works in sorted(rounds.items()):
        booked = {one.node: awake(one, *nodes[one.node]) for one in works}
        busy = {node: sum(entry.seconds for entry in rows) for node, rows in booked.items()}
        known = all(one.cycles is not None for one in works)
        lasts = max(interval, *busy.values())
        absent = away(number)
        for node, (device, _) in sorted(nodes.items()):
            entries += booked.get(node, [])
            if known and node not in absent:
                seconds = lasts - busy.get(node, 0.0)
                entries.append(_entry(number, node, SLEEP, seconds, device.sleep_power))
    return entries


def awake(work: Work, device: Device, radio: BitRadio | LoRaRadio) -> list[Entry]:
    """What a node does in a round, without its sleep."""
    entries: list[Entry] = []
    for phase, cycles in sorted((work.cycles or {}).items()):
        if phase != ASLEEP and cycles[1]:
            low, seconds, high = (device.seconds(one) for one in cycles)
            power = device.run_power
            joules = (seconds * power, low * power, high * power)
            entries.append(Entry(work.round, work.node, phase, seconds, *joules))
    wake_ups = 0
    for account, frames in ((RECEIVE, work.frames_down), (TRANSMIT, work.frames_up)):
        packets = [packet for size in frames for packet in radio.packets(size)]
        data = sum(n * radio.air_time(payload) for n, payload in packets)
        count = sum(n for n, _ in packets)
        gaps, acknowledgements = count * radio.gap, count * radio.acknowledgement
        powers = [radio.receive_power, radio.transmit_power]
        if account == TRANSMIT:
            powers.reverse()
        joules = data * powers[0] + acknowledgements * powers[1] + gaps * radio.receive_power
        seconds = data + gaps + acknowledgements
        entries.append(Entry(work.round, work.node, account, seconds, joules, joules, joules))
        if account == RECEIVE:
            wake_ups = count
    seconds = wake_ups * device.wake_up_us.value * 1e-6
    entries.append(_entry(work.round, work.node, WAKE_UP, seconds, device.run_power))
    return entries


def _entry(number: int, node: int, account: str, seconds: float, power: float) -> Entry:
    joules = seconds * power
    return Entry(number, node, account, seconds, joules, joules, joules)


@dataclass(frozen=True)
class Balance:
    """Entries added up."""

    seconds: float
    joules: float
    low: float
    high: float


def balance(entries: Sequence[Entry]) -> Balance:
    """Their sum."""
    return Balance(
        *(sum(getattr(one, key) for one in entries) for key in ("seconds", "joules", "low", "high"))
    )
