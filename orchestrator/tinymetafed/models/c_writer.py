"""C out: a network for the firmware's own core, its weights constants, which lie in flash."""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from ..link.messages import FROZEN, Layer, Load
from .model import Model
from .network import Network


def description(model: Model) -> Load:
    """The model with all layers frozen, as a node is told it: for its memory."""
    layers = tuple(Layer(one.operation, FROZEN, one.arguments) for one in model.layers)
    return Load(model.inputs, 0, False, 0, layers, 0)


def header(network: Network, model: Model, memory: int, stem: str) -> str:
    """NAME.h. memory: bytes that the layers compute in."""
    guard = f"TMF_{''.join(c if c.isalnum() else '_' for c in stem).upper()}_H"
    return f"""{_about(network)}
#ifndef {guard}
#define {guard}

#include "tmf_bits.h"
#include "tmf_learn.h"
#include "tmf_model.h"

#define TMF_NETWORK_INPUTS {model.inputs}u
#define TMF_NETWORK_OUTPUTS {model.outputs}u
#define TMF_NETWORK_MEMORY {memory}u /* bytes that it computes in */

/* A sample of the task: {network.shape}, channels last. */
extern const float tmf_network_sample[TMF_NETWORK_INPUTS];

/* Makes `model` this network, in `memory` (aligned for float); then tmf_predict has its outputs. */
enum tmf_error tmf_network_place(struct tmf_model *model, void *memory, size_t size);

#endif
"""


def source(network: Network, model: Model, sample: NDArray[np.float32], stem: str) -> str:
    """NAME.c. sample: float32 [inputs]."""
    weights: list[str] = []
    for step in network.steps:
        if step.w is not None and step.b is not None:
            weights.append(f"    /* {step.name.replace('*/', '')} */")
            weights += _floats(np.concatenate([step.w.ravel(), step.b]))
    layers = "\n".join(
        f"    {{{one.operation}, {len(one.arguments)}, {{{_arguments(one.arguments)}}}}},"
        for one in model.layers
    )
    return f"""{_about(network)}
#include "{stem}.h"

static const struct {{
    uint32_t operation, count, arguments[TMF_MAX_ARGUMENTS];
}} layers[] = {{
{layers}
}};

static const float weights[] = {{
{chr(10).join(weights)}
}};

const float tmf_network_sample[TMF_NETWORK_INPUTS] = {{
{chr(10).join(_floats(sample))}
}};

enum tmf_error tmf_network_place(struct tmf_model *model, void *memory, size_t size)
{{
    uint64_t needed;
    tmf_model_begin(model, TMF_NETWORK_INPUTS, 0);
    for (size_t i = 0; i < sizeof layers / sizeof layers[0]; i++) {{
        const enum tmf_error error = tmf_model_add(model, layers[i].operation, TMF_FROZEN,
                                                   layers[i].arguments, layers[i].count);
        if (error != TMF_OK) {{
            return error;
        }}
    }}
    return tmf_model_place_to_predict(model, weights, memory, size, &needed);
}}
"""


def backbone(model: Model, about: str) -> str:
    """A source with the frozen weights, for an image of the node that has them in its flash. about:
    where they come from."""
    parameters, checksum = model.frozen_weights
    return f"""/* Written by tinymetafed firmware build.
 * {about.replace("*/", "* /")} */
#include "tmf_node.h"

extern const struct tmf_backbone tmf_backbone;

static const float weights[] = {{
{chr(10).join(_floats(model.backbone))}
}};

const struct tmf_backbone tmf_backbone = {{weights, {parameters}u, {checksum}u}};
"""


def _about(network: Network) -> str:
    lines = (f"{key}: {value}".replace("*/", "* /") for key, value in network.metadata.items())
    return "/* Written by tinymetafed export.\n" + "".join(f" * {line}\n" for line in lines) + " */"


def _arguments(values: Iterable[int]) -> str:
    return ", ".join(f"{value}u" for value in values) or "0"


def _floats(values: NDArray[np.float32]) -> Iterator[str]:
    """All bits of each, some on a line."""
    for first in range(0, len(values), 6):
        yield "    " + " ".join(f"{float(one).hex()}f," for one in values[first : first + 6])
