"""What an experiment will take and cost, before it runs: what it takes and costs when it does."""

import itertools
import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from conftest import MakeExperiment
from predicting import predict
from printing import printed
from running import execute
from tinymetafed.energy import power
from tinymetafed.energy.ledger import balance
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.experiments import plan
from tinymetafed.experiments.experiment import read
from tinymetafed.models.layers import Shape
from tinymetafed.models.model import Model, ModelSettings
from tinymetafed.places import MPS2_IMAGE, PROJECT
from tinymetafed.report import plan as tables
from tinymetafed.results import accounts
from tinymetafed.results.store import NodeRound

COMPUTING = ("reconstruct", "learn", "select")  # the link's bytes come in other portions each time

IMAGES = (
    "task={name='omniglot', ways=3}", "evaluation={support=3, query=3}",
    "strategy={name='tinymetafed', support=3, query=3}",
    "model={loss='softmax_cross_entropy', layers=[{type='conv2d', filters=4, stride=2, "
    "activation='relu', local=true}, {type='max_pool2d'}, {units=3}]}",
)  # fmt: skip


def test_layers_have_their_shapes_parameters_and_bytes(experiment: MakeExperiment):
    found = list(plan.layers(experiment(*IMAGES)))
    assert [(one.name, *one.shape, one.parameters, one.part) for one in found] == [
        ("input", 14, 14, 1, 0, None),
        ("conv2d, relu", 6, 6, 4, 4 * 10, "local"),
        ("max_pool2d", 3, 3, 4, 0, None),
        ("dense", 1, 1, 3, 3 * 37, "global"),
    ]
    assert [one.outputs for one in found] == [4 * 196, 4 * 144, 4 * 36, 4 * 3]


@pytest.mark.parametrize("name", ["demo", "reptile", "omniglot", "digits", "iris"])
def test_a_model_s_parts_are_what_the_node_needs(name: str):
    experiment = read(PROJECT / f"experiments/{name}.toml")
    memory = plan.memory(experiment)
    model, strategy = experiment.built_model, experiment.strategy
    assert memory.parts["held"] == memory.parts["working"] == 4 * model.parameters
    assert memory.parts["gradient"] == (
        4 * model.parameters if getattr(strategy, "batch", 1) > 1 else 0
    )
    outputs = [layer.outputs for layer in plan.layers(experiment)]
    assert memory.parts["activations"] == sum(outputs)
    assert 0 < memory.parts["backward"] <= max(outputs)
    assert sum(layer.parameters for layer in plan.layers(experiment)) == model.parameters
    assert memory.fits


def test_a_run_s_nodes_take_as_much_memory(tmp_path: Path, experiment: MakeExperiment):
    settings = experiment("strategy={name='reptile', query=6, batch=3}", rounds=1)
    memory = plan.memory(settings)
    assert memory.parts["store"] == 6 * 8  # samples of 2 values; 6 to learn, 5 to be judged
    _, run = execute(settings, tmp_path)
    assert run.memory == memory.needed


def test_an_image_s_flash_and_ram_are_its_sections():
    command = ["arm-none-eabi-size", "-A", str(MPS2_IMAGE)]
    rows = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    size = {name: int(n) for name, n, *_ in map(str.split, rows[2:-2])}
    flash, ram = plan.footprint(MPS2_IMAGE)
    stored = sum(
        size.get(name, 0) for name in (".text", ".ARM.exidx", ".note.gnu.build-id", ".data")
    )
    assert stored <= flash <= stored + 256  # with what aligns them
    assert ram == size[".stack"] + size[".data"] + size[".bss"]


def test_a_block_has_to_fit_into_one_bank():
    device, kib = power.device("stm32l476"), 1024
    assert device.ram_kib.value == (96, 32)
    assert device.missing(1024 * kib, 96 * kib, 128 * kib) == {}
    assert device.missing(1024 * kib + 3, 96 * kib + 1, 97 * kib) == {"flash": 3, "RAM": 1}
    assert device.missing(0, 50 * kib, 128 * kib + 2) == {"RAM": 2}


# ---- a round -------------------------------------------------------------------------------------


