"""TensorFlow Lite files: made into 8 bit integers, and run."""

import os
import sys
import warnings
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import TinyMetaFedError
from .layers import SAMPLE
from .tflite_writer import SIGNATURE, missing

Values = NDArray[np.float32]


def quantised(data: bytes, samples: Values) -> bytes:
    """The file with weights and values in 8 bit integers, weights of convolutions by channel; so
    are its input and output. samples: float32 [n, inputs], that show which values there are.
    Raises TinyMetaFedError where the extra is missing, or the file cannot be quantised."""
    try:
        from ai_edge_quantizer import Quantizer, recipe
    except ImportError as error:
        raise missing(error) from None
    shape = _interpreter(data).get_input_details()[0]["shape"]
    shown = [{SAMPLE: one.reshape(shape)} for one in samples]
    with _quiet():
        quantizer: Any = Quantizer(data, recipe.static_wi8_ai8())
        try:
            # One by one: of several it takes a moving average, which clips what is rare.
            ranges = [quantizer.calibrate({SIGNATURE: [one]}) for one in shown]
            found = quantizer.quantize(_widest(ranges))
        except (ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise TinyMetaFedError(f"ai-edge-quantizer cannot quantise it: {reason}") from None
    return bytes(found.quantized_model)


def _widest(ranges: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Of each tensor the smallest and the largest value in any of the ranges."""
    found: dict[str, dict[str, Any]] = {}
    for one in ranges:
        for name, limits in one.items():
            kept = found.setdefault(name, dict(limits))
            for key, choose in (("min", np.minimum), ("max", np.maximum)):
                if key in limits:
                    kept[key] = choose(kept[key], limits[key])
    return found


def run(data: bytes, samples: Values) -> Values:
    """Outputs for samples, float32 [n, inputs]: float32 [n, outputs], whatever the file's input and
    output are in. Raises TinyMetaFedError where the extra is missing."""
    interpreter = _interpreter(data)
    interpreter.allocate_tensors()
    (entering,), (leaving,) = interpreter.get_input_details(), interpreter.get_output_details()
    outputs: list[Values] = []
    for one in samples:
        interpreter.set_tensor(entering["index"], to_kind(entering, one))
        interpreter.invoke()
        outputs.append(to_float(leaving, interpreter.get_tensor(leaving["index"])[0]))
    return np.stack(outputs)


def to_kind(details: Mapping[str, Any], values: Values) -> NDArray[Any]:
    """Values as a tensor of the file has them. details: of the interpreter, on the tensor."""
    values = values.reshape(details["shape"])
    if details["dtype"] == np.float32:
        return values
    scale, zero = details["quantization"]
    return np.clip(np.round(values / scale) + zero, -128, 127).astype(np.int8)


def to_float(details: Mapping[str, Any], values: NDArray[Any]) -> Values:
    """The same back."""
    if details["dtype"] == np.float32:
        return values
    scale, zero = details["quantization"]
    return ((values.astype(np.float32) - zero) * scale).astype(np.float32)


def arena(data: bytes) -> int | None:
    """Bytes of RAM that TensorFlow Lite Micro takes for the file, on this machine's 64 bits; None
    where its package is not installed."""
    try:
        from tflite_micro import runtime
    except ImportError:
        return None

    def fits(size: int) -> bool:
        try:
            runtime.Interpreter.from_bytes(data, arena_size=size)
        except RuntimeError:
            return False
        return True

    step, most = 64, 1 << 20
    with _quiet():
        found = bisect_left(range(most), True, key=lambda n: fits(n * step))
    return found * step if found < most else None


@contextmanager
def _quiet() -> Iterator[None]:
    """Nothing is said on the terminal, by Python or by the libraries that it calls, on how they get
    on; what fails raises an exception."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = {stream: os.dup(stream) for stream in (1, 2)}
    with warnings.catch_warnings(), Path(os.devnull).open("w") as nowhere:
        warnings.simplefilter("ignore")
        try:
            for stream in kept:
                os.dup2(nowhere.fileno(), stream)
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for stream, old in kept.items():
                os.dup2(old, stream)
                os.close(old)


def _interpreter(data: bytes) -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType
    except ImportError as error:
        raise missing(error) from None
    # Without XNNPACK, which says on standard error that it is there.
    kind = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    return Interpreter(model_content=data, experimental_op_resolver_type=kind)
