"""Data sets as small as can be, in the form of the real ones, for the real ones' cards."""

import io
import tarfile
import wave
import zipfile
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tinymetafed.tasks import datasets, keywords, omniglot, tabular
from tinymetafed.tasks.datasets import Card, File

ALPHABETS = {
    "images_background": {"Greek": 3, "Latin": 2},
    "images_evaluation": {"Tengwar": 2, "Tibetan": 3},
    "images_background_small1": {"Greek": 3},
}
SIDE = 14  # pixels of a tiny drawing
WORDS = {"speech_commands": ("go", "no", "up"), "fsdd": ("0", "1", "2")}
SPEAKERS = {"speech_commands": ("00ff", "1a2b", "c0de", "feed"), "fsdd": ("ann", "bob", "cy", "di")}
RECORDINGS = 5
ROWS = 40

Origin = tuple[str, ...]


def pack(path: Path, members: Mapping[str, bytes]) -> None:
    """A zip, or a tar where the name says so."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
    else:
        with tarfile.open(path, "w:gz") as archive:
            for name, content in members.items():
                member = tarfile.TarInfo(f"./{name}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))


def checked(file: File, path: Path) -> Any:
    """The file of a card as it would be with `path` in its place."""
    found = sha256(path.read_bytes()).hexdigest()
    return file.model_copy(update={"name": path.name, "sha256": found, "members": None})


def png(ink: NDArray[np.bool_]) -> bytes:
    """Black where there is ink, one bit a pixel, as Omniglot's are."""
    data = io.BytesIO()
    Image.fromarray(~ink).convert("1").save(data, "PNG")
    return data.getvalue()


def wav(sound: NDArray[np.int16], rate: int = 8000) -> bytes:
    """One channel, 16 bits."""
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(sound.astype("<i2").tobytes())
    return data.getvalue()


def make_omniglot(folder: Path) -> tuple[Card, dict[bytes, Origin]]:
    """The card, and where each image is from: archive, alphabet, character, quarter turns."""
    rng = np.random.default_rng(1)
    real = datasets.card(omniglot.Card, "omniglot")
    drawings: dict[tuple[str, str, int], NDArray[np.bool_]] = {}
    files: dict[str, Any] = {}
    origins: dict[bytes, Origin] = {}
    for archive, alphabets in ALPHABETS.items():
        members: dict[str, bytes] = {}
        for alphabet, characters in alphabets.items():
            for c in range(characters):
                for i in range(omniglot.DRAWINGS):
                    drawing = rng.random((SIDE, SIDE)) < 0.5
                    # An alphabet is the same in every archive that has it.
                    drawing = drawings.setdefault((alphabet, f"character{c:02}", i), drawing)
                    members[f"{archive}/{alphabet}/character{c:02}/{i:02}.png"] = png(drawing)
                    for turns in range(4):
                        image = np.rot90(drawing, turns).astype(np.float32)
                        origins.setdefault(
                            image.tobytes(), (archive, alphabet, f"character{c:02}", str(turns))
                        )
        pack(folder / f"{archive}.zip", members)
        file = checked(real.files[archive], folder / f"{archive}.zip")
        files[archive] = file.model_copy(update={"alphabets": alphabets})
    return real.model_copy(update={"files": files}), origins


def make_keywords(folder: Path, data: str) -> tuple[Card, dict[Origin, list[bytes]]]:
    """The card, and the recordings of each word and speaker."""
    rng = np.random.default_rng(2)
    real = datasets.card(keywords.Card, data)
    members = {"README.md": b"", "_background_noise_/hum.wav": wav(np.zeros(9, np.int16))}
    recordings: dict[Origin, list[bytes]] = {}
    for word in WORDS[data]:
        for speaker in SPEAKERS[data]:
            for i in range(RECORDINGS):
                length = int(rng.integers(2000, 12000)) * real.rate // 8000
                recording = wav(rng.integers(-9999, 9999, length, dtype=np.int16), real.rate)
                recordings.setdefault((word, speaker), []).append(recording)
                name = {
                    "speech_commands": f"{word}/{speaker}_nohash_{i}.wav",
                    "fsdd": f"recordings/{word}_{speaker}_{i}.wav",
                }[data]
                members[name] = recording
    path = folder / ("recordings.zip" if data == "fsdd" else "speech_commands.tar.gz")
    pack(path, members)
    changes = {"words": WORDS[data], "speakers": len(SPEAKERS[data]), "recordings": RECORDINGS}
    return real.model_copy(update={"file": checked(real.file, path), **changes}), recordings


def make_table(folder: Path) -> tuple[Card, NDArray[np.float64]]:
    """The card, and the table, which has no two rows alike."""
    rng = np.random.default_rng(3)
    real = datasets.card(tabular.Card, "iris")
    labels = rng.permutation(np.repeat([0, 0, 1, 2], ROWS // 4))
    values = np.round(rng.normal(labels[:, None], [1, 2, 3, 4], (ROWS, 4)), 3)
    table = np.column_stack([values, labels])
    path = folder / "table.csv"
    np.savetxt(path, table, delimiter=",", header="40,4,a,b,c", fmt="%g")
    return real.model_copy(update={"file": checked(real.file, path), "rows": ROWS}), table


ON_TABLE = (
    "task={name='tabular', data='iris', rows=8}", "devices.seen=3",
    "model={loss='softmax_cross_entropy', layers=[{units=6, activation='tanh'}, {units=3}]}",
    "strategy={name='tinymetafed', support=3, query=5}",
    "evaluation={devices=1, every=2, support=3, query=5}",
)  # fmt: skip
"""Changes to the small experiment that put it on the tiny table."""