STRATEGIES = ["strategy.percent=20", "strategy={name='reptile', query=6, batch=3, epochs=2}"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_node_alone_executes_what_it_does_in_a_run(
    tmp_path: Path, experiment: MakeExperiment, strategy: str
):
    settings = experiment(strategy, "nodes.backend=qemu", "nodes.count=1", rounds=2)
    played = plan.play(settings)
    store, run = execute(settings, tmp_path)
    rows = store.node_rounds(run.id)
    # A run's nodes are sent the weights for being judged too, before the first round.
    assert _traffic(played.first) == _traffic(rows[0])
    assert _traffic(played.later) == _traffic(rows[1])
    assert played.later.counted
    counted = {row.phase: row for row in store.phases(run.id) if row.round == 2}
    found = {row.phase: row for row in played.phases}
    for phase in counted.keys() & COMPUTING:
        assert found[phase].instructions == pytest.approx(counted[phase].instructions, rel=0.01)
        cycles = (row[phase].cycles["cortex-m4"] for row in (found, counted))
        assert next(cycles) == pytest.approx(next(cycles), rel=0.01)
    assert found.keys() >= {"learn", "select", "receive", "send"}


def _traffic(row: NodeRound) -> object:
    return row.bytes_down, row.bytes_up, row.bytes_sensor, json.loads(row.messages)


def test_later_a_node_is_sent_what_the_others_changed(
    tmp_path: Path, experiment: MakeExperiment, monkeypatch: pytest.MonkeyPatch
):
    """Bytes are the host's where there is no emulator."""
    monkeypatch.setattr(plan, "QEMU", "no-such-emulator")
    settings = experiment("nodes.backend=qemu", "strategy.percent=10", rounds=2)
    played = plan.play(settings)
    assert (played.devices, played.phases) == (3, [])
    store, run = execute(experiment("strategy.percent=10", rounds=2), tmp_path)
    _, *others = (row for row in store.node_rounds(run.id) if row.round == 2)
    for row in others:
        assert json.loads(played.later.messages)["weights"] == json.loads(row.messages)["weights"]
    assert played.later.bytes_down < played.first.bytes_down
    text = printed(*tables.after(settings, played, plan.uncounted()))
    assert "no-such-emulator is not installed" in text
    assert "Millijoules" not in text


@pytest.mark.parametrize(("count", "per_round", "devices"), [(5, 2, 6), (100, 3, 9), (1, 1, 1)])
def test_before_its_next_round_every_other_node_has_one(
    experiment: MakeExperiment,
    monkeypatch: pytest.MonkeyPatch,
    count: int,
    per_round: int,
    devices: int,
):
    monkeypatch.setattr(plan, "QEMU", "no-such-emulator")
    settings = experiment(f"nodes={{count={count}, per_round={per_round}}}", rounds=1)
    assert plan.play(settings).devices == devices


def test_the_tables_add_up(experiment: MakeExperiment):
    settings = experiment("nodes.backend=qemu", "energy.radio=lora7", "nodes.count=1")
    memory = plan.memory(settings)
    text = printed(*tables.before(settings, list(plan.layers(settings)), memory))
    assert f"the model and its training │ {memory.needed:,} │ 221,184" in " ".join(text.split())
    played = plan.play(settings)
    text = " ".join(printed(*tables.after(settings, played, None)).split())
    devices = ("nrf52840", "nrf54l15", "stm32f411", "stm32l476")
    assert "Millijoules of a later round, LoRa SF7" in text
    assert re.search(" ┃ ".join(("account", *devices)), text)
    printed_joules = text.partition("Millijoules")[2].partition("│ all │ ")[2].split(" │ ")[:4]
    for device, joules in zip(devices, printed_joules, strict=True):
        priced = settings.energy.model_copy(update={"device": device})
        entries = accounts.book([played.later], played.phases, [(range(1), priced)])
        assert joules == f"{balance(entries).joules * 1e3:,.3f}"
    cycles = [row.cycles["cortex-m4"] for row in played.phases if row.phase != "idle"]
    expected = sum(figures[1] for figures in cycles) / 1e3
    of_the_core = text.partition("Thousands of cycles, cortex-m4")[2]
    assert of_the_core.partition("│ all │ ")[2].split(" │ ")[1] == f"{expected:,.1f}"


def test_a_model_that_does_not_fit_has_its_parts_and_what_is_missing(experiment: MakeExperiment):
    settings = experiment("model.layers=[{units=200}, {units=200}, {units=1}]")
    memory = plan.memory(settings)
    parameters = 400 + 200 * 201 + 201
    assert not memory.fits
    assert memory.needed == 8 * parameters + 4 * (1 + 200 + 200 + 1 + 200)
    text = printed(*tables.before(settings, list(plan.layers(settings)), memory))
    short = memory.needed + memory.ram - 256 * 1024
    assert f"{short:,} bytes of RAM too few" in text
    with pytest.raises(TinyMetaFedError, match="refused 'load': .* bytes needed, 221184 available"):
        plan.play(settings)


def test_an_image_that_was_not_built(experiment: MakeExperiment, monkeypatch: pytest.MonkeyPatch):
    nowhere = Path("nowhere.elf")
    monkeypatch.setattr(plan, "emulated_image", lambda settings: (nowhere, "make firmware"))
    with pytest.raises(TinyMetaFedError, match="nowhere.elf: no firmware image; run 'make firm"):
        plan.memory(experiment())


def test_a_one_dimensional_network_over_windows_of_an_accelerometer():
    """128 moments of three axes: no task brings such data."""
    shape = Shape(1, 128, 3)
    layers: list[dict[str, object]] = [
        {"type": "conv2d", "filters": 16, "size": (1, 9), "stride": (1, 2), "padding": "same"},
        {"type": "max_pool2d", "size": (1, 2), "stride": (1, 2)},
        {"type": "conv2d", "filters": 32, "size": (1, 5), "padding": "same"},
        {"type": "global_average_pool2d"},
        {"units": 6},
    ]
    settings = ModelSettings.model_validate({"shape": shape, "layers": layers})
    assert [*settings.shapes(shape)] == [
        (1, 64, 16), (1, 32, 16), (1, 32, 32), (1, 1, 32), (1, 1, 6),
    ]  # fmt: skip
    model = Model.build(settings, shape.values)
    assert model.parameters == 16 * (27 + 1) + 32 * (80 + 1) + 6 * 33
    inputs = np.zeros((1, shape.values), np.float32)
    assert predict(model, model.initial(1), inputs).shape == (1, 6)


def test_freezing_the_first_layers_takes_less(experiment: MakeExperiment):
    found = plan.freezing(experiment())
    model = experiment().built_model
    assert [one.layers for one in found] == list(range(len(model.parts)))
    assert found[0].memory == plan.memory(experiment()).needed
    for before, after in itertools.pairwise(found):
        assert after.frozen + after.moving == model.parameters
        assert after.frozen > before.frozen
        # Weights are held once where they do not move, not twice.
        assert before.memory - after.memory >= 4 * (after.frozen - before.frozen)
        assert all(0 < after.cycles[core] < n for core, n in before.cycles.items())
