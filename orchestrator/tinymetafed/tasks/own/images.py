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


def _as_pair(value: object) -> object:
    return (value, value) if isinstance(value, int) else value


class Images(Filed):
    """Settings: height and width in pixels, one number for a square, to which images are stretched
    or shrunk (Pillow's bilinear filter, over the whole area of a pixel); grey or in colours. A
    value is 0 … 1 and then standardised by channel."""

    name: Literal["images"]
    size: Annotated[tuple[Side, Side], BeforeValidator(_as_pair)] = (28, 28)
    colour: bool = False

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
