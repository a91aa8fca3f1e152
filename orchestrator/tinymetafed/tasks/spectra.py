"""Spectra: recordings as MFCCs or log-mel energies, frame by frame (Kaldi's)."""

import importlib.metadata
from dataclasses import dataclass
from typing import Literal

import kaldi_native_fbank as knf
import numpy as np
from numpy.typing import NDArray

from . import audio

VERSIONS = {
    "kaldi-native-fbank": importlib.metadata.version("kaldi-native-fbank"), **audio.VERSIONS
}  # fmt: skip
"""Of what features are made by."""
BANDS = 23
"""Mel bands that MFCCs are made of, which is Kaldi's own choice."""

Kind = Literal["mfcc", "log_mel"]


@dataclass(frozen=True)
class Features:
    """A frame's length and the distance to the next, in milliseconds; coefficients of it: MFCCs, or
    the logarithms of so many mel bands' energies. length: milliseconds of a sample."""

    window: int
    step: int
    coefficients: int
    kind: Kind = "mfcc"
    length: int = 1000

    @property
    def frames(self) -> int:
        """Of a sample: those that lie in it whole."""
        return 1 + (self.length - self.window) // self.step

    def options(self, rate: int) -> knf.MfccOptions | knf.FbankOptions:
        """For a sampling rate in Hz."""
        options = knf.MfccOptions() if self.kind == "mfcc" else knf.FbankOptions()
        options.frame_opts.samp_freq = rate
        options.frame_opts.frame_length_ms = self.window
        options.frame_opts.frame_shift_ms = self.step
        options.frame_opts.dither = 0  # no noise
        options.use_energy = False
        if isinstance(options, knf.MfccOptions):
            options.num_ceps = self.coefficients
        else:
            options.mel_opts.num_bins = self.coefficients
        return options

    def extractor(self, rate: int) -> knf.OnlineMfcc | knf.OnlineFbank:
        """For a sampling rate in Hz. Raises ValueError where a frame of it is too short for so many
        bands."""
        options = self.options(rate)
        if isinstance(options, knf.MfccOptions):
            return knf.OnlineMfcc(options)
        return knf.OnlineFbank(options)


def spectrum(data: bytes, features: Features, rate: int | None = None) -> NDArray[np.float32]:
    """float32 [frames, coefficients] of a recording at a rate in Hz, its own where not given. What
    is longer than a sample is cut at both ends, what is shorter filled up with silence. Raises
    ValueError, which says what is wrong with it."""
    sound, rate = audio.read(data, rate)
    length = rate * features.length // 1000
    missing = length - len(sound)
    if missing > 0:
        sound = np.pad(sound, (missing // 2, missing - missing // 2))
    first = (len(sound) - length) // 2
    sound = sound[first : first + length]
    extractor = features.extractor(rate)
    extractor.accept_waveform(rate, sound.tolist())
    extractor.input_finished()
    return np.stack([extractor.get_frame(i) for i in range(extractor.num_frames_ready)])
