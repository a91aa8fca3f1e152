"""Spoken words as tasks: whose recordings a device has, and what is made of them."""

import io
import re
import wave
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import FindReal, UseCard
from tiny import RECORDINGS, SPEAKERS, WORDS, Origin, checked, make_keywords, pack, wav
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.settings import read
from tinymetafed.tasks import Keywords, datasets, keywords
from tinymetafed.tasks.keywords import Card
from tinymetafed.tasks.spectra import Features, spectrum

FEATURES = Features(window=40, step=40, coefficients=10)
SPEECH = [(np.random.default_rng(i).normal(size=8000) * 2000).astype(np.int16) for i in range(3)]
Recordings = dict[Origin, list[bytes]]


def _task(data: str, **settings: object) -> Keywords:
    own = {"name": "keywords", "data": data, "ways": 2, "validation": 0, **settings}
    return Keywords.model_validate(own)


@pytest.fixture(params=["fsdd", "speech_commands"])
def recordings(
    request: pytest.FixtureRequest, data: Path, use_card: UseCard
) -> tuple[str, Recordings]:
    """The name of the data set, and its recordings."""
    card, found = make_keywords(data, request.param)
    use_card(card)
    return request.param, found


@pytest.mark.parametrize("seed", range(4))
def test_devices_have_whole_words_of_their_own_speakers(
    recordings: tuple[str, Recordings], seed: int
):
    """And features standardised by what the seen devices have alone."""
    data, found = recordings
    task = _task(data, unseen=0.5)
    unseen_speakers = set(task.prepare(seed)["task.unseen"].split(", "))
    assert len(unseen_speakers) == 2
    mfccs = {
        origin: [spectrum(one, FEATURES).astype(float) for one in several]
        for origin, several in found.items()
    }
    heard = np.concatenate([
        one for (_, speaker), several in mfccs.items() if speaker not in unseen_speakers
        for one in several
    ])  # fmt: skip
    origins = {
        ((one - heard.mean(axis=0)) / heard.std(axis=0)).astype(np.float32).tobytes(): origin
        for origin, several in mfccs.items()
        for one in several
    }
    for part in ("seen", "unseen"):
        speakers: set[str] = set()
        for device in range(30):
            words: dict[int, set[str]] = {0: set(), 1: set()}
            inputs: list[bytes] = []
            for samples in task.device(seed, device, 4, 6, part=part):
                assert np.bincount(samples.targets.astype(int)).tolist() == [len(samples) // 2] * 2
                for values, label in zip(samples.inputs, samples.targets, strict=True):
                    word, speaker = _nearest(origins, values)
                    words[int(label)].add(word)
                    speakers.add(speaker)
                    inputs.append(values.tobytes())
            assert len(set(inputs)) == 10
            assert len(words[0]) == len(words[1]) == 1
            assert words[0] != words[1]
        assert speakers == (
            unseen_speakers if part == "unseen" else set(SPEAKERS[data]) - unseen_speakers
        )


def _nearest(origins: dict[bytes, Origin], values: np.ndarray) -> Origin:
    """The sums behind the standardisation are in another order, so the last bits may differ."""
    known = np.array([np.frombuffer(key, np.float32) for key in origins])
    distances = np.abs(known - values).max(axis=1)
    assert distances.min() < 1e-4
    return list(origins.values())[int(distances.argmin())]


def test_the_same_seed_and_device_give_the_same_samples(recordings: tuple[str, Recordings]):
    def packed(seed: int, device: int) -> tuple[bytes, ...]:
        return tuple(part.packed for part in _task(recordings[0]).device(seed, device, 4, 6))

    assert packed(1, 2) == packed(1, 2)
    assert len({packed(seed, device) for seed in (1, 2, 3) for device in range(20)}) == 60


def test_features_are_computed_once(
    recordings: tuple[str, Recordings], monkeypatch: pytest.MonkeyPatch
):
    data, _ = recordings
    before = _task(data).device(1, 1, 4, 4)[0]
    other = _task(data, coefficients=7).device(1, 1, 4, 4)[0]
    assert (before.inputs.shape[1], other.inputs.shape[1]) == (250, 175)
    keywords._split.cache_clear()
    monkeypatch.setattr(keywords, "spectrum", None)
    assert _task(data).device(1, 1, 4, 4)[0].packed == before.packed


def test_another_seed_has_other_unseen_speakers(recordings: tuple[str, Recordings]):
    drawn = {_task(recordings[0]).prepare(seed)["task.unseen"] for seed in range(40)}
    assert drawn == set(SPEAKERS[recordings[0]])


@pytest.mark.parametrize("share", [0.001, 0.3, 0.5, 0.999])
def test_there_are_speakers_on_both_sides(recordings: tuple[str, Recordings], share: float):
    task = _task(recordings[0], unseen=share)
    assert 1 <= task.never_heard <= 3
    for part in ("seen", "unseen"):
        most = task.limits(part=part).samples
        assert most == 2 * RECORDINGS * (
            task.never_heard if part == "unseen" else 4 - task.never_heard
        )
        support, query = task.device(1, 1, int(most) - 2, 2, part=part)
        assert len({row.tobytes() for row in (*support.inputs, *query.inputs)}) == most
        with pytest.raises(TinyMetaFedError, match=r"task: .* a class are asked for, and one has"):
            task.device(1, 1, int(most), 2, part=part)


def test_more_words_than_there_are(recordings: tuple[str, Recordings]):
    with pytest.raises(ValueError, match=r"ways: 4 of the 3 words of"):
        _task(recordings[0], ways=4)


@settings(deadline=None)
@given(st.integers(20, 1000), st.integers(10, 1000), st.integers(1, 23))
def test_a_sample_s_rows_are_frames_and_its_columns_coefficients(
    window: int, step: int, coefficients: int
):
    task = _task("fsdd", window=window, step=step, coefficients=coefficients)
    assert (*spectrum(wav(SPEECH[0]), task.features).shape, 1) == task.shape


@pytest.mark.parametrize("sound", SPEECH, ids=range(3))
def test_loudness_moves_the_first_coefficient_alone(sound: np.ndarray):
    """And nothing is random in the features."""
    quiet, again, loud = (spectrum(wav(s), FEATURES) for s in (sound, sound, sound * 2))
    assert (quiet == again).all()
    moved = loud - quiet
    np.testing.assert_allclose(moved[:, 1:], 0, atol=1e-3)
    np.testing.assert_allclose(moved[:, 0], moved[0, 0], atol=1e-3)
    assert moved[0, 0] > 1


@settings(deadline=None)
@given(st.integers(1, 20_000), st.integers(0, 2**32 - 1))
def test_a_recording_is_cut_or_filled_up_at_both_ends(length: int, seed: int):
    sound = np.random.default_rng(seed).integers(-99, 99, length, dtype=np.int16)
    second = np.zeros(8000, np.int16)
    if length <= 8000:
        before = (8000 - length) // 2
        second[before : before + length] = sound
    else:
        before = (length - 8000) // 2
        second = sound[before : before + 8000]
    found, expected = (spectrum(wav(s), FEATURES) for s in (sound, second))
    np.testing.assert_array_equal(found, expected)


def test_features_are_kaldi_s_mfccs():
    """Against them computed step by step in double precision."""
    sound = SPEECH[0].astype(float)
    found = spectrum(wav(SPEECH[0]), FEATURES)
    size = 320
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / (size - 1))) ** 0.85  # "povey"
    mel = lambda hertz: 1127 * np.log(1 + np.asarray(hertz) / 700)  # noqa: E731
    centres = np.linspace(mel(20), mel(4000), 23 + 2)
    bins = mel(np.arange(256) * 8000 / 512)
    up = (bins - centres[:-2, None]) / np.diff(centres)[:-1, None]
    down = (centres[2:, None] - bins) / np.diff(centres)[1:, None]
    triangles = np.clip(np.minimum(up, down), 0, None)
    order, band = np.arange(10)[:, None], np.arange(23)
    cosines = np.sqrt(2 / 23) * np.cos(np.pi / 23 * (band + 0.5) * order)
    cosines[0] = np.sqrt(1 / 23)
    lifter = 1 + 11 * np.sin(np.pi * np.arange(10) / 22)
    for frame, coefficients in enumerate(found):
        part = sound[frame * size : (frame + 1) * size]
        part = part - part.mean()
        part = part - 0.97 * np.append(part[0], part[:-1])
        power = np.abs(np.fft.rfft(part * window, 512)[:256]) ** 2
        expected = lifter * (cosines @ np.log(triangles @ power))
        np.testing.assert_allclose(coefficients, expected, atol=0.02)


