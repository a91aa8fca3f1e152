"""Recordings of a user's own: as MFCCs or log-mel energies."""

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from ...models.layers import Shape
from .. import audio, spectra
from ..spectra import BANDS, VERSIONS, Features, Kind
from .files import Filed
from .records import Records


class Audio(Filed):
    """Recordings of your own, as MFCCs or log-mel energies, each coefficient standardised by
    itself."""

    name: Literal["audio"]
    rate: Annotated[int, Field(ge=4000, le=192_000)] = 16_000
    """Hz to which recordings are resampled."""
    seconds: Annotated[float, Field(ge=0.05, le=audio.LONGEST)] = 1.0
    """Seconds of a sample: what is longer is cut at both ends, what is shorter filled up with
    silence."""
    features: Kind = "mfcc"
    """MFCCs, or logarithmic energies of mel bands."""
    window: Annotated[int, Field(ge=20, le=1000)] = 40
    """Milliseconds of a frame."""
    step: Annotated[int, Field(ge=5, le=1000)] = 40
    """Milliseconds from one frame to the next."""
    coefficients: Annotated[int, Field(ge=1, le=80)] = 10
    """Coefficients of a frame: at most 23 MFCCs, or 80 mel bands."""

    @model_validator(mode="after")
    def _frames_fit(self) -> "Audio":
        if self.window > self.spectrum.length:
            raise ValueError(
                f"window: {self.window} ms is longer than task.seconds = {self.seconds:g}"
            )
        if self.features == "mfcc" and self.coefficients > BANDS:
            raise ValueError(f"coefficients: an MFCC is made of {BANDS} bands, so {BANDS} at most")
        try:
            self.spectrum.extractor(self.rate)
        except ValueError:
            raise ValueError(
                f"coefficients: a frame of {self.window} ms at {self.rate} Hz is too short for "
                f"{self.coefficients} bands; use fewer"
            ) from None
        return self

    @property
    def spectrum(self) -> Features:
        """What a sample is."""
        length = round(1000 * self.seconds)
        return Features(self.window, self.step, self.coefficients, self.features, length)

    @property
    def endings(self) -> tuple[str, ...]:
        return audio.ENDINGS

    @property
    def options(self) -> str:
        return f"{self.rate} {self.spectrum} {self.spectrum.options(self.rate)} {VERSIONS}"

    @property
    def made_with(self) -> dict[str, str]:
        return VERSIONS

    @property
    def channels(self) -> tuple[str, ...]:
        kind = "MFCC" if self.features == "mfcc" else "band"
        return tuple(f"{kind} {i + 1}" for i in range(self.coefficients))

    def shape_of(self, records: Records) -> Shape:
        _, frames, coefficients = records.values.shape
        return Shape(frames, coefficients, 1)

    def sample(self, data: bytes) -> NDArray[np.float32]:
        return spectra.spectrum(data, self.spectrum, self.rate)
