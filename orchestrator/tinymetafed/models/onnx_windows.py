"""Windows of ONNX operators: sizes, strides and padding as layers have them."""

import math
from collections.abc import Sequence

from .layers import Shape, Sides
from .onnx_file import NotALayer, Operation

Pair = tuple[int, int]


def _both(values: Sequence[int], height: int) -> Pair:
    """A length alone is the width of an image of that height."""
    if len(values) not in (1, 2):
        raise NotALayer(f"windows over {len(values)} axes; 1 or 2 are possible")
    return (height, int(values[0])) if len(values) == 1 else (int(values[0]), int(values[1]))


def window(
    operation: Operation, size: Sequence[int], shape: Shape, around: Sides | None
) -> tuple[Pair, Pair, Sides]:
    """Size, stride and padding over an image of that shape. around: the zeros of a Pad before it.
    Raises NotALayer."""
    axes = len(size)
    attributes = operation.attributes
    if any(n != 1 for n in attributes.get("dilations", [])) and max(size) > 1:
        raise NotALayer(f"dilations {list(attributes['dilations'])}; only 1 is possible")
    both = _both(size, 1)
    stride = _both(attributes.get("strides", [1] * axes), 1)
    if min(*both, *stride) < 1:
        raise NotALayer(f"kernel {list(both)} and strides {list(stride)}; both are at least 1")
    padding = _padding(operation, both, stride, shape, around)
    if attributes.get("ceil_mode"):
        for length, n, step, sides in zip(shape[:2], both, stride, padding, strict=True):
            if (length + sum(sides) - n) % step:
                raise NotALayer("ceil_mode 1, and windows that reach out of the image")
    return both, stride, padding


def _padding(
    operation: Operation, size: Pair, stride: Pair, shape: Shape, around: Sides | None
) -> Sides:
    attributes = operation.attributes
    auto = attributes.get("auto_pad", b"NOTSET").decode()
    (top, bottom), (left, right) = around or ((0, 0), (0, 0))
    if auto in ("NOTSET", "VALID"):
        pads = [int(n) for n in attributes.get("pads", [])] if auto == "NOTSET" else []
        if pads and len(pads) not in (2, 4):
            raise NotALayer(f"pads {pads}; 2 or 4 are possible")
        axes = len(pads) // 2
        own = [(pads[i], pads[i + axes]) for i in range(axes)]
        own = [(0, 0)] * (2 - len(own)) + own
    elif auto in ("SAME_UPPER", "SAME_LOWER"):
        own = []
        lengths = (shape.height + top + bottom, shape.width + left + right)
        for length, n, step in zip(lengths, size, stride, strict=True):
            total = max((math.ceil(length / step) - 1) * step + n - length, 0)
            less, more = total // 2, total - total // 2
            own.append((less, more) if auto == "SAME_UPPER" else (more, less))
    else:
        raise NotALayer(f"auto_pad {auto}")
    if min(map(min, own)) < 0:
        raise NotALayer("padding below zero")
    return (top + own[0][0], bottom + own[0][1]), (left + own[1][0], right + own[1][1])
