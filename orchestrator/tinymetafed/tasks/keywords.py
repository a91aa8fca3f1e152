"""Keyword spotting: spoken words, N of them to tell apart on each device.

Google Speech Commands (Warden 2018, arXiv:1804.03209) or the Free Spoken Digit Dataset. A sample is
the MFCCs of one second, as in Zhang et al. 2017 (Hello Edge, arXiv:1711.07128); a longer recording
is cut at both ends, a shorter one filled up with silence.
"""

import importlib.metadata
import io
import wave
from dataclasses import dataclass
from functools import lru_cache
from re import Pattern
from typing import Annotated, Literal

import kaldi_native_fbank as knf
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from ..models.model import Shape
from . import datasets
from .base import Limits
from .fewshot import FewShot, Pool

KNF_VERSION = importlib.metadata.version("kaldi-native-fbank")


class Card(datasets.Card):
    """Of a data set of spoken words.

    recording: matches the end of a recording's path, with groups `word` and `speaker`.
    speakers: how many. recordings: of a word by a speaker, where it is the same for all.
    """

    file: datasets.File
    recording: Pattern[str]
    words: tuple[str, ...]
    speakers: int
    recordings: int | None = None


@dataclass(frozen=True)
class Features:
    """MFCCs: a frame's length and the distance to the next, in milliseconds; coefficients of it."""

    window: int
    step: int
    coefficients: int

    @property
    def frames(self) -> int:
        """Of a sample: those that lie in it whole."""
        return 1 + (1000 - self.window) // self.step

    def options(self, rate: int) -> knf.MfccOptions:
        """For a sampling rate in Hz."""
        options = knf.MfccOptions()
        options.frame_opts.samp_freq = rate
        options.frame_opts.frame_length_ms = self.window
        options.frame_opts.frame_shift_ms = self.step
        options.frame_opts.dither = 0  # no noise
        options.use_energy = False
        options.num_ceps = self.coefficients
        return options


class Keywords(FewShot):
    """Settings: the data set, the part of its speakers that are unseen, and the features' frames
    (milliseconds) and coefficients."""

    name: Literal["keywords"]
    data: Literal["speech_commands", "fsdd"]
    unseen: Annotated[float, Field(gt=0, lt=1)] = 0.3
    window: Annotated[int, Field(ge=20, le=1000)] = 40
    step: Annotated[int, Field(ge=10, le=1000)] = 40
    coefficients: Annotated[int, Field(ge=1, le=23)] = 10

    @property
    def shape(self) -> Shape:
        """A frame is a row, a coefficient a column."""
        return Shape(self.features.frames, self.coefficients, 1)

    @property
    def features(self) -> "Features":
        """What a sample is."""
        return Features(self.window, self.step, self.coefficients)

    @property
    def unseen_speakers(self) -> int:
        """How many: at least one, and not all."""
        speakers = self.card.speakers
        return min(max(1, round(self.unseen * speakers)), speakers - 1)

    @property
    def card(self) -> Card:
        """The card of the data set."""
        return datasets.card(Card, self.data)

    def limits(self, *, unseen: bool) -> Limits:
        card = self.card
        if card.recordings is None:
            return Limits(classes=self.ways)
        speakers = self.unseen_speakers if unseen else card.speakers - self.unseen_speakers
        return Limits(samples=self.ways * speakers * card.recordings, classes=self.ways)

    @model_validator(mode="after")
    def _words_suffice(self) -> "Keywords":
        words = len(self.card.words)
        if self.ways > words:
            raise ValueError(f"ways: {self.ways} of the {words} words of {self.data}")
        return self

    def prepare(self, seed: int) -> dict[str, str]:
        file = self.card.file
        return {
            file.name: f"sha256:{file.sha256}",
            "kaldi-native-fbank": KNF_VERSION,
            "task.unseen": ", ".join(self._split(seed).unseen_speakers),
        }

    def pool(self, seed: int, *, unseen: bool) -> Pool:
        split = self._split(seed)
        return split.unseen if unseen else split.seen

    def _split(self, seed: int) -> "_Split":
        return _split(self.data, self.features, self.unseen_speakers, seed)


@dataclass(frozen=True)
class _Split:
    seen: Pool
    unseen: Pool
    unseen_speakers: tuple[str, ...]


@lru_cache(maxsize=2)
def _split(data: str, features: Features, unseen_speakers: int, seed: int) -> _Split:
    """Speakers drawn to be unseen; each coefficient standardised by its mean and standard deviation
    over the others."""
    card = datasets.card(Card, data)
    recordings = _recordings(data, card, features)
    mfccs, words, speakers = (recordings[key] for key in ("mfccs", "words", "speakers"))
    rng = np.random.default_rng([seed, 0x_5BEA_4E45])
    unseen = np.sort(rng.choice(np.unique(speakers), unseen_speakers, replace=False))
    is_unseen = np.isin(speakers, unseen)
    heard = mfccs[~is_unseen].astype(np.float64)
    scaled = (mfccs - heard.mean(axis=(0, 1))) / heard.std(axis=(0, 1))
    examples = scaled.reshape(len(scaled), -1).astype(np.float32)

    def pool(chosen: NDArray[np.bool_]) -> Pool:
        classes = tuple(np.flatnonzero(chosen & (words == word)) for word in card.words)
        return Pool(examples, np.float32(1), classes)

    return _Split(pool(~is_unseen), pool(is_unseen), tuple(unseen.tolist()))


def _recordings(data: str, card: Card, features: Features) -> datasets.Arrays:
    """Of all speakers: mfccs, float32 [n, frames, coefficients]; words and speakers, str [n]."""

    def make() -> datasets.Arrays:
        found: list[tuple[str, str, NDArray[np.float32]]] = []
        for name, wav in datasets.members(datasets.find(card.file), ".wav"):
            if match := card.recording.search(str(name)):
                found.append((match["word"], match["speaker"], _mfcc(wav, features)))
        words, speakers, mfccs = map(np.array, zip(*found, strict=True))
        return {"words": words, "speakers": speakers, "mfccs": mfccs}

    key = f"{card.file.sha256} {features.options(0)} {KNF_VERSION}"
    return datasets.cached(data, key, make)


def _mfcc(wav: bytes, features: Features) -> NDArray[np.float32]:
    """float32 [frames, coefficients] of a recording in 16 bits."""
    with wave.open(io.BytesIO(wav)) as file:
        rate = file.getframerate()
        sound = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    missing = rate - len(sound)  # of one second
    if missing > 0:
        sound = np.pad(sound, (missing // 2, missing - missing // 2))
    first = (len(sound) - rate) // 2
    sound = sound[first : first + rate]
    extractor = knf.OnlineMfcc(features.options(rate))
    extractor.accept_waveform(rate, sound.tolist())
    extractor.input_finished()
    return np.stack([extractor.get_frame(i) for i in range(extractor.num_frames_ready)])
