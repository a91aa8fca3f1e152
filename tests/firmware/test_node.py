"""The node itself, where only its own timing shows."""

from types import SimpleNamespace

from learning import frame_of
from tinymetafed.link import Connection, messages


def test_a_request_right_behind_an_answer_is_not_lost(core: SimpleNamespace):
    request = frame_of(Connection(), messages.HelloRequest())
    overruns = core.ffi.new("uint32_t *")
    assert core.lib.tmf_probe_hurried(request, len(request), 100, overruns) == 100
    assert overruns[0] == 0
