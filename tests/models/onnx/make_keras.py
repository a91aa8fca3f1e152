"""Makes the keras-* beside this file: python make_keras.py, with tensorflow-cpu and tf2onnx
installed. Weights are random; the seed is fixed."""

from pathlib import Path

import numpy as np
import onnx
import tensorflow as tf
import tf2onnx
from tensorflow import keras
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

FOLDER = Path(__file__).parent
layers = keras.layers


def mobilenet() -> keras.Model:
    """With the ends that Keras' own networks have."""
    return keras.Sequential([
        keras.Input((12, 10, 2)), layers.Conv2D(4, 3, 2, "same", use_bias=False),
        layers.BatchNormalization(), layers.ReLU(6.0), layers.ZeroPadding2D(((0, 1), (0, 1))),
        layers.DepthwiseConv2D(3, 2), layers.BatchNormalization(), layers.ReLU(6.0),
        layers.Conv2D(6, 1), layers.GlobalAveragePooling2D(), layers.Dropout(0.1),
        layers.Dense(3, "softmax"),
    ])  # fmt: skip


def residual() -> keras.Model:
    """A sum, a pool of uneven padding, and a flattened image."""
    x = start = keras.Input((7, 7, 3))
    x = layers.Conv2D(3, (3, 2), padding="same", activation="relu")(x)
    x = layers.Conv2D(3, 3, padding="same")(x)
    x = layers.LeakyReLU(negative_slope=0.3)(layers.Add()([x, start]))
    x = layers.MaxPooling2D(2, padding="same")(x)
    x = layers.AveragePooling2D(3, 1, padding="same")(x)
    return keras.Model(start, layers.Dense(4, "tanh")(layers.Flatten()(x)))


def windows() -> keras.Model:
    """1-D, with a dense layer at each moment."""
    return keras.Sequential([
        keras.Input((24, 3)), layers.Conv1D(5, 4, 2, "same", activation="relu"),
        layers.MaxPooling1D(2), layers.Dense(4, "relu"), layers.GlobalAveragePooling1D(),
        layers.Dense(1, "sigmoid"),
    ])  # fmt: skip


def main() -> None:
    for make in (mobilenet, residual, windows):
        keras.utils.set_random_seed(1)
        model = make()
        for layer in model.layers:
            if isinstance(layer, layers.BatchNormalization):
                size = layer.gamma.shape
                for one, low, high in (
                    (layer.gamma, 0.5, 1.5), (layer.beta, -0.2, 1.0),
                    (layer.moving_mean, -0.2, 0.2), (layer.moving_variance, 0.3, 0.6),
                ):  # fmt: skip
                    one.assign(np.random.uniform(low, high, size))
        spec = [tf.TensorSpec((None, *model.input_shape[1:]), tf.float32, name="input")]
        function = tf.function(lambda x, model=model: model(x, training=False))
        for opset in (13, 18):
            found, _ = tf2onnx.convert.from_function(function, spec, opset=opset)
            del found.metadata_props[:]
            onnx.save(found, FOLDER / f"keras-{make.__name__}-{opset}.onnx")
        if make is windows:
            continue  # shapes are worked out when it runs
        fixed = [tf.TensorSpec((1, *model.input_shape[1:]), tf.float32, name="input")]
        concrete = function.get_concrete_function(*fixed)
        constant = convert_variables_to_constants_v2(concrete)
        converter = tf.lite.TFLiteConverter.from_concrete_functions([constant])
        (FOLDER / f"keras-{make.__name__}.tflite").write_bytes(converter.convert())


if __name__ == "__main__":
    main()
