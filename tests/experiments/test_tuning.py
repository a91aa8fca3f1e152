"""What is tuned of a comparison, and the file of what was chosen."""

from pathlib import Path

import pytest

from comparing import read, write
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.experiments import comparison, search_space, tuned, tuning
from tinymetafed.places import PROJECT
from tuning import TUNE, more, searches


def test_a_trial_is_the_run_on_other_seeds_judged_evenly_by_devices_for_validation(tmp_path: Path):
    rounds = ("target = 100", "target = 100\nchanges.rounds = 40\nchanges.nodes.emulate = 2")
    found = searches(tmp_path, rounds, more("share = 0.5\nchanges.devices.seen = 99"))
    assert [str(one) for one in found] == ["sine × few", "sine × Reptile"]
    _, cells = read(tmp_path, rounds)
    for search, cell in zip(found, cells[::2], strict=True):
        assert search.judged == [4, 8, 12, 16, 20]
        for seed, one in zip((11, 12), search.experiments, strict=True):
            assert (one.seed, one.rounds, one.nodes.emulate, one.devices.seen) == (seed, 20, 0, 99)
            assert one.strategy == cell.experiment.strategy
            assert one.evaluation.devices == cell.experiment.evaluation.devices
            assert len(one.devices_of("unseen")) == 0


@pytest.mark.parametrize(("rounds", "judged"), [(1, [1]), (3, [1, 2, 3]), (7, [2, 4, 6, 7])])
def test_the_last_judgement_is_after_the_last_round(tmp_path: Path, rounds: int, judged: list[int]):
    change = ("target = 100", f"target = 100\nchanges.rounds = {rounds}")
    assert searches(tmp_path, change)[0].judged == judged


@pytest.mark.parametrize("name", ["comparison", "feedback", "paper"])
def test_strategies_that_have_a_setting_search_it_over_the_same_range(name: str):
    _, _, found = tuning.read(PROJECT / f"experiments/{name}.toml")
    ranges: dict[str, set[str]] = {}
    for one in found:
        assert one.parameters
        for parameter in one.parameters:
            ranges.setdefault(parameter.path, set()).add(str(parameter.range))
    assert all(len(different) == 1 for different in ranges.values())
    rates = ("rate", "local_rate", "global_rate", "meta_rate", "client.rate")
    assert {str(ranges[one]) for one in rates if one in ranges} == {"{'0.001 to 0.3'}"}
    assert "percent" not in ranges
    assert "client.outer_rate" not in ranges  # the server of FedAdam has no use for it


def test_the_nearest_range_holds(tmp_path: Path):
    found = searches(
        tmp_path,
        more("space.outer_rate = { low = 0.5, high = 4 }\nspace.epochs = { searched = false }"),
        ("target = 100", "target = 100\nspace.outer_rate = { low = 1, high = 5 }"),
        ("epochs = 2", "epochs = 2\nspace.batch = { choices = [1, 3] }"),
        ("percent = 10", "percent = 10\nspace.percent = { low = 1, high = 20, log = true }"),
    )
    ranges = [{one.path: str(one.range) for one in search.parameters} for search in found]
    few, reptile = ranges
    assert few == {
        "outer_rate": "1 to 5", "local_rate": "0.001 to 0.3", "global_rate": "0.001 to 0.3",
        "percent": "1 to 20",
    }  # fmt: skip
    assert reptile == {"outer_rate": "1 to 5", "rate": "0.001 to 0.3", "batch": "one of 1, 3"}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("seeds = [1]", "tune.seeds: 1 is one of the comparison's seeds; tune with others"),
        ("seeds = [7, 7]", "tune.seeds: 7 is there twice"),
        ("seeds = []", "tune.seeds: [] is not allowed; use a list of values at least 1"),
        ("share = 0", "tune.share: 0 is not allowed; use a number more than 0"),
        ("trials = 3", "tune.trials: unknown key; known are: seeds, share, changes, space"),
        ("changes.rounds = 0", "sine × few: rounds: 0 is not allowed; use a whole number at"),
        ("space.ratte = { low = 1, high = 2 }", "tune.space.ratte: is no setting of its strat"),
        ("space.rate = { low = 1 }", "tune.space.rate.low: give low and high, or choices, or"),
        ("space.rate = { low = 2, high = 1 }", "tune.space.rate.high: 1 is not above low"),
        ("space.rate = { low = 0, high = 1, log = true }", "tune.space.rate.low: 0 has no log"),
        ("space.rate = { low = 1, high = 2, choices = [1] }", "tune.space.rate.choices: give eith"),
        ("space.rate = { choices = [[1]] }", "tune.space.rate.choices: use numbers, texts, true"),
        ("space.rate = { choices = [1, 1] }", "tune.space.rate.choices: one is there twice"),
        ("space.rate = { low = 1, searched = false }", "tune.space.rate.searched: what is not"),
        (
            "space.rate = { low = 0.1, high = 1 }",
            "sine × Reptile: tune.space.rate: rate = 0.01 is outside of what is searched, 0.1 to 1",
        ),
        (
            "space.rate = { low = 0.001, high = 20 }",
            "sine × Reptile: tune.space.rate: rate cannot be 20.0: Input should be less than or",
        ),
        (
            "space.batch = { low = 1.5, high = 9 }",
            "sine × Reptile: tune.space.batch: batch is a whole number; give whole ones",
        ),
        (
            "space.values = { low = 1, high = 9 }",
            "sine × few: tune.space.values: values is 'float32', which is no number; give choices",
        ),
        (
            "space.values = { choices = ['float32', 'int4'] }",
            "sine × few: tune.space.values: values cannot be 'int4': Input should be",
        ),
    ],
)  # fmt: skip
def test_a_wrong_file_is_said_in_one_line(tmp_path: Path, line: str, says: str):
    change = ("seeds = [11, 12]", line) if line.startswith("seeds") else more(line)
    with pytest.raises(TinyMetaFedError) as error:
        searches(tmp_path, change)
    assert str(error.value).startswith(f"{tmp_path / 'two.toml'}: {says}")
    assert "\n" not in str(error.value)


