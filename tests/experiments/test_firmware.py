"""Images with frozen weights in their flash: the same bits, fewer bytes on the link, less RAM."""

import asyncio
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tinymetafed.errors import TinyMetaFedError
from tinymetafed.experiments import experiment, firmware, plan
from tinymetafed.experiments.experiment import Experiment
from tinymetafed.models.model import FirstWeights, Model
from tinymetafed.nodes.backends import make_nodes, private_directory
from tinymetafed.nodes.broadcast import Broadcast
from tinymetafed.nodes.image import frozen_weights
from tinymetafed.nodes.program import Train
from tinymetafed.nodes.settings import NodeSettings
from tinymetafed.places import MPS2_IMAGE
from tinymetafed.tasks.samples import Samples

RNG = np.random.default_rng(15)
BACKBONE = RNG.uniform(-1, 1, 40).astype(np.float32)
EXPERIMENT = """
name = "flash"
rounds = 2
[nodes]
count = 1
[devices]
seen = 20
[task]
name = "sine"
[strategy]
name = "tinymetafed"
[evaluation]
devices = 2
[model]
layers = [{units = 20, activation = "tanh", frozen = true}, {units = 1, local = true}, {units = 1}]
"""


@pytest.fixture(scope="module")
def settings() -> Experiment:
    tree = EXPERIMENT.replace(", frozen = true", "")
    text = experiment.parse(tree, "flash.toml", (), Path())
    first, *rest = text.model.layers
    layers = (first.model_copy(update={"frozen": True}), *rest)
    model = text.model.model_copy(update={"layers": layers})
    model = model.starting_with(FirstWeights(backbone=BACKBONE.tobytes()))
    return text.model_copy(update={"model": model})


@pytest.fixture(scope="module")
def image(settings: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    image = tmp_path_factory.mktemp("image") / "node.elf"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(firmware, "model_of", lambda source: settings.built_model)
        firmware.build("flash.toml", image, NodeSettings())
    return image


def trained(nodes: NodeSettings, model: Model) -> tuple[bytes, int, int]:
    """Outputs after training, bytes that went to the node before that, bytes of its RAM."""
    rng = np.random.default_rng(3)
    inputs = rng.uniform(-1, 1, (8, 1)).astype(np.float32)
    some = Samples(inputs, np.sin(inputs))
    theta = model.initial(1) + np.float32(0.1)

    async def session() -> tuple[bytes, int, int]:
        with private_directory() as directory:
            (node,) = make_nodes(nodes, directory)
            try:
                await node.start()
                node.take_usage()
                loaded = await node.load(model, model.description(accumulate=False, capacity=0))
                sent = node.take_usage().bytes_down
                await node.set_weights(Broadcast(theta, np.ones(len(theta), np.int64), 1))
                await node.run((Train("query", rate=0.05),), query=some)
                outputs = await node.predict(inputs)
                await node.restart()
                return outputs.tobytes(), sent, loaded.needed
            finally:
                await node.close()

    return asyncio.run(session())


def test_the_weights_are_used_in_the_flash(settings: Experiment, image: Path):
    model = settings.built_model
    assert frozen_weights(image) == model.frozen_weights
    assert frozen_weights(MPS2_IMAGE) is None
    on_host, _, _ = trained(NodeSettings(backend="host", count=1), model)
    usual, all_sent, needed = trained(NodeSettings(count=1), model)
    own, sent, less = trained(NodeSettings(count=1, image=str(image)), model)
    assert own == usual == on_host
    assert all_sent - sent > BACKBONE.nbytes
    assert needed - less == BACKBONE.nbytes


def test_another_backbone_is_sent(settings: Experiment, image: Path):
    model = replace(settings.built_model, backbone=-BACKBONE)
    on_host, _, needed = trained(NodeSettings(backend="host", count=1), model)
    assert trained(NodeSettings(count=1, image=str(image)), model)[::2] == (on_host, needed)


def test_a_plan_has_them_in_the_flash(settings: Experiment, image: Path):
    usual = plan.memory(settings)
    nodes = settings.nodes.model_copy(update={"image": str(image)})
    own = plan.memory(settings.model_copy(update={"nodes": nodes}))
    assert usual.needed - own.needed == BACKBONE.nbytes == own.flash - usual.flash - 12
    sent, unsent = (
        plan.play(settings.model_copy(update={"nodes": one})).first.bytes_down
        for one in (settings.nodes, nodes)
    )
    assert sent - unsent > BACKBONE.nbytes


def test_what_is_no_image_of_a_node_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(TinyMetaFedError, match="no_such.elf: no firmware image; run 'tinymetafed"):
        make_nodes(NodeSettings(image=str(tmp_path / "no_such.elf")), tmp_path)
    other = MPS2_IMAGE.with_name("tinymetafed_math.elf")
    with pytest.raises(TinyMetaFedError, match="no image of a node: it has no tmf_phase_"):
        make_nodes(NodeSettings(image=str(other)), tmp_path)
    (tmp_path / "a.toml").write_text(EXPERIMENT.replace(", frozen = true", ""))
    build = partial(firmware.build, str(tmp_path / "a.toml"), tmp_path / "a.elf", NodeSettings())
    with pytest.raises(TinyMetaFedError, match="no layer of its model is frozen"):
        build()
    monkeypatch.setattr(firmware, "model_of", lambda source: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TinyMetaFedError, match="cmake is not installed; 'make setup'"):
        build()
