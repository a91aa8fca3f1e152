"""What has to be true of the experiment; `pytest` runs it on host and emulated nodes."""

import pytest

pytestmark = pytest.mark.tmf_experiment("pumps.toml")


def test_it_learns(tmf_federation):
    before = tmf_federation.loss()
    tmf_federation.run_rounds(20)
    assert tmf_federation.loss() < 0.8 * before


def test_the_model_fits(tmf_node):
    assert tmf_node.memory < 16 * 1024


@pytest.mark.tmf_backends("qemu")
def test_what_a_round_costs(tmf_federation):
    tmf_federation.run_rounds(2)
    assert tmf_federation.bytes_per_round < 6_000
    assert tmf_federation.joules_per_round < 0.003


def test_a_node_that_loses_its_power_comes_back(tmf_federation):
    tmf_federation.nodes[1].cut_power()
    tmf_federation.run_rounds(1)
    assert tmf_federation.nodes[1].is_running
