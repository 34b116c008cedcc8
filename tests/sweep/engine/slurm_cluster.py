"""A SLURM of two nodes on this computer, in a folder of its own: controller, two slurmd, and munge for their keys."""

import os
import secrets
import shutil
import socket
import subprocess
from contextlib import ExitStack, contextmanager

import submitit

from shvit_pl.sweep.engine.slurm_engine import SlurmEngine
from shvit_pl.sweep.processes import kill_on_parent_exit
from tests.sweep.engine.launch import wait_until

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo")
PACKAGES = "munge slurm-client slurmctld slurmd"
# the first of two nodes has the name of this computer, so that a run on both finds it
CONF = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
AuthInfo=socket={folder}/munge.socket,cred_expire=5
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
GresTypes=gpu
ReturnToService=2
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0
NodeName={host} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=3
NodeName={host}-other NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=3
NodeName=absent NodeAddr=127.0.0.1 Port={ports[3]} CPUs=8 Gres=gpu:a100:4 State=DOWN
PartitionName=both Nodes={host},{host}-other Default=YES MaxTime=2-00:00:00 State=UP
PartitionName=gpus Nodes=absent MaxTime=60 State=UP
"""


def missing():
    """What is not installed here for `cluster`; empty where all is."""
    names = [name for name in PROGRAMS if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") is None]
    needed = f"needs {', '.join(names)} (Debian: {PACKAGES})" if names else ""
    return needed or ("" if os.getuid() == 0 else "needs root, as SLURM does")


@contextmanager
def cluster(folder):
    """Start it and wait until both nodes are idle; yields its slurm.conf, and ends all of it."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(4)]
        for free in sockets:
            free.bind(("127.0.0.1", 0))
        ports = [free.getsockname()[1] for free in sockets]
    conf, key, host = folder / "slurm.conf", folder / "munge.key", socket.gethostname().partition(".")[0]
    conf.write_text(CONF.format(folder=folder, host=host, ports=ports, user="root"))
    for name in ("state", f"spool-{host}", f"spool-{host}-other"):
        (folder / name).mkdir()
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o400)
    of_munge = [f"--{name}={folder}/munge.{name}" for name in ("socket", "pid-file", "log-file", "seed-file")]
    commands = [["munged", "--foreground", "--force", f"--key-file={key}", *of_munge], ["slurmctld", "-D"]]
    commands += [["slurmd", "-D", "-N", name] for name in (host, f"{host}-other")]
    environment = {**os.environ, "SLURM_CONF": str(conf), "PATH": f"{os.environ['PATH']}:/usr/sbin"}
    daemons = []
    try:
        for command in commands:
            with (folder / f"{command[0]}.out").open("a") as out:
                start = {"stdout": out, "stderr": out, "env": environment, "start_new_session": True}
                daemons.append(subprocess.Popen(command, preexec_fn=kill_on_parent_exit(), **start))
            if command[0] == "munged":
                assert wait_until((folder / "munge.socket").exists), (folder / "munged.out").read_text()
        wait_until(lambda: sinfo(environment) == ["idle", "idle"] or any(each.poll() for each in daemons), 60)
        assert sinfo(environment) == ["idle", "idle"], (folder / "slurmctld.log").read_text()
        yield conf
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait(30)


def sinfo(environment):
    """The states of the nodes of the default partition."""
    command = ["sinfo", "--Node", "--noheader", "--partition=both", "--format=%t"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout.split()


class WithoutSlurm(SlurmEngine):
    """Jobs that submitit starts as processes of this computer."""

    def __init__(self, options, folder):
        self.host, self.folder, self.workers, self.nodes = None, folder / "slurm", options.workers or 4, 1
        self.executor, self._states = submitit.LocalExecutor(self.folder), {}
        self._own = set()
        self.executor.update_parameters(timeout_min=10)

    def stop(self, runs):
        for run in runs:
            run.cancel()
        assert wait_until(lambda: all(run.done() for run in runs))

    def close(self):
        pass

    def _state(self, run):
        return "COMPLETED" if run.done() else "RUNNING"
