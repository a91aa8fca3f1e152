import os
from pathlib import Path

import pytest

from tinymetafed.bench import validation
from tinymetafed.bench.validation import CRCS, FLAGS, KERNELS, Measured, run_coremark, run_kernels
from tinymetafed.energy import timing
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.settings import names

M4 = KERNELS / "cortex-m4.toml"


@pytest.fixture(scope="module")
def measured() -> list[Measured]:
    return run_kernels(M4)


def test_the_model_agrees_with_the_manual(measured: list[Measured]):
    assert [one.kernel.name for one in measured if not one.good] == []


@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m33"])
def test_other_cores_agree_with_what_was_published(core: str):
    measured = run_kernels(KERNELS / f"{core}.toml")
    assert len(measured) > 10
    assert [one.kernel.name for one in measured if not one.good] == []


def test_every_core_has_kernels():
    assert {path.stem for path in KERNELS.glob("*.toml")} == set(FLAGS) == set(names(timing.FOLDER))


def test_every_class_has_a_loop(measured: list[Measured]):
    assert len(measured) > 30
    names = " ".join(one.kernel.name for one in measured)
    for name in (
        "ADD", "MUL", "UMULL", "UDIV", "LDR", "STR", "LDRD", "STRD", "LDM", "STM", "not taken",
        "taken", "IT", "VADD", "VMUL", "VFMA", "VDIV", "VCMP", "VCVT", "VMOV", "VLDR", "VSTR",
        "VLDM",
    ):  # fmt: skip
        assert name in names


def test_a_figure_that_is_not_the_model_s_is_not_good(tmp_path: Path):
    text = M4.read_text()
    head, kernels = text.split("[[kernels]]", 1)
    kernel = "[[kernels]]" + kernels.split("[[kernels]]")[0]
    (tmp_path / "kernels.toml").write_text(head + kernel.replace("cycles = 4", "cycles = 5"))
    (one,) = run_kernels(tmp_path / "kernels.toml")
    assert (one.expected, one.good) == (4, False)
    (tmp_path / "kernels.toml").write_text(head + kernel.replace("cycles = 4", "between = [5, 6]"))
    (one,) = run_kernels(tmp_path / "kernels.toml")
    assert not one.good


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("cycles = 4", ""), "kernels.0.cycles: give either cycles or between"),
        (("turns = 100", "turns = 0"), "turns: 0 is not allowed"),
        (('"add r0, r1, r2"', '"bad r0"'), "arm-none-eabi-gcc: .*bad instruction `bad r0'"),
    ],
)
def test_a_bad_file_of_kernels(tmp_path: Path, change: tuple[str, str], says: str):
    text = M4.read_text().replace(*change, 1)
    (tmp_path / "kernels.toml").write_text(text)
    with pytest.raises(TinyMetaFedError, match=says):
        run_kernels(tmp_path / "kernels.toml")


def test_no_coremark_there(tmp_path: Path):
    with pytest.raises(TinyMetaFedError, match=r"no CoreMark: core_list_join.c is missing"):
        run_coremark(tmp_path, "cortex-m4")


@pytest.mark.skipif("COREMARK" not in os.environ, reason="COREMARK names no folder of CoreMark")
@pytest.mark.parametrize(
    ("core", "least", "most"),
    [("cortex-m0plus", 1.9, 2.14), ("cortex-m4", 2.4, 2.8), ("cortex-m33", 3.3, 3.45)],
)
def test_coremark_passes_and_lands_among_boards(core: str, least: float, most: float):
    found = run_coremark(Path(os.environ["COREMARK"]), core)
    assert found.good
    assert found.crcs == CRCS
    low, score, high = found.score
    assert low <= score <= high
    assert least < score < most


def test_a_compiler_that_is_missing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(validation, "CROSS_GCC", "no-such-gcc")
    with pytest.raises(TinyMetaFedError, match="no-such-gcc is not installed; apt-get install"):
        run_kernels(M4)
