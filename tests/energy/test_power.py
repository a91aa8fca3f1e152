import tomllib
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

from tinymetafed.energy import power
from tinymetafed.energy.timing import Timing
from tinymetafed.errors import TinyMetaFedError

DEVICES = sorted(path.stem for path in power.FOLDER.glob("*.toml"))
RADIOS = sorted(path.stem for path in (power.FOLDER / "radios").glob("*.toml"))


@pytest.mark.parametrize("name", DEVICES)
def test_a_device_s_core_has_a_timing_table(name: str):
    device = power.device(name)
    assert Timing.load(device.core).name == device.core
    assert 1e-3 < device.run_power < 0.1  # watts: microcontrollers of some tens of MHz
    assert 1e-7 < device.sleep_power < 1e-3


def test_figures_have_a_document_each():
    for path in power.FOLDER.rglob("*.toml"):
        table = tomllib.loads(path.read_text())
        figures = [value for value in table.values() if isinstance(value, dict)]
        assert len(figures) >= 6
        assert all(len(figure["source"]) > 3 for figure in figures)


@pytest.mark.parametrize(
    ("name", "payload", "milliseconds"),
    [
        # The standards' own arithmetic: (preamble 1 + access address 4 + header 2 + 251 + MIC 4 +
        # CRC 3) bytes of 8 us; 6 bytes before a PSDU of 127, of 32 us each.
        ("ble1m", 244, 265 * 8e-3),
        ("ble2m", 244, 266 * 4e-3),
        ("ieee802154", 116, 133 * 32e-3),
        # Semtech AN1200.13's calculator: 13 bytes in all, and 235.
        ("lora7", 0, 46.336),
        ("lora7", 222, 368.896),
        ("uart", 100, 1.0),
    ],
)
def test_air_time(name: str, payload: int, milliseconds: float):
    assert power.radio(name).air_time(payload) == pytest.approx(milliseconds * 1e-3, rel=1e-9)


@given(st.sampled_from(RADIOS), st.integers(0, 10**6))
def test_packets_carry_every_byte(name: str, size: int):
    radio = power.radio(name)
    packets = radio.packets(size)
    assert sum(n * payload for n, payload in packets) == size
    assert all(n > 0 and 0 < payload <= radio.payload_bytes.value for n, payload in packets)
    assert sum(n for n, _ in packets) == -(-size // radio.payload_bytes.value)


@given(st.sampled_from(RADIOS), st.integers(0, 240))
def test_a_longer_packet_is_not_shorter_on_the_air(name: str, payload: int):
    radio = power.radio(name)
    assert radio.air_time(payload) <= radio.air_time(payload + 1)


@pytest.mark.parametrize(
    ("file", "old", "new", "says"),
    [
        ("nrf52840", "[run_current_ma]\nvalue = 3.3", "[run_current_ma]\nvalue = -3.3",
         "run_current_ma.value: -3.3 is not allowed; use a number more than 0"),
        ("nrf52840", "[clock_mhz]", "[clock_hz]", "clock_mhz: missing"),
        ("nrf52840", "value = 2.35", "value = nan", "sleep_current_ua.value: nan is not allowed"),
        ("nrf52840", "[wake_up_us]\nvalue = 3.0", "[wake_up_us]", "wake_up_us.value: missing"),
        ("nrf52840", 'core = "cortex-m4"', "core = 4", "core: 4 is not allowed; use a string"),
        ("nrf52840", "value = 1.03", "value = 0.5", "flash_factor.value: 0.5 is not allowed"),
        ("radios/ble1m", "value = 244", "value = 0",
         "payload_bytes.value: 0 is not allowed; use a whole number at least 1"),
        ("radios/ble1m", 'modulation = "bits"', 'modulation = "smoke"',
         "modulation: 'smoke' is unknown; use 'bits', 'lora'"),
        ("radios/lora7", "[coding_rate]\nvalue = 1", "[coding_rate]\nvalue = 5",
         "coding_rate.value: 5 is not allowed"),
    ],
)  # fmt: skip
def test_a_bad_file_is_an_error_with_file_key_and_reason(
    tmp_path: Path, file: str, old: str, new: str, says: str
):
    text = (power.FOLDER / f"{file}.toml").read_text()
    assert text.count(old) == 1
    (tmp_path / "mine.toml").write_text(text.replace(old, new))
    read = power.radio if "radios" in file else power.device
    with pytest.raises(TinyMetaFedError) as error:
        read("mine", tmp_path)
    assert f"{tmp_path / 'mine.toml'}: {says}" in str(error.value)


def test_an_unknown_device_names_those_that_are_known():
    with pytest.raises(TinyMetaFedError, match=r"no device 'nrf'; there are: nrf52840, nrf54l15"):
        power.device("nrf")
    with pytest.raises(TinyMetaFedError, match=r"no radio 'ble'; there are: ble1m, ble2m, "):
        power.radio("ble")
