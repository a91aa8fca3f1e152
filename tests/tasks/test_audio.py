"""Recordings in all the forms that they come in give the features of the plain one."""

import io
import re
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.signal import resample

from tiny import wav
from tinymetafed.tasks import audio
from tinymetafed.tasks.spectra import Features, spectrum

FEATURES = Features(window=40, step=40, coefficients=10)
RATE = 8000
Form = tuple[str, str]


def _noise(seed: int, length: int = 6000) -> NDArray[np.int16]:
    return (np.random.default_rng(seed).normal(size=length) * 2000).astype(np.int16)


def _pack(sound: NDArray[Any], form: Form = ("WAV", "PCM_16"), rate: int = RATE) -> bytes:
    """The samples, int16 or in ±1, [n] or [n, channels]."""
    data = io.BytesIO()
    if form[1] in ("FLOAT", "DOUBLE") and sound.dtype == np.int16:
        sound = sound / np.float64(2**15)
    soundfile.write(data, sound, rate, format=form[0], subtype=form[1])
    return data.getvalue()


EXACT = [
    ("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "PCM_32"), ("WAV", "FLOAT"), ("WAV", "DOUBLE"),
    ("WAVEX", "PCM_16"), ("WAVEX", "PCM_24"), ("WAVEX", "FLOAT"), ("FLAC", "PCM_16"),
    ("FLAC", "PCM_24"), ("AIFF", "PCM_16"), ("AU", "PCM_16"), ("W64", "PCM_16"),
    ("CAF", "PCM_16"), ("RF64", "PCM_16"),
]  # fmt: skip


@pytest.mark.parametrize("form", EXACT)
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_features_are_exactly_those_of_one_channel_in_16_bits(form: Form, channels: int):
    sound = _noise(1)
    alike = np.repeat(sound[:, np.newaxis], channels, axis=1)
    assert (spectrum(_pack(alike, form), FEATURES, RATE) == spectrum(wav(sound), FEATURES)).all()


@pytest.mark.parametrize("form", [("WAV", "PCM_U8"), ("WAVEX", "PCM_U8"), ("FLAC", "PCM_S8")])
def test_samples_of_8_bits_are_exact_too(form: Form):
    sound = _noise(1) // 256 * 256  # what 8 bits can tell
    assert (spectrum(_pack(sound, form), FEATURES, RATE) == spectrum(wav(sound), FEATURES)).all()


def test_channels_are_mixed_to_their_mean():
    left, right = _noise(1), _noise(2)
    sound, rate = audio.read(_pack(np.stack([left, right], axis=1)))
    assert rate == RATE
    assert (sound == (left.astype(float) + right) / 2).all()


@given(st.lists(st.integers(-(2**15), 2**15 - 1), min_size=1, max_size=50))
def test_samples_of_16_bits_are_read_as_they_are(values: list[int]):
    sound, rate = audio.read(wav(np.array(values, np.int16)), RATE)
    assert (sound.tolist(), rate) == (values, RATE)


@pytest.mark.parametrize("rate", [11025, 16000, 44100, 48000])
@pytest.mark.parametrize("seed", range(3))
def test_features_at_another_rate_are_close(rate: int, seed: int):
    """The same second, sampled more often, by a Fourier series.

    A filter that is to take all above half of the rate off takes a part of what is just below, so
    the highest of the 23 mel bands loses energy: by less than half here, 0.7 in its logarithm. The
    cosine transform and the lifter carry that into coefficient n, up to 0.7 · √(2/23) · (1 + 11 ·
    sin(π·n/22)). Nothing else may differ.
    """
    sound = np.random.default_rng(seed).normal(size=RATE) * 0.1
    more_often = np.asarray(resample(sound, rate))
    order = np.arange(10)
    bound = 0.7 * np.sqrt(2 / 23) * (1 + 11 * np.sin(np.pi * order / 22))
    found = spectrum(_pack(more_often, ("WAV", "DOUBLE"), rate), FEATURES, RATE)
    expected = spectrum(_pack(sound, ("WAV", "DOUBLE")), FEATURES)
    assert (np.abs(found - expected) <= bound).all()
    at_its_own = spectrum(_pack(more_often, ("WAV", "DOUBLE"), rate), FEATURES)
    assert np.abs(at_its_own - expected).max() > 10


@pytest.mark.parametrize("rate", [4000, 16000, 22050])
@pytest.mark.parametrize("seconds", [0.3, 1.0, 1.7])
def test_a_recording_lasts_as_long_at_another_rate(rate: int, seconds: float):
    sound, found = audio.read(_pack(_noise(1, round(rate * seconds)), rate=rate), RATE)
    assert found == RATE
    assert len(sound) == pytest.approx(RATE * seconds, abs=1)


@pytest.mark.parametrize("form", [("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")])
def test_what_is_compressed_with_loss_is_read_too(form: Form):
    time = np.arange(8000) / RATE
    tone = (8000 * np.sin(2 * np.pi * 440 * time)).astype(np.int16)
    sound, _ = audio.read(_pack(tone, form), RATE)
    middle = slice(2000, 6000)
    spectrum = np.abs(np.fft.rfft(sound[middle]))
    assert spectrum.argmax() == 440 * 4000 / RATE
    assert np.abs(sound[middle]).max() == pytest.approx(8000, rel=0.1)


SOUND = wav(_noise(1))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "the file is empty"),
        (b"<html>Not found</html>", "cannot be read as a recording: Format not recognised"),
        (bytes(1000), "cannot be read as a recording: Format not recognised"),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), "cannot be read as a recording: Format not recognised"),
        (SOUND[:30], "cannot be read as a recording: "),
        (wav(_noise(1, 0)), "has no samples"),
        (SOUND[:44], "has no samples"),
        (SOUND[:-2], "is truncated: its header says that more samples follow"),
        (SOUND[:5000], "is truncated"),
        (_pack(_noise(1), ("AIFF", "PCM_16"))[:-100], "is truncated"),
        (_pack(_noise(1), ("WAVEX", "PCM_24"))[:-100], "is truncated"),
        (_pack(_noise(1), ("FLAC", "PCM_16"))[:-100], "cannot be read as a recording: "),
        (_pack(_noise(1), ("MP3", "MPEG_LAYER_III"))[:-500], "is truncated"),
        (_pack(np.full(9, np.nan), ("WAV", "FLOAT")), "sample 0 is not finite"),
        (_pack(np.array([0, 0, np.inf]), ("WAV", "DOUBLE")), "sample 2 is not finite"),
        (_pack(np.zeros(RATE * 61, np.int16), ("FLAC", "PCM_16")), "lasts 61 s; 60 s are the most"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(data: bytes, says: str):
    with pytest.raises(ValueError, match=re.escape(says)) as caught:
        spectrum(data, FEATURES, RATE)
    assert len(str(caught.value).splitlines()) == 1
    assert " at 0x" not in str(caught.value)


def test_samples_in_another_unit():
    """As soundfile writes an array of int16 into a file of floats."""
    data = io.BytesIO()
    soundfile.write(data, np.array([0, 20000, -5], np.int16), RATE, "FLOAT", format="WAV")
    with pytest.raises(ValueError, match="its loudest sample is 2e\\+04, where 1 is full scale"):
        audio.read(data.getvalue())


def test_silence_has_features():
    assert np.isfinite(spectrum(wav(np.zeros(5, np.int16)), FEATURES)).all()


@pytest.mark.parametrize("unknown", [0xFFFFFFFF, 0x7FFFFFFF])
def test_a_stream_whose_length_was_unknown_is_no_truncated_file(unknown: int):
    """As ffmpeg and sox write it into a pipe."""
    data = bytearray(SOUND)
    assert data[36:40] == b"data"
    data[4:8] = data[40:44] = unknown.to_bytes(4, "little")
    assert (audio.read(bytes(data))[0] == _noise(1)).all()


def test_what_follows_the_samples_does_no_harm():
    tagged = SOUND + b"LIST" + (4).to_bytes(4, "little") + b"INFO"
    assert (audio.read(tagged)[0] == _noise(1)).all()


@given(st.integers(0, 200), st.binary(min_size=1, max_size=8))
def test_a_spoilt_header_gives_samples_or_one_line(at: int, spoilt: bytes):
    data = SOUND[:at] + spoilt + SOUND[at + len(spoilt) :]
    try:
        mfcc = spectrum(data, FEATURES, RATE)
    except ValueError as error:
        lines = str(error).splitlines()
    else:
        lines = [f"{mfcc.shape} {np.isfinite(mfcc).all()}"]
    assert len(lines) == 1
    assert "False" not in lines[0]
