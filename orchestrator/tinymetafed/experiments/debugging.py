"""One node of one round under a debugger, all others and the rounds before on the host."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from ..errors import TinyMetaFedError
from ..federation.client import Client
from ..federation.engines import make_engine
from ..federation.federation import Federation
from ..federation.settings import Faults
from ..nodes.backends import private_directory
from ..nodes.debugged import DebuggedNode
from ..nodes.host import open_host
from ..nodes.node import Node
from ..signals import ending, handlers_restored
from .emulated_rounds import EmulatedSample
from .experiment import Experiment


def debug(
    experiment: Experiment,
    node: int,
    number: int | None,
    say: Callable[[str], None],
    *,
    monitor: bool = False,
) -> None:
    """Brings a node to the weights of round `number`, the first that it is in where not given, and
    waits until GDB has let it play the round. It has to come to the host's weights.

    A node on QEMU stands for a host node or a board. There is no noise on links. monitor: Renode's,
    on the terminal. SIGINT, SIGTERM and SIGHUP end it: KeyboardInterrupt. Raises TinyMetaFedError.
    """
    if node >= (count := experiment.nodes.count):
        raise TinyMetaFedError(f"--node: {node}, but nodes.count is {count}")
    backend = experiment.nodes.kind(node).backend
    if number is not None and number > experiment.rounds:
        raise TinyMetaFedError(f"--round: {number}, but rounds is {experiment.rounds}")
    if monitor and backend != "renode":
        raise TinyMetaFedError(f"--monitor: nodes.backend is {backend}; it is for renode alone")
    if experiment.participation.deadline is not None and number != 1:
        raise TinyMetaFedError(
            "participation.deadline: host nodes play the rounds before, and nobody knows who was "
            "late in them; use --round 1 or leave the deadline out"
        )
    try:
        with handlers_restored():
            asyncio.run(_debug(experiment, node, number, say, monitor))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


async def _debug(
    experiment: Experiment, node: int, number: int | None, say: Callable[[str], None], monitor: bool
) -> None:
    task = asyncio.current_task()
    assert task is not None
    for one in ending():
        asyncio.get_running_loop().add_signal_handler(one, task.cancel)
    settings = experiment.nodes
    kind = settings.kind(node)
    emulated = kind if kind.emulated else kind.on_qemu
    on_host = {
        "backend": "host", "options": None, "engine": "local", "emulate": 0, "groups": (),
        "measure": False,
    }  # fmt: skip
    played = settings.model_copy(update=on_host)
    experiment = experiment.model_copy(update={"nodes": played, "faults": Faults()})
    with private_directory(short=True) as directory:
        debugged = DebuggedNode(emulated, directory, f"node-{node}")
        nodes = [Node(f"node-{i}", open_host) for i in range(settings.count)]
        nodes[node] = debugged.node
        federation = Federation(experiment, make_engine(experiment, directory))
        try:
            state = await federation.start()
            before, result, last = state, None, {}
            while state.done < (number or experiment.rounds):
                if result is not None:
                    last |= {row.node: (state.done, row.sequence) for row in result.rows}
                before, result = state, await federation.round(state)
                state = result.state
                if number is None and node in {row.node for row in result.rows}:
                    break
            assert result is not None
            device = next((row.device for row in result.rows if row.node == node), None)
            if device is None:
                raise TinyMetaFedError(
                    f"node-{node} is in no round until round {state.done}"
                    if number is None
                    else f"node-{node} takes no part in round {number}; leave --round out for the "
                    "first that it is in"
                )
            what = f"Round {state.done} of {experiment.name}: node-{node} plays device {device}."
            sample = EmulatedSample(
                experiment, nodes, [state.done], Client(experiment, restarts=0),
                lambda: _under_gdb(debugged, what, say, monitor),
            )  # fmt: skip
            sample.last = last
            try:
                await sample.follow(before, result)
            finally:
                await sample.close()
            say(f"Round {state.done} has ended in the host's weights, bit for bit.")
        finally:
            await federation.close()


@asynccontextmanager
async def _under_gdb(
    debugged: DebuggedNode, what: str, say: Callable[[str], None], monitor: bool
) -> AsyncIterator[None]:
    command = await debugged.halt()
    say(f"{what} It has the weights of the rounds before, and waits for GDB:\n\n  {command}\n")
    say("There: 'break tmf_train', 'continue'. Ctrl-C here ends both.")
    if not monitor:
        yield
        return
    say("Below is Renode's monitor.")
    talking = asyncio.create_task(debugged.talk())
    try:
        yield
        say("The round is done. The emulation stays open until 'quit' or Ctrl-C.")
        await talking
    finally:
        talking.cancel()
        with suppress(asyncio.CancelledError):
            await talking
