"""What docs/your-code.md, docs/api.md and examples/ say is what happens."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tinymetafed as tmf
from calling import call
from tinymetafed.places import PROJECT

YOUR_CODE = PROJECT / "docs/your-code.md"
API = PROJECT / "docs/api.md"


def blocks(path: Path, language: str) -> list[str]:
    """The code of a page."""
    fences = re.finditer(r"^```(\w*)\n(.*?)^```$", path.read_text(), re.DOTALL | re.MULTILINE)
    return [found[2] for found in fences if found[1] == language]


@pytest.mark.parametrize("page", sorted(PROJECT.glob("docs/*.md")), ids=lambda page: page.stem)
def test_who_installs_the_wheel_and_makes_a_page_has_the_extra_for_it(page: Path):
    shells = "\n".join(text for name in ("", "sh") for text in blocks(page, name))
    wheels = re.findall(r"^pip install .*tinymetafed-.*\.whl.*$", shells, re.MULTILINE)
    if re.search(r"^tinymetafed report |--report |--figures ", shells, re.MULTILINE):
        assert all("[report]" in one for one in wheels)


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files of docs/your-code.md."""
    names = ("fedadam", "shifted", "command")
    for name, text in zip(names, blocks(YOUR_CODE, "python"), strict=True):
        (tmp_path / f"{name}.py").write_text(text)
    [experiment] = blocks(YOUR_CODE, "toml")
    (tmp_path / "mine.toml").write_text(experiment)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_strategy_in_one_file_is_the_one_of_the_package(mine: Path):
    lines = (mine / "fedadam.py").read_text().count("\n")
    assert lines < 40
    own = tmf.run("mine.toml")
    client = "{name='reptile', query=10, batch=5, epochs=2}"
    strategy = f"strategy={{name='fedadam', beta1=0.8, client={client}}}"
    builtin = tmf.run(tmf.read_experiment("mine.toml", [strategy]))
    assert np.array_equal(own.theta, builtin.theta)
    assert own.done == 20


def test_what_the_page_prints(mine: Path):
    [commands, _] = blocks(YOUR_CODE, "")
    *good, wrong, says = commands.splitlines()
    for one in good:
        assert call(mine, *one.split()[1:]).returncode == 0
    ended = call(mine, *wrong.split()[1:])
    assert (ended.returncode, ended.stderr) == (1, f"{says}\n")


def test_the_task_of_the_page_is_learnt(mine: Path):
    changes = {"task": {"name": "./shifted.py:Shifted", "slope": 2}, "strategy.server_rate": 0.05}
    curve = tmf.run(tmf.read_experiment("mine.toml", changes)).learning_curve["loss_after"]
    before, *_, after = curve.tolist()
    assert after < 0.8 * before


NODE = """
import asyncio, sys
from tinymetafed.nodes.host import HostTransport
async def main():
    node = HostTransport()
    while data := sys.stdin.buffer.raw.read(65536):
        await node.write(data)
        try:
            sys.stdout.buffer.write(await node.read())
            sys.stdout.buffer.flush()
        except TimeoutError:
            pass
asyncio.run(main())
"""


def test_the_backend_of_the_page_comes_to_the_same(mine: Path):
    (mine / "node.py").write_text(NODE)
    command = f"exec {sys.executable} {mine}/node.py"
    nodes = {"backend": "./command.py:Command", "count": 2, "options": {"command": command}}
    small = {"rounds": 2, "evaluation.devices": 2}
    own = tmf.run(tmf.read_experiment("mine.toml", small | {"nodes": nodes}))
    host = tmf.run(tmf.read_experiment("mine.toml", small | {"nodes.count": 2}))
    assert np.array_equal(own.theta, host.theta)
    assert own.events.empty


def test_the_code_of_the_api(mine: Path):
    names: dict[str, object] = {}
    for text in blocks(API, "python"):
        exec(compile(text, str(API), "exec"), names)
    assert names["outputs"].shape == (50, 1)  # type: ignore[attr-defined]


def test_the_notebook(tmp_path: Path):
    path = tmp_path / "quickstart.ipynb"
    shutil.copy(PROJECT / "examples/quickstart.ipynb", path)
    program = Path(__file__).with_name("executing.py")
    ended = subprocess.run(
        [sys.executable, program, path], capture_output=True, text=True, check=False, timeout=120
    )
    assert ended.returncode == 0, ended.stderr
    assert [one.id for one in tmf.runs(store=tmp_path / "runs")] == [1, 2]
    cells = json.loads(path.read_text())["cells"]
    shown = [output for cell in cells for output in cell.get("outputs", [])]
    assert any("image/png" in one.get("data", {}) for one in shown)
    assert "error" not in {one["output_type"] for one in shown}


def test_the_reference_of_comparisons_says_what_a_search_space_is():
    spec = importlib.util.spec_from_file_location("pages", PROJECT / "docs/pages.py")
    assert spec is not None
    assert spec.loader is not None
    pages = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pages)
    text = pages.settings("comparison")
    headings = set(re.findall(r"^#+ `(.*)` \{", text, re.MULTILINE))
    assert {"[tune.space.NAME]", "[tasks.space.NAME]", "[tasks.strategies.NAME]"} <= headings
    assert "[tune.space]" not in headings
    assert set(re.findall(r"^\| `choices` \| (.*?) \|", text, re.MULTILINE)) == {"list of values"}
    links = re.findall(r"\]\(#(.*?)\)", text)
    assert set(links) <= set(re.findall(r"\{ #(.*?) \}", text))