def test_a_key_near_a_strategy_is_of_that_strategy(tmp_path: Path):
    wrong = ("percent = 10", "percent = 10\nspace.rate = { low = 0.1, high = 1 }")
    with pytest.raises(TinyMetaFedError, match=r"two\.toml: strategies\.0\.space\.rate: is no set"):
        searches(tmp_path, wrong)


def test_what_the_page_says_is_searched(tmp_path: Path):
    text = (PROJECT / "docs/tuning.md").read_text()
    path = tmp_path / "three.toml"
    path.write_text(text.partition("```toml\n")[2].partition("```")[0])
    _, _, found = tuning.read(path)
    assert [one.judged for one in found] == [[20, 40, 60, 80, 100]] * 3
    table = text.partition("| --- | --- | --- |\n")[2].partition("\n\n")[0]
    said: dict[str, str] = {}
    for line in table.splitlines():
        names, span, _ = line.strip("| ").split(" | ", 2)
        said |= dict.fromkeys(names.replace("`", "").split(", "), span)
    known = {name: str(span) for name, span in search_space.DEFAULT.items() if span.searched}
    assert said == known


def test_seeds_that_nobody_gave_are_not_those_of_the_comparison(tmp_path: Path):
    path = write(tmp_path, ("seeds = [1, 2]", "seeds = [1, 1002]"))
    comparison.read(path)
    with pytest.raises(TinyMetaFedError, match="tune.seeds: 1002 is one of the comparison's"):
        tuning.read(path)


FOUND = '["sine"."few"]\nglobal_rate = 0.02\n["sine"."Reptile"]\nbatch = 2\n'


def test_settings_that_were_chosen_hold_before_those_of_the_file(tmp_path: Path):
    _, before = read(tmp_path)
    (tmp_path / "found.toml").write_text(FOUND)
    _, cells = read(tmp_path, ("seeds", "tuned = 'found.toml'\nseeds"))
    for cell, old in zip(cells, before, strict=True):
        changes = {"few": {"global_rate": 0.02}, "Reptile": {"batch": 2}}[cell.strategy]
        strategy = old.experiment.strategy.model_copy(update=changes)
        assert cell.experiment == old.experiment.model_copy(update={"strategy": strategy})
    # They are no settings of the file for another search.
    path = write(tmp_path, TUNE, ("seeds = [1, 2]", "tuned = 'found.toml'\nseeds = [1, 2]"))
    assert [one.own for one in tuning.read(path)[2]] == [one.own for one in searches(tmp_path)]


