"""Tables read strictly: what is wrong is said with file, line and column."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymetafed.errors import TinyMetaFedError
from tinymetafed.tasks.table import LARGEST, _number, plain, read

NAMES = b"sepal,petal,class\n"
FLOATS = st.floats(-LARGEST, LARGEST)


def _problem(folder: Path, content: bytes) -> str:
    path = folder / "table.csv"
    path.write_bytes(content)
    with pytest.raises(TinyMetaFedError) as caught:
        read(path, 2, 3)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message.removeprefix(f"{path}: ")


@given(rows=st.lists(st.tuples(FLOATS, FLOATS, st.integers(0, 2)), max_size=5))
def test_values_are_those_that_were_written(
    rows: list[tuple[float, float, int]], tmp_path_factory: pytest.TempPathFactory
):
    path = tmp_path_factory.mktemp("tables") / "table.csv"
    path.write_text("a,b,c\n" + "".join(f"{x!r},{y!r},{label}\n" for x, y, label in rows))
    table = read(path, 2, 3)
    assert table.values.tolist() == [[x, y] for x, y, _ in rows]
    assert table.labels.tolist() == [label for *_, label in rows]


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfa,b,c\n1,2,0\n3,4,1\n",
        b"a,b,c\r\n1,2,0\r\n3,4,1\r\n",
        b"a,b,c\r1,2,0\r3,4,1",
        b"a,b,c\n\n1,2,0\n  \n3,4,1\n\n\n",
        b'"a","b","c"\n" 1 ",2,0\n+3.0,.4e1, 1\n',
        b"2,2,setosa,versicolor\n1,2,0\n3,4,1\n",
        b"# 2,2,setosa,versicolor,virginica\n1,2,0\n3,4,1\n",
        "Länge,Breite,Art\n1,2,0\n3,4,1\n".encode(),
    ],
)
def test_forms_of_the_same_table(tmp_path: Path, content: bytes):
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    table = read(path, 2, 3)
    assert table.values.tolist() == [[1, 2], [3, 4]]
    assert table.labels.tolist() == [0, 1]


@pytest.mark.parametrize("cell", ["", " ", "nan", "NaN", "NA", "?", "null", "None", "N/A", "<NA>"])
def test_a_value_that_is_missing_is_nan_and_a_class_minus_one(tmp_path: Path, cell: str):
    path = tmp_path / "table.csv"
    path.write_text(f"a,b,c\n{cell},2,{cell}\n")
    table = read(path, 2, 3)
    assert np.isnan(table.values[0, 0])
    assert (table.values[0, 1], table.labels[0]) == (2, -1)


@pytest.mark.parametrize("cell", ["inf", "-inf", "Infinity", "+INF"])
def test_an_infinite_value_is_kept_as_not_finite(tmp_path: Path, cell: str):
    path = tmp_path / "table.csv"
    path.write_text(f"a,b,c\n{cell},2,0\n")
    assert np.isinf(read(path, 2, 3).values[0, 0])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"1,2\n", "line 2: it has 2 columns of 3: 2 and the class, with commas between them"),
        (b"1,2,0\n\n1,2,0,\n", "line 4: it has 4 columns of 3"),
        (b"1;2;0\n", "line 2: it has 1 column of 3: 2 and the class, with commas between them"),
        (b"1,red,0\n", "line 2, column 2 ('petal'): 'red' is no number"),
        (b"1,2,0\n0x10,2,0\n", "line 3, column 1 ('sepal'): '0x10' is no number"),
        (b"1_000,2,0\n", "line 2, column 1 ('sepal'): '1_000' is no number"),
        (b'"1,5",2,0\n', "line 2, column 1 ('sepal'): '1,5' is no number"),
        (b"1,2\x00,0\n", r"line 2, column 2 ('petal'): '2\x00' is no number"),
        (b"1,\x1b[31m,0\n", r"line 2, column 2 ('petal'): '\x1b[31m' is no number"),
        (b"1," + b"x" * 99 + b",0\n", f"line 2, column 2 ('petal'): '{'x' * 40}…' is no number"),
        (b"1e39,2,0\n", "line 2, column 1 ('sepal'): '1e39' is beyond float32"),
        (b"1,-1e999,0\n", "line 2, column 2 ('petal'): '-1e999' is beyond float32"),
        (
            b"1,2,3\n",
            "line 2, column 3 ('class'): the class is '3'; use a whole number from 0 to 2",
        ),
        (b"1,2,-1\n", "line 2, column 3 ('class'): the class is '-1'"),
        (b"1,2,1.0\n", "line 2, column 3 ('class'): the class is '1.0'; use a whole number from 0"),
        (b"1,2,0.5\n", "line 2, column 3 ('class'): the class is '0.5'"),
        (b"1,2,setosa\n", "line 2, column 3 ('class'): the class is 'setosa'"),
        (b"1,2,0\n1,\xe4,0\n", "line 3: not UTF-8 text"),
        (b'1,2,0\n"1,2,0\n1,2,0\n', "line 3: not CSV: unexpected end of data"),
    ],
)
def test_a_row_that_is_wrong_is_named_by_line_and_column(tmp_path: Path, content: bytes, says: str):
    assert _problem(tmp_path, NAMES + content).startswith(says)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "there is nothing in it"),
        (b"\n \n", "there is nothing in it"),
        (b"1,2,0\n3,4,1\n", "line 1: a row of numbers, where the heading has to be"),
        (b"5.1,nan,0\n", "line 1: a row of numbers, where the heading has to be"),
        (b"a,b\n1,2,0\n", "line 1: it has 2 columns of 3: 2 and the class"),
        (b"a;b;c\n1;2;0\n", "line 1: it has 1 column of 3"),
        (b"a,b,a\n1,2,0\n", "line 1, column 3: 'a' is the name of column 1 too"),
        ("a,b,c\n1,2,0\n".encode("utf-16"), "line 1: not UTF-8 text"),
    ],
)
def test_a_heading_that_is_wrong(tmp_path: Path, content: bytes, says: str):
    assert _problem(tmp_path, content).startswith(says)


CELLS = st.text("0123456789.eE+-_nainf \u0663", max_size=6) | FLOATS.map(repr)


@given(st.lists(CELLS, min_size=1, max_size=3))
def test_rows_read_at_once_are_as_if_cell_by_cell(cells: list[str]):
    found = plain(cells)
    assert found in ([], [_number(cell) for cell in cells] if found else [])


@given(st.binary(max_size=60))
def test_whatever_is_in_a_file_it_is_a_table_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
):
    path = tmp_path_factory.mktemp("tables") / "table.csv"
    path.write_bytes(NAMES + content)
    try:
        said = [f"{path}: line {line}" for line in read(path, 2, 3).lines]
    except TinyMetaFedError as error:
        said = [str(error)]
    assert len("".join(said).splitlines()) <= 1
    assert all(one.startswith(f"{path}: line ") for one in said)
