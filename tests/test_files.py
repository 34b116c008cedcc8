import pytest

from shvit_pl.files import read_rows, replacing, write_rows


def test_a_folder_is_replaced_as_a_whole_and_nothing_else_is_left(tmp_path):
    folder = tmp_path / "results"
    for name in ("first", "second"):
        with replacing(folder) as new:
            new.mkdir()
            (new / name).touch()
    assert [path.name for path in folder.iterdir()] == ["second"]
    assert list(tmp_path.iterdir()) == [folder]


def test_a_folder_stays_where_its_successor_can_not_be_written(tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "kept").touch()
    with pytest.raises(OSError, match="disk"):
        _fill_half(folder)
    assert [path.name for path in folder.iterdir()] == ["kept"]
    assert list(tmp_path.iterdir()) == [folder]


def test_rows_come_back_as_text(tmp_path):
    write_rows(tmp_path / "rows.csv", [{"name": "a, b", "value": 1.5}, {"name": "", "value": None}])
    assert read_rows(tmp_path / "rows.csv") == [{"name": "a, b", "value": "1.5"}, {"name": "", "value": ""}]


def _fill_half(folder):
    with replacing(folder) as new:
        (new / "half").mkdir(parents=True)
        raise OSError("the disk is full")
