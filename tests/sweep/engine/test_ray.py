"""Ray: nodes that leave, join, don't share the sweep's folder or have another version; what is refused at the start."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from socket import gethostname

import pytest

from shvit_pl.errors import UserError
from shvit_pl.runs.folder import finished_run, read_summary
from shvit_pl.sweep.definition import read_definition
from shvit_pl.sweep.engine.study import ERROR, LOST
from shvit_pl.sweep.options import SweepOptions
from tests.sweep import small
from tests.sweep.engine.conftest import add_node, alive
from tests.sweep.engine.launch import ROOT, assert_done_once, kill, processes_of, running, wait_until
from tests.sweep.engine.real import LONGEST, real

pytestmark = pytest.mark.slow
pytest.importorskip("ray", reason="needs ray, of an extra: pip install 'shvit-pl[ray]'")


@contextmanager
def stranger(cluster, hidden=None, path="", temporary=None):
    """A node of two cores that joins, and is lost at the end; it imports from `path` first.

    One that sees an empty folder for `hidden` has processes of its own, as another computer.
    """
    if hidden is not None and (os.geteuid() != 0 or subprocess.call(["unshare", "--mount", "--pid", "--fork", "true"])):
        pytest.skip("needs root, to give a node file systems of its own")
    ray = Path(sys.executable).with_name("ray")
    join = f"exec {ray} start --address={cluster.address} --num-cpus=2 --num-gpus=0 --block"
    command = ["sh", "-c", join]
    if hidden is not None:
        own = ("unshare", "--mount", "--mount-proc", "--pid", "--fork", "--kill-child")
        command = [*own, "sh", "-c", f"mount -t tmpfs none '{hidden}' && {join}"]
    env = {**os.environ, "PYTHONPATH": f"{path}{os.pathsep}{ROOT}"}
    env |= {"TMPDIR": str(temporary)} if temporary else {}
    node = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    try:
        yield
    finally:
        node.kill() if hidden is not None else node.terminate()
        node.wait()


def refusal(cluster, folder=Path("sweep"), **options):
    """What the engine of a cluster says to these options."""
    from shvit_pl.sweep.engine.ray_engine import RayEngine

    with pytest.raises(UserError) as refused:
        RayEngine(SweepOptions(engine="ray", address=cluster.address, **options), folder, [])
    return str(refused.value)


def test_impossible_demands_are_refused_with_what_each_node_has(cluster):
    has = f"{gethostname()} has 2 CPUs and 0 GPUs"
    told = f"--cpus_per_run 64: a run needs 1 node with 64 CPUs and 0 GPUs; {has}"
    assert refusal(cluster, cpus_per_run=64).startswith(told)
    told = f"--gpus_per_run 3: a run needs 1 node with 1 CPU and 3 GPUs; {has}"
    assert refusal(cluster, gpus_per_run=3).startswith(told)
    have = "; ".join([has] * 3)
    told = f"--nodes_per_run 4: a run needs 4 nodes with 1 CPU and 0 GPUs; {have}. Ask for less, or add nodes."
    assert refusal(cluster, nodes_per_run=4) == told


@pytest.mark.parametrize(
    ("gpus", "per_run", "nodes", "room"),
    [
        ([8], 0.4, 1, 16),  # two on each, and a fifth of it is left
        ([8, 2], 4, 1, 2),
        ([8, 8], 4, 2, 2),
        ([8, 4, 4], 4, 2, 2),
        ([12], 4, 2, 0),  # a run of two nodes needs two
        ([12, 4], 4, 2, 1),
    ],
)
def test_there_is_room_for_as_many_runs_as_ray_can_place(gpus, per_run, nodes, room, monkeypatch):
    from shvit_pl.sweep.engine import ray_engine

    monkeypatch.setattr(ray_engine, "_nodes", lambda: [{"Resources": {"CPU": 64.0, "GPU": float(n)}} for n in gpus])
    engine = object.__new__(ray_engine.RayEngine)
    engine.nodes, engine.workers, engine.demand = nodes, None, {"CPU": 1.0, "GPU": float(per_run)}
    assert engine.room() == room


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nowhere", "nowhere.invalid:6379"])
def test_an_address_where_no_cluster_answers_is_refused(address, tmp_path):
    from shvit_pl.sweep.engine.ray_engine import RayEngine

    with pytest.raises(UserError, match=rf"^--address {address}: no Ray cluster answers there \(.*ray start --head"):
        RayEngine(SweepOptions(engine="ray", address=address), tmp_path, [])


def test_ray_on_this_computer_alone_asks_no_cluster_and_ends_with_a_driver_that_is_killed(sweep, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "nowhere:1")
    sweep.engine, sweep.points, sweep.workers, sweep.seconds = "ray", 2, 2, 20
    driver = sweep.start()
    assert running(sweep, 2)
    assert ports(sweep) == {"127.0.0.1"}
    kill(driver.pid)
    driver.wait()
    assert wait_until(lambda: not processes_of("--node_ip_address=127.0.0.1", "raylet"), 30)
    assert wait_until(lambda: not processes_of(sweep.folder), 30)


def ports(sweep):
    """The addresses at which the processes of a sweep's driver, and theirs, listen."""
    import psutil  # which Ray brings

    (driver,) = processes_of(sweep.folder, "tests.sweep.engine.launch")
    family = psutil.Process(driver).children(recursive=True)
    found = [place for process in family for place in process.net_connections() if place.status == "LISTEN"]
    return {place.laddr.ip.removeprefix("::ffff:") for place in found}


