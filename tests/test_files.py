from pathlib import Path

import pytest

from shvit_pl.files import check_writable, read_rows, replacing, write_rows
from shvit_pl.fit.options import FitOptions
from tests.refusals import refused


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_is_replaced_as_a_whole_or_stays_where_its_successor_can_not_be_written(tmp_path):
    folder = tmp_path / "results"
    for name in ("first", "second"):
        with replacing(folder) as new:
            new.mkdir()
            (new / name).touch()
    assert names(folder) == ["second"]
    with pytest.raises(OSError, match="disk"):
        fill_half(folder)
    assert names(folder) == ["second"]
    assert names(tmp_path) == ["results"]


def fill_half(folder):
    with replacing(folder) as new:
        (new / "half").mkdir(parents=True)
        raise OSError("the disk is full")


def test_where_a_link_points_to_is_replaced_and_the_link_stays(tmp_path):
    elsewhere, link = tmp_path / "elsewhere", tmp_path / "results"
    elsewhere.mkdir()
    link.symlink_to(elsewhere)
    with replacing(link) as new:
        new.mkdir()
        (new / "new").touch()
    assert link.is_symlink()
    assert names(elsewhere) == ["new"]
    assert names(tmp_path) == ["elsewhere", "results"]


def test_a_folder_comes_back_where_its_successor_can_not_take_its_place(tmp_path, monkeypatch):
    folder = tmp_path / "results"
    (folder / "kept").mkdir(parents=True)
    rename = Path.replace

    def refuse_the_new(self, target):
        if target == folder and (self / "new").exists():
            raise OSError("no access")
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", refuse_the_new)
    with pytest.raises(OSError, match="no access"), replacing(folder) as new:
        (new / "new").mkdir(parents=True)
    assert names(folder) == ["kept"]
    assert names(tmp_path) == ["results"]


@pytest.mark.parametrize("name", ["a.mlpackage", "last.ckpt", "rows.csv"])
def test_the_temporary_name_ends_as_the_real_one(name, tmp_path):
    with replacing(tmp_path / name) as partial:
        assert partial.suffix == Path(name).suffix
        partial.touch()


def test_rows_come_back_as_text(tmp_path):
    write_rows(tmp_path / "rows.csv", [{"name": "a, b", "value": 1.5}, {"name": "", "value": None}])
    assert read_rows(tmp_path / "rows.csv") == [{"name": "a, b", "value": "1.5"}, {"name": "", "value": ""}]


def test_a_name_that_lightning_would_write_elsewhere_is_refused(tmp_path):
    """It takes what stands before the colons for the folder."""
    with refused("--folder ... '::' is not allowed"):
        check_writable("--folder", str(tmp_path / "a::b"))
    with refused("run_name 'a::b': '::' is not allowed in it"):
        FitOptions(run_name="a::b")
    check_writable("--folder", str(tmp_path / "run [old]: $x$ #1"))
    FitOptions(run_name="run [old]: $x$ #1")
