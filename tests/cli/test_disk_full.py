"""A disk that fills up: one line, exit code 2, and the checkpoints from before are whole."""

import shutil
import subprocess
import sys

import pytest
import torch

from shvit_pl.cli import main
from tests.cli.runs import QUICK, files_up_to, fit
from tests.data.pictures import open_dataset


@pytest.fixture
def last(short_run, tmp_path_factory):
    """The last checkpoint of a run that has not ended."""
    folder = shutil.copytree(short_run, tmp_path_factory.mktemp("run") / "version_0")
    (folder / "summary.json").unlink()
    return folder / "checkpoints" / "last.ckpt"


def assert_one_line(code, error, *words):
    assert code == 2
    assert error.count("\n") == 1, error
    assert error.startswith("shvit-pl ")
    for text in words:
        assert text in error


def hidden_files(folder):
    return [path for path in folder.rglob(".*") if path.is_file()]


def test_the_checkpoint_from_before_is_whole(last, capsys):
    before = torch.load(last, weights_only=True)
    (last.parent / ".last.ckpt.partial").write_bytes(b"of a killed run")
    with files_up_to(1_000_000):
        code = fit(f"--ckpt_path={last}", "--extend_to=3")
    printed = capsys.readouterr()
    assert_one_line(code, printed.err, f"checkpoint {last}: can't be written (File too large)", "as it was")
    assert f"the same command with --ckpt_path {last}" in printed.out
    after = torch.load(last, weights_only=True)
    assert after["global_step"] == before["global_step"]
    assert all(torch.equal(tensor, after["state_dict"][key]) for key, tensor in before["state_dict"].items())
    assert hidden_files(last.parents[1]) == []


def test_logs_a_cache_and_predictions_that_can_not_be_written(last, capsys, tmp_path):
    """The cache of datasets is not blamed on the data; predictions are written whole or not at all."""
    for size in (100, 20_000):
        with files_up_to(size):
            code = fit(f"--run_name=of_{size}")
        assert_one_line(code, capsys.readouterr().err, "File too large", "make room")
    with files_up_to(3000):
        code = main(["predict", f"--ckpt_path={last}"])
    assert_one_line(code, capsys.readouterr().err, "File too large")
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    assert list(tmp_path.rglob("*.ckpt")) == hidden_files(tmp_path) == []
    open_dataset("digits")["train"].select(range(100)).to_parquet(tmp_path / "rows.parquet")
    with files_up_to(1000):
        code = fit("--data.path=rows.parquet", "--run_name=cached")
    words = ["HF_HOME: the cache of datasets", "can't be written (File too large)", "set HF_HOME"]
    assert_one_line(code, capsys.readouterr().err, *words)
    assert not (tmp_path / "runs" / "cached").exists()


RUN = "import sys; from shvit_pl.cli import main; sys.exit(main(['fit', *sys.argv[1:]]))"


@pytest.mark.slow
def test_tensorboard_has_no_traceback_of_its_own_either(tmp_path):
    """In a process of its own, to its very end: the writer has a thread."""
    script = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000)); {RUN}"
    done = subprocess.run([sys.executable, "-c", script, *QUICK], capture_output=True, text=True, check=False)
    assert_one_line(done.returncode, done.stderr, "File too large", "make room")
