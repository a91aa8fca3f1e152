"""Images of a user's own: files that Pillow reads, brought to one size."""

from typing import Annotated, Literal

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image
from pydantic import BeforeValidator, Field

from ...models.layers import Shape
from .. import pictures
from .files import Filed
from .records import Records

Side = Annotated[int, Field(ge=4, le=512)]
Sides = tuple[Side, Side]


def _as_pair(value: object) -> object:
    return (value, value) if isinstance(value, int) else value


class Images(Filed):
    """Images of your own; a value is 0 … 1 and then standardised by channel."""

    name: Literal["images"]
    size: Annotated[Sides, BeforeValidator(_as_pair, Sides | Side)] = (28, 28)
    """Height and width in pixels, or one number for a square, to which images are stretched or
    shrunk (Pillow's bilinear filter)."""
    colour: bool = False
    """Whether there are three channels in place of grey."""

    @property
    def endings(self) -> tuple[str, ...]:
        return tuple(ending for endings in pictures.FORMATS.values() for ending in endings)

    @property
    def options(self) -> str:
        return f"{self.size} {self.colour} {self.made_with}"

    @property
    def made_with(self) -> dict[str, str]:
        return {"pillow": PIL.__version__}

    @property
    def channels(self) -> tuple[str, ...]:
        return ("red", "green", "blue") if self.colour else ("grey",)

    def shape_of(self, records: Records) -> Shape:
        return Shape(*records.values.shape[1:])

    def sample(self, data: bytes) -> NDArray[np.float32]:
        image = pictures.read(data, tuple(pictures.FORMATS), colour=self.colour)
        height, width = self.size
        resized = image.resize((width, height), Image.Resampling.BILINEAR)
        pixels = np.asarray(resized, np.float32) / np.float32(255)
        return pixels.reshape(height, width, len(self.channels))