Repack = Callable[[str, bytes], bytes]


@pytest.fixture
def repacked(data: Path, use_card: UseCard) -> Callable[[Repack], Path]:
    """The tiny recordings, of which each is changed, knowing its name."""

    def repack(change: Repack) -> Path:
        card, _ = make_keywords(data, "fsdd")
        path = data / "recordings.zip"
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        pack(path, {
            name: change(name, one) if name.startswith("recordings/") else one
            for name, one in members.items()
        })  # fmt: skip
        file = checked(datasets.card(Card, "fsdd").file, path)
        use_card(card.model_copy(update={"file": file}))
        keywords._split.cache_clear()
        return path

    return repack


def _as(form: str, subtype: str, channels: int = 1) -> Repack:
    def change(name: str, recording: bytes) -> bytes:
        sound, rate = soundfile.read(io.BytesIO(recording))
        data = io.BytesIO()
        alike = np.repeat(sound[:, np.newaxis], channels, axis=1)
        soundfile.write(data, alike, rate, subtype, format=form)
        return data.getvalue()

    return change


@pytest.mark.parametrize(
    "change",
    [
        _as("WAV", "PCM_16", channels=2), _as("WAV", "PCM_24"), _as("WAV", "FLOAT"),
        _as("WAVEX", "PCM_16"), _as("FLAC", "PCM_16"),
    ],
)  # fmt: skip
def test_devices_hear_the_same_in_whatever_form_it_is_recorded(
    repacked: Callable[[Repack], Path], change: Repack
):
    def packed() -> list[bytes]:
        parts = [
            _task("fsdd").device(1, d, 4, 6, part=part)
            for d in range(5)
            for part in ("seen", "unseen")
        ]
        return [one.packed for pair in parts for one in pair]

    repacked(lambda name, recording: recording)
    expected = packed()
    repacked(change)
    assert packed() == expected


