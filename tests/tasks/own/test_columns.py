"""Files with columns: the same table in every form, and what is wrong with one in one line."""

import csv
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymetafed.errors import TinyMetaFedError
from tinymetafed.tasks.own.columns import Wanted, read

ALL = Wanted(None, (), ("label",))
VALUES = np.array([[1.5, -2.0], [0.25, 4e3], [3.0, 7.0]])
NUMBERS = st.floats(-3e38, 3e38)
LABELS = np.array(["sit", "7", "für"])


def _written(path: Path) -> Path:
    """The table in the form that the name says."""
    a, b = VALUES.T
    match path.suffix:
        case ".npz":
            np.savez(path, a=a, b=b, label=LABELS)
        case ".parquet":
            pa = pytest.importorskip("pyarrow")
            import pyarrow.parquet as pq

            pq.write_table(pa.table({"a": a, "b": b.astype(np.int32), "label": LABELS}), path)
        case suffix:
            between = "\t" if suffix == ".tsv" else ","
            rows = [("a", "b", "label"), *zip(a, b, LABELS, strict=True)]
            path.write_text("".join(between.join(map(str, row)) + "\n" for row in rows), "utf-8")
    return path


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.CSV", "t.npz", "t.parquet"])
def test_a_table_is_the_same_in_every_form(tmp_path: Path, name: str):
    found = read(_written(tmp_path / name), ALL)
    assert found.names == ("a", "b")
    assert found.values.tolist() == VALUES.tolist()
    assert found.texts["label"].tolist() == LABELS.tolist()
    assert found.targets.shape == (3, 0)


@pytest.mark.parametrize("name", ["t.csv", "t.npz", "t.parquet"])
def test_columns_are_taken_by_name_and_in_the_order_asked_for(tmp_path: Path, name: str):
    found = read(_written(tmp_path / name), Wanted(("b",), ("a",), ()))
    assert found.names == ("b",)
    assert found.values[:, 0].tolist() == VALUES[:, 1].tolist()
    assert found.targets[:, 0].tolist() == VALUES[:, 0].tolist()


@pytest.mark.parametrize("name", ["t.csv", "t.npz", "t.parquet"])
def test_a_column_that_is_not_there(tmp_path: Path, name: str):
    path = _written(tmp_path / name)
    with pytest.raises(TinyMetaFedError) as caught:
        read(path, Wanted(None, (), ("user",)))
    what = "array" if name == "t.npz" else "column"
    assert str(caught.value) == f"{path}: no {what} 'user'; there are: a, b, label"


def test_an_array_of_windows_keeps_its_shape(tmp_path: Path):
    values = np.arange(24, dtype=np.float32).reshape(2, 4, 3)
    path = tmp_path / "t.npz"
    np.savez(path, x=values, y=np.array([0, 1]), level=np.array([0.5, 1.5]))
    found = read(path, Wanted(("x",), ("level",), ("y",)))
    assert (found.values == values).all()
    assert found.texts["y"].tolist() == ["0", "1"]
    assert found.targets.tolist() == [[0.5], [1.5]]


@given(
    rows=st.lists(st.tuples(st.floats(-3e38, 3e38), st.text("ab ,\"'\n;", max_size=5)), min_size=1)
)
def test_what_csv_was_written_is_read(
    rows: list[tuple[float, str]], tmp_path_factory: pytest.TempPathFactory
):
    path = tmp_path_factory.mktemp("own") / "t.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("x", "label"), *rows])
    found = read(path, ALL)
    assert found.values[:, 0].tolist() == [x for x, _ in rows]
    assert found.texts["label"].tolist() == [text.strip() for _, text in rows]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "there is nothing in it"),
        (b"\n\n", "there is nothing in it"),
        (b"a,label\n", "there are no rows in it"),
        (b"1,2\n3,4\n", "line 1: a row of numbers, where the heading has to be"),
        (b"a,a,label\n1,2,x\n", "two columns have the name 'a'"),
        (b"a,label,label\n1,x,x\n", "two columns have the name 'label'"),
        (
            b",a,label\n0,1,x\n",
            "column 1 has no name, as an index that pandas writes; remove it, or name the columns "
            "to use in task.features",
        ),
        (b"label\nx\n", "there is no other column for task.features"),
        (b"a;label\n1;x\n", "no column 'label'; there are: a;label"),
        (b"a,label\n1,x\nred,y\n", "line 3, column a: 'red' is no number"),
        (b"a,label\n1,x\n1e39,y\n", "line 3, column a: '1e39' is beyond float32, which ends at "
                                    "3.403e+38"),
        (b"a,label\n1_0,x\n", "line 2, column a: '1_0' is no number"),
        (b"a,label\n\n1,x\n1\n", "line 4: it has 1 column, the heading 2"),
        (b"a,label\n1,x,3\n", "line 2: it has 3 columns, the heading 2"),
        (b"a,label\n1,\xe9t\xe9\n", "line 2: not UTF-8 text"),
        ("a,label\n1,x\n".encode("utf-16"), "line 1: not UTF-8 text"),
        (b'a,label\n1,"x\n', "line 2: not CSV: unexpected end of data"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_csv(tmp_path: Path, content: bytes, problem: str):
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(TinyMetaFedError) as caught:
        read(path, ALL)
    assert str(caught.value) == f"{path}: {problem}"


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path: Path):
    path = tmp_path / "t.csv"
    path.write_bytes(b"\xef\xbb\xbfa,label\r\n1,x\r\n")
    assert read(path, ALL).names == ("a",)


