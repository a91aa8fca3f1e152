"""The page of a comparison of which not all has run."""

import json
import logging
import re
from pathlib import Path

import pytest

from comparing import read
from running import execute
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.report import page
from tinymetafed.report.following import Source

ANOTHER = """
[[tasks]]
label = "cosine"
experiment = "small.toml"
target = 1
changes = { rounds = 2 }
[tasks.strategies.reptile]
query = 6
[[strategies]]
label = "few"
"""


def test_what_has_not_run_is_said_and_what_the_page_compares_with_instead(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    settings, cells = read(
        tmp_path, ("seeds = [1, 2]", "seeds = [1]\nbaseline = 'few'"),
        ('[[strategies]]\nlabel = "few"', ANOTHER),
    )  # fmt: skip
    (cell,) = (one for one in cells if (one.task, one.strategy) == ("sine", "Reptile"))
    store, _ = execute(cell.experiment, tmp_path)
    with caplog.at_level(logging.WARNING):
        source = Source.of_comparison(store, settings, cells)
        found = source.read()
        source.read(going_on=True)
    assert caplog.messages == [  # once
        "comparison two: these have no run: sine: few; cosine: all strategies. The page compares "
        "with Reptile, not with the baseline, few"
    ]
    assert (found.baseline, list(found.absent)) == ("Reptile", ["cosine"])
    html = page.render(found)
    assert '<p class="note">Not run: cosine.</p>' in html
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', html)
    first, second, *_ = json.loads(text)["tasks"][0]["verdicts"][0]["sentences"]
    assert first[0].startswith("Reptile ")
    assert second == ["Not run: few."]
    caplog.clear()
    with pytest.raises(
        TinyMetaFedError,
        match=r"^--baseline few: it has no run in the store yet; there are: Reptile$",
    ):
        Source.of_comparison(store, settings, cells, "few").read()
    with pytest.raises(TinyMetaFedError, match="--baseline none: no label of a strategy; there"):
        Source.of_comparison(store, settings, cells, "none").read()
    assert Source.of_comparison(store, settings, cells, "Reptile").read().baseline == "Reptile"
    assert not any("compares with" in text for text in caplog.messages)
