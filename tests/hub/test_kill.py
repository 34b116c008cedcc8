"""A push that is killed half-way leaves the repository as it was; the next one makes it whole."""

import shutil
import signal
import subprocess
import sys

import pytest

from shvit_pl.cli import main
from tests.hub.runs import edit

REPO = "user/digits"
COMMAND = "import sys; from shvit_pl.cli import main; sys.exit(main(sys.argv[1:]))"


@pytest.mark.parametrize("at", ["preupload", "PUT /", "/commit/"])
@pytest.mark.parametrize(
    "first", [pytest.param(True, marks=pytest.mark.full), pytest.param(False, marks=pytest.mark.slow)],
    ids=["first", "later"],
)  # fmt: skip
def test_killed_while_the_hub_is_asked(at, first, ended, hub, tmp_path):
    run, push = shutil.copytree(ended, tmp_path / "run"), ["push", str(tmp_path / "run"), "--repo-id", REPO]
    if not first:
        assert main(push) == 0
        edit(run / "summary.json", seed=1)
    before = hub.repo(REPO).files if not first else {".gitattributes": hub.create("user/empty").files[".gitattributes"]}
    fault = hub.stall(at)
    flags = ["--weights", "ema"]  # another large file than before
    environment = {**hub.environment(), "TMPDIR": str(tmp_path)}  # what it can't clean up any more
    process = subprocess.Popen([sys.executable, "-c", COMMAND, *push, *flags], env=environment, cwd=tmp_path)
    try:
        assert fault.reached.wait(60)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert hub.repo(REPO).files == before
    hub.faults.clear()
    assert main([*push, *flags]) == 0
    after = hub.repo(REPO).files
    assert {"model.safetensors", "config.json", "README.md"} < set(after)
    assert after != before


@pytest.mark.slow
def test_a_large_file_that_never_comes_through(ended, hub, capsys):
    hub.cut("PUT /", times=99)
    assert main(["push", str(ended), "--repo-id", REPO]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "run the same command again" in err
    assert set(hub.repo(REPO).files) == {".gitattributes"}
