"""Omniglot: handwritten characters, N of them to tell apart on each device.

Lake, Salakhutdinov, Tenenbaum 2015, doi:10.1126/science.aab3050. Turned by 90°, 180° and 270°,
characters are further classes (Santoro et al. 2016, arXiv:1605.06065; Vinyals et al. 2016,
arXiv:1606.04080).
"""

import math
from collections import Counter
from functools import lru_cache
from typing import Annotated, Literal

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field, model_validator

from ..errors import TinyMetaFedError
from ..models.layers import Shape
from . import datasets, pictures
from .base import PARTS, Limits, Part
from .fewshot import FewShot, Pool

DRAWINGS = 20
"""Of each character."""
LARGEST = 512
"""Pixels of an image's side, of which Omniglot's have 105. What `_ink` computes with has up to 28²
as many pixels as the image."""


class Archive(datasets.File):
    """alphabets: with the number of their characters."""

    alphabets: dict[str, int]


class Card(datasets.Card):
    """Of Omniglot."""

    files: dict[str, Archive]


VALIDATION, UNSEEN = (
    tuple(f"images_evaluation/{name}" for name in names)
    for names in (
        (
            "Angelic", "Atemayar_Qelisayer", "Atlantean", "Aurek-Besh", "Avesta", "Ge_ez",
            "Glagolitic", "Gurmukhi", "Kannada", "Keble",
        ),
        (
            "Malayalam", "Manipuri", "Mongolian", "Old_Church_Slavonic_(Cyrillic)", "Oriya",
            "Sylheti", "Syriac_(Serto)", "Tengwar", "Tibetan", "ULOG",
        ),
    )
)  # fmt: skip


class Omniglot(FewShot):
    """Omniglot: N handwritten characters to tell apart; devices of another part have other
    alphabets."""

    name: Literal["omniglot"]
    size: Literal[14, 28] = 14
    """Side of an image in pixels; a pixel is the part of its area that is ink."""
    rotations: bool = True
    """Whether characters turned by 90°, 180° and 270° are further classes."""
    seen: Annotated[tuple[str, ...], Field(min_length=1)] = ("images_background",)
    """What seen devices draw from: archives of the card, or single alphabets, `"archive/alphabet"`.
    No alphabet may be in two parts."""
    unseen: Annotated[tuple[str, ...], Field(min_length=1)] = UNSEEN
    """What unseen devices draw from; the last ten alphabets of images_evaluation if not given."""
    validation: tuple[str, ...] = Field(
        default_factory=lambda data: VALIDATION if data["unseen"] == UNSEEN else ()
    )
    """What devices for validation draw from; the first ten alphabets of images_evaluation if
    neither this nor `unseen` is given, and else nothing if not given."""

    @property
    def shape(self) -> Shape:
        return Shape(self.size, self.size, 1)

    def limits(self, *, part: Part) -> Limits:
        count = math.inf if getattr(self, part) else 0
        return Limits(devices=count, samples=self.ways * DRAWINGS, classes=self.ways)

    @model_validator(mode="after")
    def _alphabets_suffice(self) -> "Omniglot":
        found: dict[str, str] = {}  # by alphabet, the part that it is in
        for key in ("seen", "unseen", "validation"):
            try:
                alphabets = _alphabets(getattr(self, key))
            except ValueError as error:
                raise ValueError(f"{key}: {error}") from None
            characters = sum(_card().files[a].alphabets[name] for name, a in alphabets.items())
            classes = characters * (4 if self.rotations else 1)
            if alphabets and self.ways > classes:
                raise ValueError(f"ways: {self.ways} of the {classes} classes of task.{key}")
            if both := sorted(found.keys() & alphabets.keys()):
                raise ValueError(
                    f"{key}: {', '.join(both)} would be {found[both[0]]} too; name the other "
                    'alphabets one by one, as "archive/alphabet"'
                )
            found |= dict.fromkeys(alphabets, key)
        return self

    def prepare(self, seed: int) -> dict[str, str]:
        made_of = {"pillow": PIL.__version__}
        for part in PARTS:
            if not (alphabets := _alphabets(getattr(self, part))):
                continue
            self.pool(seed, part=part)
            made_of[f"task.{part}"] = ", ".join(alphabets)
            for archive in alphabets.values():
                file = _card().files[archive]
                made_of[file.name] = f"sha256:{file.sha256}"
        return made_of

    def pool(self, seed: int, *, part: Part) -> Pool:
        return _pool(getattr(self, part), self.size, self.rotations)


def _card() -> Card:
    return datasets.card(Card, "omniglot")


def _alphabets(entries: tuple[str, ...]) -> dict[str, str]:
    """The alphabets of a part, each with the archive to take it from. Raises ValueError
    where the card has none of that name."""
    files = _card().files
    found: dict[str, str] = {}
    for entry in entries:
        archive, slash, alphabet = entry.partition("/")
        if archive not in files:
            raise ValueError(f"'{archive}' is unknown; use {', '.join(files)}")
        known = files[archive].alphabets
        if slash and alphabet not in known:
            raise ValueError(f"'{entry}' is unknown; {archive} has {', '.join(known)}")
        for name in [alphabet] if slash else known:
            found.setdefault(name, archive)  # the same characters in every archive
    return found


@lru_cache(maxsize=4)
def _pool(entries: tuple[str, ...], size: int, rotations: bool) -> Pool:
    alphabets = _alphabets(entries)
    images: dict[tuple[str, str], list[NDArray[np.uint8]]] = {}
    for archive in sorted(set(alphabets.values())):
        file = _card().files[archive]
        path = datasets.find(file)
        for name, data in sorted(datasets.members(path, ".png")):
            alphabet, character = ("", "", *name.parts)[-3:-1]
            if alphabets.get(alphabet) == archive:
                try:
                    image = _ink(data, size)
                except ValueError as error:
                    raise TinyMetaFedError(f"{path}: {name}: {error}") from None
                images.setdefault((alphabet, character), []).append(image)
        found = Counter(alphabet for alphabet, _ in images)
        for alphabet in (one for one, of in alphabets.items() if of == archive):
            if found[alphabet] != (characters := file.alphabets[alphabet]):
                raise TinyMetaFedError(
                    f"{path}: {alphabet} has {found[alphabet]} characters, and its card says "
                    f"{characters}"
                )
    drawings = np.array([image for drawn in images.values() for image in drawn])
    ends = np.cumsum([len(drawn) for drawn in images.values()])
    characters = np.split(np.arange(len(drawings)), ends[:-1])
    turns = range(4 if rotations else 1)
    turned = [np.rot90(drawings, k, axes=(1, 2)).reshape(len(drawings), -1) for k in turns]
    classes = [rows + k * len(drawings) for k in turns for rows in characters]
    names = [f"{'/'.join(one)}{f' {90 * k}°' if k else ''}" for k in turns for one in images]
    return Pool(np.concatenate(turned), np.float32(255), tuple(classes), tuple(names))


def _ink(png: bytes, size: int) -> NDArray[np.uint8]:
    """uint8 [size, size]: the part of a pixel's area that is ink, of 255. What is transparent is
    paper. Raises ValueError, which says what is wrong with the image."""
    # Other formats are not looked for: Pillow hands some to programs of the system.
    grey = pictures.read(png, ("PNG",), largest=LARGEST, square=True)
    # Pillow averages areas of whole pixels only.
    wide = grey.width * size // math.gcd(grey.width, size)
    fine = grey.resize((wide, wide), Image.Resampling.NEAREST)
    return 255 - np.asarray(fine.reduce(wide // size))
