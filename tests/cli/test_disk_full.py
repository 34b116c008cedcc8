"""A disk that fills up: one line, exit code 2, and the checkpoints from before are whole."""

import subprocess
import sys

import pytest
import torch

from shvit_pl.cli import main
from tests.cli.disk import files_up_to
from tests.cli.runs import QUICK, fit
from tests.data.opening import open_dataset


def assert_one_line(code, error, *said):
    assert code == 2
    assert error.count("\n") == 1, error
    assert error.startswith("shvit-pl ")
    for text in said:
        assert text in error


def hidden_files(folder):
    return [path for path in folder.rglob(".*") if path.is_file()]


@pytest.fixture(scope="module")
def last(tmp_path_factory):
    """The last checkpoint of a run that has not ended."""
    root = tmp_path_factory.mktemp("run")
    assert fit(f"--trainer.default_root_dir={root}") == 0
    folder = root / "tiny" / "version_0"
    (folder / "summary.json").unlink()
    return folder / "checkpoints" / "last.ckpt"


def test_the_checkpoint_from_before_is_whole(last, capsys):
    before = torch.load(last, weights_only=True)
    (last.parent / ".last.ckpt.partial").write_bytes(b"of a killed run")
    with files_up_to(1_000_000):
        code = fit(f"--ckpt_path={last}", "--allow_changes=true", "--trainer.max_epochs=3")
    printed = capsys.readouterr()
    assert_one_line(code, printed.err, f"checkpoint {last}: can't be written (File too large)", "as it was")
    assert f"goes on with --ckpt_path {last}" in printed.out
    after = torch.load(last, weights_only=True)
    assert after["global_step"] == before["global_step"]
    assert all(torch.equal(tensor, after["state_dict"][key]) for key, tensor in before["state_dict"].items())
    assert hidden_files(last.parents[1]) == []


@pytest.mark.parametrize("size", [100, 5000, 20_000])
def test_logs_that_can_not_be_written(size, capsys, tmp_path):
    with files_up_to(size):
        code = fit()
    assert_one_line(code, capsys.readouterr().err, "File too large", "make room")
    assert list(tmp_path.rglob("*.ckpt")) == []
    assert hidden_files(tmp_path) == []


RUN = "import sys; from shvit_pl.cli import main; sys.exit(main(['fit', *sys.argv[1:]]))"


@pytest.mark.slow
def test_tensorboard_has_no_traceback_of_its_own_either(tmp_path):
    """In a process of its own, to its very end: the writer has a thread."""
    script = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000)); {RUN}"
    done = subprocess.run([sys.executable, "-c", script, *QUICK], capture_output=True, text=True, check=False)
    assert_one_line(done.returncode, done.stderr, "File too large", "make room")


def test_a_cache_that_can_not_be_written_is_not_blamed_on_the_data(capsys, tmp_path):
    open_dataset("digits")["train"].select(range(100)).to_parquet(tmp_path / "rows.parquet")
    with files_up_to(1000):
        code = fit("--data.path=rows.parquet")
    said = ["HF_HOME: the cache of datasets", "can't be written (File too large)", "set HF_HOME"]
    assert_one_line(code, capsys.readouterr().err, *said)
    assert not (tmp_path / "runs").exists()


def test_predictions_are_written_whole_or_not_at_all(last, capsys, tmp_path):
    with files_up_to(3000):
        code = main(["predict", f"--ckpt_path={last}"])
    assert_one_line(code, capsys.readouterr().err, "File too large")
    assert list(tmp_path.iterdir()) == []
