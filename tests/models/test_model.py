"""Layers to the node's description, and the parts of the parameter vector."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymetafed.link.messages import GLOBAL, LOCAL, Layer
from tinymetafed.models.model import Model, ModelSettings

LAYERS = st.lists(
    st.fixed_dictionaries(
        {
            "units": st.integers(1, 9),
            "activation": st.sampled_from(["relu", "tanh", "linear"]),
            "local": st.booleans(),
        }
    ),
    min_size=1,
    max_size=6,
)


@given(LAYERS, st.integers(1, 9))
def test_parts_tile_the_parameters_and_masks_agree(layers: list[dict[str, object]], inputs: int):
    model = Model.build(ModelSettings.model_validate({"layers": layers}), inputs)
    assert model.parts[0].first == 0
    assert [part.first for part in model.parts[1:]] == [part.end for part in model.parts[:-1]]
    in_runs = np.zeros(model.parameters, dtype=bool)
    for first, end in model.global_runs:
        assert not in_runs[first:end].any()
        in_runs[first:end] = True
    assert (in_runs == model.global_mask).all()
    assert model.frozen(local=True) & model.frozen(local=False) == 0
    assert (model.frozen(local=True) | model.frozen(local=False)).bit_count() == len(layers)


@given(LAYERS, st.integers(1, 9))
def test_without_local_parts_everything_is_global(layers: list[dict[str, object]], inputs: int):
    model = Model.build(ModelSettings.model_validate({"layers": layers}), inputs, local=False)
    assert model.global_runs == ((0, model.parameters),)
    assert all(layer.part == GLOBAL for layer in model.layers)


def test_an_activation_is_a_layer_of_its_own_on_the_node():
    settings = ModelSettings.model_validate(
        {"layers": [{"units": 3, "activation": "tanh", "local": True}, {"units": 2}]}
    )
    model = Model.build(settings, 4)
    assert model.layers == (Layer(1, LOCAL, (3,)), Layer(3, LOCAL, ()), Layer(1, GLOBAL, (2,)))
    assert model.frozen(local=True) == 0b001
    assert model.frozen(local=False) == 0b100
    assert model.parameters == 3 * 5 + 2 * 4


def test_shapes_are_followed_from_layer_to_layer():
    layers = [
        {"type": "conv2d", "filters": 8, "stride": 2, "padding": 1, "activation": "relu"},
        {"type": "max_pool2d", "stride": 1},
        {"type": "depthwise_conv2d", "local": True},
        {"units": 5},
    ]
    settings = ModelSettings.model_validate({"shape": (14, 14, 1), "layers": layers})
    model = Model.build(settings, 196)
    assert model.layers == (
        Layer(4, GLOBAL, (14, 14, 0x0303, 0x0202, 0x01010101, 8)),
        Layer(2, GLOBAL, ()),
        Layer(6, GLOBAL, (7, 7, 0x0202, 0x0101, 0)),
        Layer(5, LOCAL, (6, 6, 0x0303, 0x0101, 0)),
        Layer(1, GLOBAL, (5,)),
    )
    assert [part.weights for part in model.parts] == [(8, 9), (8, 9), (5, 128)]
    assert [part.rectified for part in model.parts] == [True, False, False]
    assert model.frozen(local=True) == 1 << 3


@pytest.mark.parametrize(
    ("inputs", "shape", "layers", "message"),
    [
        (195, (14, 14, 1), [{"units": 1}], "model.shape: 14 × 14 × 1 are 196 values, a sample of"),
        (
            9,
            None,
            [{"type": "conv2d", "filters": 1}],
            "model.layers.0.size: 3 × 3 is more than the 1 × 1",
        ),
        (
            4,
            (2, 2, 1),
            [{"type": "max_pool2d"}] * 2,
            "model.layers.1.size: 2 × 2 is more than the 1 × 1",
        ),
        (
            9,
            (3, 3, 1),
            [{"type": "depthwise_conv2d", "padding": 3}],
            "model.layers.0.padding: 3 is",
        ),
        (4, (2, 2, 1), [{"type": "max_pool2d"}], "model.layers: no layer has parameters"),
    ],
)
def test_layers_that_do_not_fit_are_named(
    inputs: int, shape: object, layers: list[object], message: str
):
    settings = ModelSettings.model_validate({"shape": shape, "layers": layers})
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        Model.build(settings, inputs)


@given(st.integers(0, 2**63 - 1))
def test_first_weights_are_uniform_and_the_seed_s(seed: int):
    layers = [
        {"units": 90, "activation": "relu"},
        {"units": 30, "activation": "tanh"},
        {"units": 3},
    ]
    model = Model.build(ModelSettings.model_validate({"layers": layers}), 10)
    theta = model.initial(seed)
    *hidden, last = model.parts
    for part, gain in zip(hidden, (6, 3), strict=True):
        outputs, inputs = part.weights
        w, b = np.split(theta[part.first : part.end], [outputs * inputs])
        for values, limit in ((w, np.sqrt(gain / inputs)), (b, 1 / np.sqrt(inputs))):
            assert 0.7 * limit < np.abs(values).max() <= np.float32(limit)
            assert np.abs(values.mean()) < 0.5 * limit
    assert not theta[last.first :].any()
    assert (model.initial(seed) == theta).all()


@pytest.mark.parametrize("activation", ["linear", "relu", "tanh"])
def test_zeros_are_no_start_where_an_activation_would_keep_them(activation: str):
    layers = [{"units": 4}, {"units": 3, "activation": activation}]
    model = Model.build(ModelSettings.model_validate({"layers": layers}), 2)
    assert model.initial(1)[model.parts[-1].first :].any() == (activation != "linear")