def test_a_recording_that_is_wrong_is_named(repacked: Callable[[Repack], Path]):
    path = repacked(lambda name, one: one[:-100] if name.endswith("1_bob_3.wav") else one)
    with pytest.raises(TinyMetaFedError) as caught:
        _task("fsdd").prepare(1)
    assert str(caught.value) == (
        f"{path}: recordings/1_bob_3.wav: is truncated: its header says that more samples follow"
    )
    assert not datasets.CACHE.exists()


def test_features_are_of_the_card_s_rate_and_pattern(data: Path, use_card: UseCard):
    """And not those that were kept for another."""
    card, _ = make_keywords(data, "fsdd")
    assert isinstance(card, Card)
    fewer = re.compile(r"(?P<word>\d)_(?P<speaker>[a-c])[a-z]*_\d+\.wav$")
    packed: list[bytes] = []
    for changes in ({}, {"rate": 16000}, {"recording": fewer}, {"recording": card.recording}):
        use_card(card.model_copy(update=changes))
        keywords._split.cache_clear()
        packed.append(_task("fsdd").device(1, 1, 4, 4)[0].packed)
    assert len(set(packed)) == 3
    assert packed[0] == packed[3]


def test_a_card_whose_pattern_matches_nothing(data: Path, use_card: UseCard):
    card, _ = make_keywords(data, "fsdd")
    use_card(card.model_copy(update={"recording": re.compile(r"(?P<word>x)(?P<speaker>y)$")}))
    with pytest.raises(TinyMetaFedError, match=r"zip: no recording's name matches \(\?P<word>x\)"):
        _task("fsdd").prepare(1)


def test_a_card_whose_pattern_has_no_speaker(tmp_path: Path):
    card = (datasets.FOLDER / "fsdd.toml").read_text()
    (tmp_path / "mine.toml").write_text(card.replace("<speaker>", "<by>"))
    with pytest.raises(
        TinyMetaFedError, match=r"mine.toml: recording: .* is not allowed; it needs"
    ):
        read(Card, tmp_path / "mine.toml")


def test_fewer_speakers_than_the_card_says(data: Path, use_card: UseCard):
    card, _ = make_keywords(data, "fsdd")
    use_card(card.model_copy(update={"speakers": 9}))
    with pytest.raises(
        TinyMetaFedError, match="^fsdd: recordings of 4 speakers, and its card says"
    ):
        _task("fsdd", unseen=0.5).prepare(1)


def test_words_that_nobody_says(data: Path, use_card: UseCard):
    card, _ = make_keywords(data, "fsdd")
    use_card(card.model_copy(update={"words": ("0", "7")}))
    with pytest.raises(TinyMetaFedError, match="2 samples of a class are asked for, and one has 0"):
        _task("fsdd").device(1, 1, 2, 2)


def test_where_all_is_silent_features_are_0(
    repacked: Callable[[Repack], Path], caplog: pytest.LogCaptureFixture
):
    repacked(lambda name, one: wav(np.zeros(100, np.int16)))
    support, _ = _task("fsdd").device(1, 1, 4, 4)
    assert (support.inputs == 0).all()
    assert caplog.messages == [
        "fsdd: constant in what seen speakers say, so 0 in every sample: MFCC 1, 2, 3, 4, 5, 6, 7, "
        "8, 9, 10"
    ]


def test_the_free_spoken_digits(real_data: FindReal):
    card = datasets.card(Card, "fsdd")
    real_data(card.file)
    count: dict[tuple[str, str], int] = {}
    for name, sound in datasets.members(datasets.find(card.file), ".wav"):
        match = card.recording.search(str(name))
        assert match is not None
        key = (match["word"], match["speaker"])
        count[key] = count.get(key, 0) + 1
        with wave.open(io.BytesIO(sound)) as file:
            assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 8000)
    assert {word for word, _ in count} == set(card.words)
    assert len({speaker for _, speaker in count}) == card.speakers
    assert set(count.values()) == {card.recordings}
    assert len(count) == len(card.words) * card.speakers


def test_the_tiny_words_are_of_the_card():
    for data, words in WORDS.items():
        assert set(words) <= set(datasets.card(Card, data).words)
