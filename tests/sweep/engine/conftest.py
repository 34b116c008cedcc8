"""Sweeps of made-up runs."""

import pytest

from tests.sweep.engine.launch import ROOT, Sweep, kill, processes_of


@pytest.fixture
def sweep(tmp_path):
    """A sweep of made-up runs; whatever is left of it is ended."""
    yield Sweep(str(tmp_path / "numbers"))
    for process in processes_of(tmp_path / "numbers"):
        kill(process)


@pytest.fixture(scope="session")
def cluster():
    """A Ray cluster of three nodes of two cores, on this computer."""
    cluster = new_cluster(3)
    yield cluster
    cluster.shutdown()


def new_cluster(nodes):
    pytest.importorskip("ray", reason="needs ray, of an extra: pip install 'shvit-pl[ray]'")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        cluster = Cluster()
        for _ in range(nodes):
            add_node(cluster)
    return cluster


def add_node(cluster, cores=2):
    """Add a node to a cluster."""
    return cluster.add_node(num_cpus=cores, include_dashboard=False, object_store_memory=2**27)
