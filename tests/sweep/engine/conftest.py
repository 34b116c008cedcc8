"""Sweeps of made-up runs."""

import subprocess
from contextlib import contextmanager

import pytest

from shvit_pl.sweep.engine import slurm_engine
from tests.sweep.engine import slurm_cluster
from tests.sweep.engine.launch import ROOT, Sweep, kill, processes_of, wait_until


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
    with started() as cluster:
        for _ in range(3):
            add_node(cluster)
        yield cluster


@pytest.fixture(scope="session")
def _head():
    with started() as cluster:
        add_node(cluster, cores=0)
        yield cluster


@pytest.fixture
def lone_cluster(_head):
    """A Ray cluster whose only node has no cores; others that a test adds leave with it."""
    yield _head
    for node in _head.list_all_nodes()[1:]:
        _head.remove_node(node)
    assert wait_until(lambda: alive(_head) == 1, 60)


@contextmanager
def started():
    """A cluster that has no node yet."""
    pytest.importorskip("ray", reason="needs ray, of an extra: pip install 'shvit-pl[ray]'")
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    try:
        yield cluster
    finally:
        cluster.shutdown()


def add_node(cluster, cores=2):
    """Add a node to a cluster."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        return cluster.add_node(num_cpus=cores, include_dashboard=False, object_store_memory=2**27)


def alive(cluster):
    """The number of a cluster's living nodes."""
    return sum(node["Alive"] for node in cluster.global_state.node_table())
