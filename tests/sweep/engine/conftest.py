"""Sweeps of made-up runs."""

import subprocess

import pytest

from shvit_pl.sweep.engine import slurm_engine
from tests.sweep.engine import slurm_cluster
from tests.sweep.engine.launch import ROOT, Sweep, kill, processes_of


@pytest.fixture
def sweep(tmp_path):
    """A sweep of made-up runs; whatever is left of it is ended."""
    yield Sweep(str(tmp_path / "numbers"))
    for process in processes_of(tmp_path / "numbers"):
        kill(process)


@pytest.fixture(scope="session")
def slurm_conf(tmp_path_factory):
    """The configuration of a SLURM of two nodes of three cores, on this computer."""
    if slurm_cluster.missing():
        pytest.skip(slurm_cluster.missing())
    with slurm_cluster.cluster(tmp_path_factory.mktemp("slurm")) as path:
        yield path


@pytest.fixture
def slurm(slurm_conf, monkeypatch):
    """A SLURM that the commands of this process and its children find; its jobs are ended."""
    monkeypatch.setenv("SLURM_CONF", str(slurm_conf))
    monkeypatch.setattr(slurm_engine, "_ASK", 0.5)
    yield
    subprocess.run(["scancel", "--user=0"], check=True)


@pytest.fixture(scope="session")
def cluster():
    """A Ray cluster of three nodes of two cores, on this computer."""
    cluster = new_cluster(3)
    yield cluster
    cluster.shutdown()


def new_cluster(nodes, cores=2):
    pytest.importorskip("ray", reason="needs ray, of an extra: pip install 'shvit-pl[ray]'")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        cluster = Cluster()
        for _ in range(nodes):
            add_node(cluster, cores)
    return cluster


def add_node(cluster, cores=2):
    """Add a node to a cluster."""
    return cluster.add_node(num_cpus=cores, include_dashboard=False, object_store_memory=2**27)