def test_the_file_says_what_was_written(tmp_path: Path):
    labels = 'a "b"\\ # é', "P = 1%, FedAdam\x7f"
    values = {"client.rate": 1e-05, "batch": 3, "values": "int8", "error_feedback": True}
    digests = {labels[0]: "sha256:0"}
    tuned.write(tmp_path / "found.toml", ["head"], [(*labels, values, "said")], digests)
    found = tuned.read(tmp_path / "found.toml", "two.toml", [labels[0]], [labels[1]])
    assert found.digests == digests
    assert found.settings[labels[0]][labels[1]] == {
        "client": {"rate": 1e-05}, "batch": 3, "values": "int8", "error_feedback": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "two.toml: tuned: {}: no such file; 'tinymetafed tune"),
        ("sine = 1", "{}: sine: is no table; run 'tinymetafed tune"),
        ("[sine]\nfew = 1\nReptile = 1", "{}: sine.few: is no table"),
        ("[sine.few]", "{}: sine.Reptile: missing; run 'tinymetafed tune"),
        (f"{FOUND}[sine.more]", "{}: sine.more: "),
        (f"{FOUND}[other]", "{}: other: "),
        (FOUND.replace("batch", "bacth"), "{}: sine.Reptile.bacth: unknown key; known are:"),
        (FOUND.replace("batch = 2", "batch = 0"), "{}: sine.Reptile.batch: 0 is not allowed; use"),
        (FOUND.replace("batch = 2", "a = 1\nb = 2\nc = 3"), "{}: sine.Reptile.a: unknown key; kn"),
        (f"tuned_on = 1\n{FOUND}", "{}: tuned_on: is no table; run 'tinymetafed tune"),
        ("[", "{}: not TOML"),
    ],
)
def test_a_file_of_other_settings_is_said_so(tmp_path: Path, content: str | None, says: str):
    if content is not None:
        (tmp_path / "found.toml").write_text(content)
    with pytest.raises(TinyMetaFedError) as error:
        read(tmp_path, ("seeds", "tuned = 'found.toml'\nseeds"))
    assert says.format(tmp_path / "found.toml") in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_wrong_in_the_comparison_is_not_said_of_the_tuned_file(tmp_path: Path):
    (tmp_path / "found.toml").write_text(FOUND)
    change = ("seeds", "tuned = 'found.toml'\nseeds")
    with pytest.raises(TinyMetaFedError, match=r"two\.toml: sine × few: strategy\.percent: 101"):
        read(tmp_path, change, ("percent = 10", "percent = 101"))


LAYERS = "\nchanges.model.layers.0.units = 3"


@pytest.mark.parametrize(
    ("old", "new", "stale"),
    [
        ("target = 100", f"target = 100{LAYERS}", True),
        ("target = 100", "target = 100\nchanges.task.amplitude = [1.0, 2.0]", True),
        ("target = 100", "target = 100\nchanges.devices.seen = 7", True),
        ("target = 100", "target = 100\nchanges.nodes.per_round = 1", True),
        ("target = 100", "target = 100\nchanges.evaluation.steps = 3", True),
        ("percent = 10", f"percent = 10{LAYERS}", True),  # of one of the strategies
        ("target = 100", "target = 100\nchanges.rounds = 7", False),
        ("target = 100", "target = 100\nchanges.evaluation.every = 1", False),
        ("target = 100", "target = 100\nchanges.nodes.threads = 1", False),
        ("percent = 10", "percent = 20", False),
        ("seeds = [1, 2]", "seeds = [3]", False),
        ('name = "two"', 'name = "other"', False),
    ],
)
def test_who_compares_on_other_settings_than_were_tuned_on_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, old: str, new: str, stale: bool
):
    found = tmp_path / "found.toml"
    settings, path = comparison.parse(write(tmp_path))
    digests = comparison.digests(comparison.untuned(settings, path))
    chosen = [("sine", "few", {"global_rate": 0.02}, ""), ("sine", "Reptile", {"batch": 2}, "")]
    tuned.write(found, [], chosen, digests)
    read(tmp_path, ("[[tasks]]", "tuned = 'found.toml'\n[[tasks]]"))
    assert not caplog.messages
    read(tmp_path, ("[[tasks]]", "tuned = 'found.toml'\n[[tasks]]"), (old, new))
    says = f"{found}: found on other settings of sine; run 'tinymetafed tune {path}' again"
    assert caplog.messages == ([says] if stale else [])


def test_the_settings_that_come_with_the_bench_are_those_of_its_comparison(
    caplog: pytest.LogCaptureFixture,
):
    settings, cells = comparison.read(PROJECT / "experiments/paper.toml")
    found = tuned.read(
        PROJECT / "experiments/tuned/paper.toml", "paper.toml", *comparison.labels(settings)
    )
    assert found.digests == comparison.digests(cells)
    assert not caplog.messages


def test_the_tuned_file_says_what_trials_saw_of_what_is_unseen(tmp_path: Path):
    table = tmp_path / "rows.csv"
    rows = (f"d{i % 8},{i},{i * 2}" for i in range(80))
    table.write_text("\n".join(["device,x,y", *rows]) + "\n")
    data = (
        "changes.task = {{ name = 'table', path = 'rows.csv', device_column = 'device', "
        "target = 'y', regression = true{} }}\nchanges.devices.seen = 4\n"
        "changes.evaluation = {{ devices = 1, unseen = 1, support = 4, query = 6 }}\n"
        "changes.model.layers = [{{ units = 1 }}]"
    )
    for more_keys, count in (("", 1), (", split = 1", 0)):
        change = ("target = 100", f"target = 100\n{data.format(more_keys)}")
        settings, _, found = tuning.read(write(tmp_path, TUNE, change))
        lines = tuning.leaks(settings, found)
        assert len(lines) == count
        assert all(line.startswith("sine: what is unseen depends on the seed") for line in lines)
