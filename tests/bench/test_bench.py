"""The measurements measure, and what they found is shown; no figure of speed is asserted."""

import json
from pathlib import Path

from printing import printed
from tinymetafed.bench import Measured, emulated, host, kernels
from tinymetafed.bench.measuring import machine, sine
from tinymetafed.report import bench


def _measured() -> Measured:
    rounds = [emulated.rounds(sine(f"nodes.count={n}"), 2) for n in (1, 2)]
    small = "model.layers=[{units=4, activation='tanh'}, {units=1, local=true}]"
    rounds.append(emulated.rounds(sine("nodes.count=2", small), 2))
    hosts = [
        host.rounds(sine("nodes.backend=host", f"nodes.count={n}", f"nodes.threads={threads}"), 1)
        for threads, n in ((1, 3), (1, 6), (2, 3))
    ]
    hosts.append(host.rounds(sine("nodes.backend=host", "nodes.count=3", small), 1))
    boots = [emulated.boot(sine("nodes.count=2"))]
    kernel = kernels.measure("196-64-5", kernels.MODELS["196-64-5"])
    layers = [kernels.layer(name) for name in ("dense, 128 to 128", "max_pool2d, 3 × 3")]
    links = emulated.links(2)
    return Measured(machine(), kernels.image(), [kernel], layers, links, boots, rounds, hosts)


def test_what_is_measured_is_shown_and_written(tmp_path: Path):
    found = _measured()
    assert [one.link for one in found.links] == ["dma", "uart"]
    assert found.links[0].size == found.links[1].size > 4 * 1761
    for one in found.rounds:
        assert one.wall > 0
        assert one.orchestrator > 0
    for one in found.boots:
        assert sum(one.memory.values()) > 1 << 20
    for one in found.hosts:
        assert min(one.wall, one.core, one.processors) > 0
    dense, pool = found.layers
    assert 2 < dense.forward < dense.backward  # a load, a multiplication, an addition
    assert min(pool.forward, pool.backward) > 0
    text = "".join(printed(table) for table in bench.tables(found))
    for part in ("196-64-5", "12,933", "16,384", "dma", "uart", "threads", "MiB each"):
        assert part in text
    bench.write_json(found, tmp_path / "bench.json")
    assert json.loads((tmp_path / "bench.json").read_text())["rounds"][1]["nodes"] == 2
    for path in bench.figures(found, tmp_path / "figures"):
        assert path.read_bytes().startswith(b"\x89PNG")
