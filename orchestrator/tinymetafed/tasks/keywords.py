"""Keyword spotting: spoken words, N of them to tell apart on each device.

Google Speech Commands (Warden 2018, arXiv:1804.03209) or the Free Spoken Digit Dataset. A sample is
the MFCCs of one second, as in Zhang et al. 2017 (Hello Edge, arXiv:1711.07128); a longer recording
is cut at both ends, a shorter one filled up with silence.
"""

from dataclasses import dataclass
from functools import lru_cache
from re import Pattern
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from ..errors import TinyMetaFedError
from ..models.layers import Shape
from . import audio, datasets
from .base import Limits, Part, Split, ValidationShare, held_back, warn
from .fewshot import FewShot, Pool
from .scaling import standardised
from .spectra import VERSIONS, Features, spectrum


def _has_groups(pattern: Pattern[str]) -> Pattern[str]:
    if not {"word", "speaker"} <= pattern.groupindex.keys():
        raise PydanticCustomError(
            "tmf_groups", "it needs the groups (?P<word>…) and (?P<speaker>…)"
        )
    return pattern


class Card(datasets.Card):
    """Of a data set of spoken words.

    recording: matches the end of a recording's path, with groups `word` and `speaker`.
    rate: in Hz, to which recordings of another are resampled. speakers: how many. recordings: of a
    word by a speaker, where it is the same for all.
    """

    file: datasets.File
    recording: Annotated[Pattern[str], AfterValidator(_has_groups)]
    rate: Annotated[int, Field(ge=8000, le=192_000)]
    words: tuple[str, ...]
    speakers: int
    recordings: int | None = None


class Keywords(FewShot):
    """Spoken words as MFCCs: N words to tell apart; devices of another part have other speakers."""

    name: Literal["keywords"]
    data: Literal["speech_commands", "fsdd"]
    """Data set: Speech Commands, or Free Spoken Digits."""
    unseen: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Share of the speakers whom training never hears."""
    validation: ValidationShare = 0.5
    """Share of these who are for validation; the others are unseen."""
    split: Split | None = None
    """Seed by which it is drawn who is in which part, so that runs of any seed have the same parts;
    each run's own seed if not given."""
    window: Annotated[int, Field(ge=20, le=1000)] = 40
    """Milliseconds of a frame."""
    step: Annotated[int, Field(ge=10, le=1000)] = 40
    """Milliseconds from one frame to the next."""
    coefficients: Annotated[int, Field(ge=1, le=23)] = 10
    """MFCCs of a frame."""

    @property
    def shape(self) -> Shape:
        """A frame is a row, a coefficient a column."""
        return Shape(self.features.frames, self.coefficients, 1)

    @property
    def features(self) -> Features:
        """What a sample is."""
        return Features(self.window, self.step, self.coefficients)

    @property
    def never_heard(self) -> int:
        """Speakers whom training never hears: at least one, and not all."""
        speakers = self.card.speakers
        return min(max(1, round(self.unseen * speakers)), speakers - 1)

    @property
    def card(self) -> Card:
        """The card of the data set."""
        return datasets.card(Card, self.data)

    def limits(self, *, part: Part) -> Limits:
        card = self.card
        validation = held_back(self.validation, self.never_heard)
        speakers = {
            "seen": card.speakers - self.never_heard,
            "validation": validation,
            "unseen": self.never_heard - validation,
        }[part]
        if not speakers:
            return Limits(devices=0, classes=self.ways)
        if card.recordings is None:
            return Limits(classes=self.ways)
        return Limits(samples=self.ways * speakers * card.recordings, classes=self.ways)

    @model_validator(mode="after")
    def _words_suffice(self) -> "Keywords":
        words = len(self.card.words)
        if self.ways > words:
            raise ValueError(f"ways: {self.ways} of the {words} words of {self.data}")
        return self

    def prepare(self, seed: int) -> dict[str, str]:
        file, speakers = self.card.file, self._split(seed).speakers
        made_of = {file.name: f"sha256:{file.sha256}", **VERSIONS}
        for part in ("validation", "unseen"):
            if len(speakers[part]):
                made_of[f"task.{part}"] = ", ".join(speakers[part].tolist())
        return made_of

    def pool(self, seed: int, *, part: Part) -> Pool:
        return self._split(seed).pools[part]

    def _split(self, seed: int) -> "_Split":
        validation = held_back(self.validation, self.never_heard)
        split = seed if self.split is None else self.split
        return _split(self.data, self.features, self.never_heard, validation, split)


@dataclass(frozen=True)
class _Split:
    """By part: names, and what they say."""

    speakers: dict[Part, NDArray[np.str_]]
    pools: dict[Part, Pool]


@lru_cache(maxsize=2)
def _split(data: str, features: Features, never_heard: int, validation: int, seed: int) -> _Split:
    """Speakers whom training never hears are drawn, and from these those for validation; each
    coefficient is standardised by its mean and standard deviation over the others."""
    card = datasets.card(Card, data)
    recordings = _recordings(data, card, features)
    mfccs, words, speakers = (recordings[key] for key in ("mfccs", "words", "speakers"))
    rng = np.random.default_rng([seed, 0x_5BEA_4E45])
    known = np.unique(speakers)
    if len(known) <= never_heard:
        raise TinyMetaFedError(
            f"{data}: recordings of {len(known)} speakers, and its card says {card.speakers}"
        )
    others = np.sort(rng.choice(known, never_heard, replace=False))
    validated = np.sort(rng.choice(others, validation, replace=False))
    names: dict[Part, NDArray[np.str_]] = {
        "seen": np.setdiff1d(known, others),
        "validation": validated,
        "unseen": np.setdiff1d(others, validated),
    }
    scaled, constant = standardised(mfccs, np.isin(speakers, names["seen"]))
    if len(constant):
        numbers = ", ".join(str(coefficient + 1) for coefficient in constant)
        warn(f"{data}: constant in what seen speakers say, so 0 in every sample: MFCC {numbers}")
    examples = scaled.reshape(len(scaled), -1).astype(np.float32)

    def pool(some: NDArray[np.str_]) -> Pool:
        chosen = np.isin(speakers, some)
        classes = tuple(np.flatnonzero(chosen & (words == word)) for word in card.words)
        return Pool(examples, np.float32(1), classes, card.words)

    return _Split(names, {part: pool(some) for part, some in names.items()})


def _recordings(data: str, card: Card, features: Features) -> datasets.Arrays:
    """Of all speakers: mfccs, float32 [n, frames, coefficients]; words and speakers, str [n]."""

    def make() -> datasets.Arrays:
        path = datasets.find(card.file)
        found: list[tuple[str, str, NDArray[np.float32]]] = []
        for name, recording in datasets.members(path, audio.ENDINGS):
            if match := card.recording.search(str(name)):
                try:
                    mfcc = spectrum(recording, features, card.rate)
                except ValueError as error:
                    raise TinyMetaFedError(f"{path}: {name}: {error}") from None
                found.append((match["word"], match["speaker"], mfcc))
        if not found:
            raise TinyMetaFedError(f"{path}: no recording's name matches {card.recording.pattern}")
        words, speakers, mfccs = map(np.array, zip(*found, strict=True))
        return {"words": words, "speakers": speakers, "mfccs": mfccs}

    options, pattern = features.options(card.rate), card.recording.pattern
    return datasets.cached(data, f"{card.file.sha256} {options} {pattern} {VERSIONS}", make)
