"""Colours can be told apart, by readers of each kind of colour vision."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from tinymetafed.report.colors import (
    ACCOUNTS,
    COLORS,
    FAINT,
    INK,
    MESSAGES,
    ON_DARK,
    PAPER,
    PARTS,
    STATES,
    parts,
    style,
)  # fmt: skip

# Machado, Oliveira and Fernandes 2009, doi:10.1109/TVCG.2009.113, severity 1: on linear RGB.
SEEN = {
    "all cones": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
WHITE = np.array([0.9505, 1.0, 1.089])


def _linear(color: str) -> NDArray[np.float64]:
    value = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def _lab(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    """CIELAB."""
    t = XYZ @ np.clip(linear, 0, 1) / WHITE
    f = np.where(t > 0.008856, np.cbrt(t), 7.787 * t + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def _contrast(one: str, other: str) -> float:
    """WCAG 2's."""
    darker, lighter = sorted(float(XYZ[1] @ _linear(color)) for color in (one, other))
    return (lighter + 0.05) / (darker + 0.05)


def _least_distance(colors: Sequence[str]) -> float:
    """Of any two, in CIELAB, to a reader of any kind of colour vision."""
    return min(
        float(np.linalg.norm(one - other))
        for matrix in SEEN.values()
        for one, other in itertools.combinations(
            [_lab(np.array(matrix) @ _linear(color)) for color in colors], 2
        )
    )


@pytest.mark.parametrize("dark", [False, True])
def test_lines_stand_out_from_each_other_and_from_the_paper(dark: bool):
    lines, paper = list(COLORS), PAPER
    if dark:
        lines, paper = [ON_DARK[color] for color in COLORS], ON_DARK[PAPER]
    assert min(_contrast(color, paper) for color in lines) >= 3  # WCAG's for graphics
    assert _least_distance(lines) > 14


@pytest.mark.parametrize("dark", [False, True])
def test_parts_of_a_bar_stand_out_from_each_other_and_from_the_paper(dark: bool):
    """No two of what is in one chart have a colour, also of a user's own phases or requests."""
    there = [*PARTS, PAPER]
    assert _least_distance([ON_DARK[color] for color in there] if dark else there) > 11
    for known in (ACCOUNTS, MESSAGES, STATES):
        assert set(known.values()) <= set(PARTS)
        assert len(set(parts([*known], known))) == len(known)
        some = [*known][:5]
        assert parts(some, known) == [known[name] for name in some]
        own = [*some, *(f"own {i}" for i in range(len(PARTS) - 5))]
        assert len(set(parts(own, known))) == len(PARTS)
        assert len(parts([*own, "one more"], known)) == len(PARTS) + 1


def test_text_can_be_read_and_a_grid_does_not_disturb():
    for ink, paper, faint in ((INK, PAPER, FAINT), (ON_DARK[INK], ON_DARK[PAPER], ON_DARK[FAINT])):
        assert _contrast(ink, paper) >= 7  # WCAG's AAA
        assert 1.2 < _contrast(faint, paper) < 2.5


def test_thirty_two_lines_differ_and_eight_of_them_by_colour_and_marker_alone():
    styles = [style(i) for i in range(32)]
    assert len({(one.color, one.fill, one.dash) for one in styles}) == 32
    for i in range(0, 32, 8):
        assert len({one.color for one in styles[i : i + 8]}) == 8
        assert len({one.marker for one in styles[i : i + 8]}) == 8