def test_a_column_without_a_name_may_be_left_out(tmp_path: Path):
    path = tmp_path / "t.csv"
    path.write_bytes(b",a,label\n0,1,x\n")
    assert read(path, Wanted(("a",), (), ("label",))).values.tolist() == [[1]]


def test_no_file_and_no_kind_that_is_known(tmp_path: Path):
    with pytest.raises(TinyMetaFedError, match="gone.csv: cannot be read: No such file"):
        read(tmp_path / "gone.csv", ALL)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(TinyMetaFedError, match="folder.csv: is no file"):
        read(tmp_path / "folder.csv", ALL)
    with pytest.raises(TinyMetaFedError, match="t.xlsx: its name has to end in .csv, .tsv, "):
        read(tmp_path / "t.xlsx", ALL)


@pytest.mark.parametrize("name", ["t.npz", "t.parquet"])
@pytest.mark.parametrize("part", [0.0, 0.02, 0.5, 0.95])
def test_a_truncated_file(tmp_path: Path, name: str, part: float):
    path = _written(tmp_path / name)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(TinyMetaFedError) as caught:
        read(path, ALL)
    message = str(caught.value)
    assert message.startswith(f"{path}: {'cannot be read (' if part else 'there is nothing'}")
    assert len(message.splitlines()) == 1


@given(
    at=st.integers(0, 2000), spoilt=st.binary(min_size=1, max_size=4),
    kind=st.sampled_from(["npz", "parquet"]),
)  # fmt: skip
def test_a_damaged_file_is_the_table_or_one_line(
    at: int, spoilt: bytes, kind: str, tmp_path_factory: pytest.TempPathFactory
):
    path = _written(tmp_path_factory.mktemp("own") / f"t.{kind}")
    data = path.read_bytes()
    at %= len(data)
    path.write_bytes(data[:at] + spoilt + data[at + len(spoilt) :])
    try:
        found = read(path, ALL)
    except TinyMetaFedError as error:
        lines, shapes = len(str(error).splitlines()), True
    else:
        lines, shapes = 1, found.values.shape[1] == len(found.names)
    assert (lines, shapes) == (1, True)


@pytest.mark.parametrize(
    ("arrays", "problem"),
    [
        (
            {"x": np.zeros((3, 2)), "label": np.zeros((3, 2))},
            "array label: float64 [3, 2], where a row of numbers or text for each sample has to be",
        ),
        (
            {"x": np.zeros((3, 2)), "label": np.arange(4)},
            "array label: int64 [4], and x has 3 rows",
        ),
        (
            {"x": np.array(["a", "b"]), "label": np.arange(2)},
            "array x: <U1 [2], where a row of numbers for each sample has to be",
        ),
        (
            {"x": np.zeros((3, 2)), "y": np.zeros(3), "label": np.arange(3)},
            "array x: float64 [3, 2], where a row of numbers for each sample has to be",
        ),
        ({"x": np.array([1.0, 1e39]), "label": np.arange(2)},
         "row 2, column x: 1e+39 is beyond float32, which ends at 3.403e+38"),
        ({"x": np.float64(1), "label": np.arange(2)},
         "array x: float64 [], where a row of numbers for each sample has to be"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_arrays(tmp_path: Path, arrays: dict[str, np.ndarray], problem: str):
    path = tmp_path / "t.npz"
    np.savez(path, allow_pickle=False, **arrays)
    with pytest.raises(TinyMetaFedError) as caught:
        read(path, ALL)
    assert str(caught.value) == f"{path}: {problem}"


def test_an_array_of_objects_is_not_unpickled(tmp_path: Path):
    path = tmp_path / "t.npz"
    np.savez(path, allow_pickle=True, x=np.array([{}, {}]), label=np.arange(2))
    with pytest.raises(TinyMetaFedError, match="cannot be read \\(Object arrays"):
        read(path, ALL)


def test_an_array_that_is_there_twice(tmp_path: Path):
    path = _written(tmp_path / "t.npz")
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("a.npy", b"")
    with pytest.raises(TinyMetaFedError, match="two arrays have the name 'a'"):
        read(path, ALL)


def test_text_where_parquet_has_to_have_numbers(tmp_path: Path):
    path = _written(tmp_path / "t.parquet")
    with pytest.raises(TinyMetaFedError) as caught:
        read(path, Wanted(None, (), ()))
    assert str(caught.value) == f"{path}: column label: string where numbers have to be"
