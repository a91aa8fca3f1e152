"""A few thousand inputs of libFuzzer, from the corpus on; `make fuzz` takes more."""

from pathlib import Path

import pytest

import fuzzing


@pytest.fixture(scope="module", autouse=True)
def harnesses() -> None:
    if (reason := fuzzing.missing()) is not None:
        pytest.skip(reason)
    fuzzing.build()


def test_whatever_a_node_is_sent_it_answers_or_drops(tmp_path: Path):
    """And most of the core is reached in so short a time, so that what was fuzzed is the core."""
    limits = {"raw": "-runs=3000", "requests": "-runs=400"}
    fuzzed = [fuzzing.fuzz(name, limit, seed=1, folder=tmp_path) for name, limit in limits.items()]
    assert all(one.runs >= 400 for one in fuzzed)
    files = fuzzing.coverage(fuzzed)
    assert {"tmf_node.c", "tmf_link.c", "tmf_learn.c", "tmf_matrix.c"} <= files.keys()
    reached, lines = map(sum, zip(*files.values(), strict=True))
    assert reached / lines > 0.93


def test_the_corpus_is_small():
    files = [path for path in fuzzing.CORPUS.rglob("*") if path.is_file()]
    assert 50 < len(files) < 100
    assert sum(path.stat().st_size for path in files) < 100_000


@pytest.mark.parametrize("harness", fuzzing.HARNESSES)
def test_what_ends_early_is_not_taken_for_one_without_a_finding(
    harness: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The sanitizers end it, of too much memory."""
    monkeypatch.setenv("ASAN_OPTIONS", "hard_rss_limit_mb=10")
    with pytest.raises(fuzzing.Finding, match=f"fuzz_{harness}: "):
        fuzzing.fuzz(harness, "-runs=1000000", seed=1, folder=tmp_path)
