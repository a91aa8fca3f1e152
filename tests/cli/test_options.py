"""What the command line says of itself, and to a shell."""

from importlib import metadata
from pathlib import Path

import pytest

from calling import call


def test_the_version(folder: Path):
    called = call(folder, "--version")
    assert (called.returncode, called.stdout) == (
        0,
        f"tinymetafed {metadata.version('tinymetafed')}\n",
    )


def _completed(folder: Path, words: str) -> list[str]:
    """What bash is offered for the last of the words."""
    count = len(words.split(" ")) - 1
    called = call(
        folder, _TINYMETAFED_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=str(count)
    )
    return called.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("tinymetafed pl", ["plan"]),
        ("tinymetafed run --resu", ["--resume"]),
        ("tinymetafed run dem", ["demo"]),
        ("tinymetafed plan dem", ["demo"]),
        ("tinymetafed compare pap", ["paper"]),
        ("tinymetafed compare dem", []),
        ("tinymetafed run sm", ["smoke", "small.toml"]),
        ("tinymetafed run sub", ["sub/"]),
        ("tinymetafed run sub/", ["sub/mine.toml"]),
    ],
)
def test_a_shell_completes(folder: Path, words: str, offered: list[str]):
    (folder / "sub").mkdir()
    (folder / "sub/mine.toml").write_text("")
    (folder / "small.txt").write_text("")
    assert _completed(folder, words) == offered


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell(folder: Path, shell: str):
    # Without a shell that runs the test, Typer would find none.
    called = call(
        folder, "--show-completion", shell, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1"
    )
    assert called.returncode == 0, called.stderr
    assert "_TINYMETAFED_COMPLETE" in called.stdout
