"""Recordings: files that libsndfile reads, as one channel at the rate that is wanted."""

import importlib.metadata
import io
import re

import numpy as np
from numpy.typing import NDArray

from ..errors import TinyMetaFedError

ENDINGS = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf", ".w64")
"""Of the names of files that hold a recording."""

VERSIONS = {package: importlib.metadata.version(package) for package in ("soundfile", "soxr")}
LONGEST = 60  # seconds; a word is shorter, and a small file can claim to last for days
LOUDEST = 256
"""Amplitude; samples in floating point may go beyond 1. Those that somebody wrote in another unit,
integers of 16 bits for instance, go further."""
PCM16 = 32768
"""What the amplitude 1 is in 16 bits."""

# libsndfile reads what is left of a file that breaks off, and says so in its log alone. The chunk
# with the samples is called `data` in WAV and CAF, `SSND` in AIFF; W64 has the whole file's size.
_BREAKS_OFF = re.compile(r"^ *(?:data|SSND|Data Size|riff) *: (\d+) \(should be (\d+)\)", re.M)
_UNKNOWN = 0x7FFFFFFF  # bytes; from here on, what a program writes that cannot know the size yet


def read(data: bytes, rate: int | None = None) -> tuple[NDArray[np.float64], int]:
    """float64 [n], at least one sample: the mean of a recording's channels, in units of 16-bit PCM.
    And its sampling rate in Hz: `rate`, to which others are resampled; the file's own without.

    Samples of up to 24 bits come out exactly. Raises ValueError, which says what is wrong with the
    file, and TinyMetaFedError where there is no library to read it.
    """
    try:
        import soundfile  # where used: few tasks hear, and every command would wait for it
        import soxr
    except OSError as error:  # of soundfile where it brings no library for this machine
        raise TinyMetaFedError(f"{error}; recordings need libsndfile: install it") from None
    if not data:
        raise ValueError("the file is empty")
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            found, frames, log = file.samplerate, file.frames, file.extra_info
            if frames > LONGEST * found:
                raise ValueError(f"lasts {frames / found:.0f} s; {LONGEST} s are the most")
            channels = file.read(dtype="float64", always_2d=True)
    except soundfile.LibsndfileError as error:
        reason = error.error_string.rstrip(".")
        raise ValueError(f"cannot be read as a recording: {reason}") from None
    if not frames:
        raise ValueError("has no samples")
    stated = [(int(said), int(there)) for said, there in _BREAKS_OFF.findall(log)]
    if len(channels) < frames or any(there < said < _UNKNOWN for said, there in stated):
        raise ValueError("is truncated: its header says that more samples follow")
    if not np.isfinite(channels).all():
        at = int(np.flatnonzero(~np.isfinite(channels).all(axis=1))[0])
        raise ValueError(f"sample {at} is not finite")
    if (loudest := np.abs(channels).max()) > LOUDEST:
        raise ValueError(f"its loudest sample is {loudest:.3g}, where 1 is full scale")
    sound = channels.mean(axis=1) * PCM16
    if rate is None or rate == found:
        return sound, found
    sound = soxr.resample(sound, found, rate)
    if not len(sound):
        raise ValueError(f"is too short: less than one sample at {rate} Hz")
    return sound, rate