def test_another_version_on_a_node_is_refused_by_name(lone_cluster, tmp_path):
    (info := tmp_path / "path" / "shvit_pl-9.9.dist-info").mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shvit-pl\nVersion: 9.9\n")
    with stranger(lone_cluster, path=info.parent):
        assert joined(lone_cluster)
        message = refusal(lone_cluster)
    assert f"{gethostname()} has 9.9. Install the same version on each node." in message


def joined(cluster, nodes=2):
    """Whether so many nodes are there."""
    return wait_until(lambda: alive(cluster) >= nodes, 60)


def test_a_node_that_leaves_costs_nothing_and_one_that_joins_is_used(sweep, lone_cluster):
    nodes = [add_node(lone_cluster) for _ in range(2)]
    sweep.engine, sweep.address, sweep.points, sweep.workers, sweep.seconds = "ray", lone_cluster.address, 6, 0, 3
    sweep.retries = 0  # whoever loses a node has not failed
    driver = sweep.start()
    assert running(sweep, 4)
    lone_cluster.remove_node(nodes[0], allow_graceful=False)
    add_node(lone_cluster)
    assert driver.wait(LONGEST) == 0, sweep.output.read_text()
    assert_done_once(sweep)
    lost = [trial.user_attrs for trial in sweep.study().trials() if LOST in trial.user_attrs]
    assert {each[ERROR].partition(" (on ")[0] for each in lost} == {"its computer was lost"}
    assert len({line["node"] for line in sweep.lines("start")}) == 3


def test_results_of_a_node_that_does_not_share_the_folder_come_back(sweep, lone_cluster, tmp_path):
    sweep.engine, sweep.address, sweep.points, sweep.workers, sweep.seconds = "ray", lone_cluster.address, 3, 0, 5
    Path(sweep.folder).mkdir()
    (temporary := tmp_path / "temporary").mkdir()
    with stranger(lone_cluster, hidden=sweep.folder, temporary=temporary):
        assert joined(lone_cluster)
        sweep.report = True
        driver = sweep.start()
        assert wait_until(lambda: len(sweep.lines("start")) == 2, 60)
        assert wait_until(lambda: all("fresh weights" in sweep.log(number) for number in range(2)))
        driver.send_signal(signal.SIGINT)  # what was written until then comes back
        assert driver.wait(60) == 130
        assert running(sweep, 2)
        sweep.seconds, sweep.report = 0.2, False
        assert sweep.run() == 0
    assert_done_once(sweep)
    assert ["resuming from" in sweep.log(number) for number in range(3)] == [True, True, False]
    assert not [*temporary.glob("shvit_pl*")]


def test_a_run_whose_node_is_lost_goes_on_from_the_checkpoint_that_was_handed_over(sweep, lone_cluster):
    sweep.engine, sweep.address, sweep.points, sweep.workers = "ray", lone_cluster.address, 1, 0
    sweep.seconds, sweep.handover, sweep.retries = 30, 0.5, 0
    Path(sweep.folder).mkdir()
    with stranger(lone_cluster, hidden=sweep.folder):
        assert joined(lone_cluster)
        driver = sweep.start()
        assert running(sweep, 1)  # seen in the driver's folder
        sweep.seconds = 0.2
        sweep.ask()
    add_node(lone_cluster)
    assert driver.wait(LONGEST) == 0, sweep.output.read_text()
    assert_done_once(sweep)
    assert "resuming from" in sweep.log(0)


def test_a_run_of_two_nodes_trains_as_one(tmp_path, cluster):
    where = ["--engine=ray", f"--address={cluster.address}", "--nodes_per_run=2", "--trainer.limit_train_batches=3"]
    assert real(tmp_path / "both", [0.001], *where).wait(LONGEST) == 0
    (run,) = (tmp_path / "both" / "rates" / "runs").iterdir()
    assert read_summary(finished_run(run))["global_batch"] == 32
    assert read_definition(tmp_path / "both" / "rates").settings["trainer.num_nodes"] == 2


def test_a_node_that_cannot_see_the_data_is_named(tmp_path, image_folder, lone_cluster):
    with stranger(lone_cluster, hidden=image_folder):
        assert joined(lone_cluster)
        where = ["--engine=ray", f"--address={lone_cluster.address}", "--retries=0"]
        assert real(tmp_path / "data", [0.001], *where, f"--data.path={image_folder}").wait(LONGEST) == 1
    (error,) = {trial.user_attrs[ERROR] for trial in small.trials(tmp_path / "data" / "rates")}
    assert str(image_folder) in error
    assert error.endswith(f"(on {gethostname()})")
