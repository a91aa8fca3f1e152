"""Makes the files beside this one, as PyTorch's exporters write them: python make.py, with torch,
onnx and onnxscript installed. Weights are random; the seed is fixed."""

import warnings
from pathlib import Path

import onnx
import torch
from torch import nn

FOLDER = Path(__file__).parent


class Residual(nn.Module):
    """ResNet's block, with a projection where the stride is 2."""

    def __init__(self, channels: int, filters: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, filters, 3, stride, 1, bias=False), nn.BatchNorm2d(filters),
            nn.ReLU(), nn.Conv2d(filters, filters, 3, 1, 1, bias=False), nn.BatchNorm2d(filters),
        )  # fmt: skip
        same = channels == filters and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(channels, filters, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


def resnet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), Residual(4, 4, 1),
        Residual(4, 6, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5), nn.Softmax(1),
    )  # fmt: skip


def depthwise(channels: int, filters: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, stride, 1, groups=channels), nn.BatchNorm2d(channels),
        nn.ReLU6(), nn.Conv2d(channels, filters, 1), nn.BatchNorm2d(filters), nn.ReLU6(),
    )  # fmt: skip


class MobileNet(nn.Module):
    """Ends with a mean over the axes of the image, and a dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU6(), depthwise(4, 6, 2),
            depthwise(6, 8),
        )  # fmt: skip
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(8, 5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x).mean([2, 3]))


class Windows(nn.Module):
    """A 1-D network over accelerometer windows, whose view has the batch's size."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv1d(3, 6, 5, 2, 2)
        self.two = nn.Conv1d(6, 8, 3)
        self.dense = nn.Linear(8 * 3, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.max_pool1d(nn.functional.leaky_relu(self.one(x), 0.1), 2)
        x = nn.functional.avg_pool1d(torch.tanh(self.two(x)), 2)
        return torch.log_softmax(self.dense(x.view(x.size(0), -1)), 1)


class Permuted(nn.Module):
    """Takes channels last, as Keras has them; pads by itself; ends with a probability."""

    def __init__(self) -> None:
        super().__init__()
        self.pad = nn.ZeroPad2d((1, 0, 0, 2))
        self.conv = nn.Conv2d(2, 5, (3, 2), (2, 1))
        self.dense = nn.Linear(5 * 5 * 6, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.conv(self.pad(x.permute(0, 3, 1, 2))))
        return torch.sigmoid(self.dense(x.permute(0, 2, 3, 1).flatten(1)))


MODELS = {
    "resnet": (resnet, (1, 3, 12, 12)), "mobilenet": (MobileNet, (1, 1, 28, 28)),
    "windows": (Windows, (1, 3, 32)), "permuted": (Permuted, (1, 9, 6, 2)),
}  # fmt: skip


def strip(path: Path) -> None:
    """Leaves out where in the source each node comes from, which is most of the file."""
    model = onnx.load(path)
    for one in (model.graph, *model.graph.node, *model.graph.value_info, *model.graph.input):
        del one.metadata_props[:]
    onnx.save(model, path)


def main() -> None:
    warnings.simplefilter("ignore")
    for name, (make, shape) in MODELS.items():
        torch.manual_seed(1)
        model = make()
        for one in model.modules():  # as after training: means and variances of its own
            if isinstance(one, nn.BatchNorm2d):
                one.momentum = None
                nn.init.uniform_(one.weight, 0.5, 1.5)
                nn.init.uniform_(one.bias, -0.5, 1.0)
        model(torch.randn(32, *shape[1:]))
        model.eval()
        x = torch.randn(2, *shape[1:])
        batch = {"input": {0: "batch"}}
        for opset in (9, 17):
            torch.onnx.export(
                model, (x,), FOLDER / f"{name}-{opset}.onnx", dynamo=False, opset_version=opset,
                input_names=["input"], dynamic_axes=batch,
            )  # fmt: skip
        for opset in (18, 21):
            torch.onnx.export(
                model, (x,), FOLDER / f"{name}-new-{opset}.onnx", dynamo=True, opset_version=opset,
                input_names=["input"], dynamic_shapes=({0: torch.export.Dim("batch")},),
                external_data=False,
            )  # fmt: skip
            strip(FOLDER / f"{name}-new-{opset}.onnx")


if __name__ == "__main__":
    main()
