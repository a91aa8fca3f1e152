"""When the words of instructions are there to be decoded: the core's fetch unit.

Cycles are counted from the one in which the first instruction could execute if it lies in one word.
"""

PIPELINE = 3
"""Cycles from asking for a word until what it holds executes: asked for, read, decoded."""

WORD = 4  # bytes


class FetchUnit:
    """The words of a piece of code from its first instruction on, which is branched to.

    One word is asked for in a cycle, while there is room for it in the queue. A word leaves the
    queue when the last instruction that is in it has been decoded.
    """

    def __init__(self, first: int, words: int, restart: int) -> None:
        """first: the address of the first instruction. words, restart: see cortex-m4.toml."""
        self._base = first - first % WORD
        self._words = words
        self._restart = restart
        self._asked = [-PIPELINE]  # by word, the cycle
        self._left: list[int] = []  # by word, the cycle of decoding in which it left the queue
        self._elsewhere: set[int] = set()  # cycles in which the bus had another address
        self._begun = 0  # when the last instruction began to execute
        self._held: set[int] = set()  # cycles until which one of several held up the decoding

    def ready(self, address: int, size: int) -> int:
        """The first cycle in which the instruction there can execute. Instructions are asked for
        in their order, each once those before it were executed."""
        last = (address + size - 1 - self._base) // WORD
        while len(self._asked) <= last:
            self._ask()
        return self._asked[last] + PIPELINE

    def _ask(self) -> None:
        cycle = self._asked[-1] + 1
        full = len(self._asked) - self._words  # the word that has to leave first
        if full >= 0 and (left := self._left[full]) > cycle:
            held = any(cycle <= one <= left for one in self._held)
            cycle = left + (self._restart if held else 0)
        while cycle in self._elsewhere:
            cycle += 1
        self._asked.append(cycle)

    def executed(self, address: int, size: int, cycle: int) -> None:
        """The instruction there began to execute in `cycle`."""
        if cycle > self._begun + 1:
            self._held.add(cycle - 1)
        self._begun = cycle
        done = (address + size - self._base) // WORD
        self._left += [cycle - 1] * (done - len(self._left))

    def speculated(self, cycle: int) -> None:
        """A conditional branch began to execute in `cycle`: it was fetched for when decoded."""
        self._elsewhere.add(cycle - 1)
