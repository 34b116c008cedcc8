"""Runs on a Ray cluster: each is a process on whichever node has room, watched by an actor that holds its resources.

Where the sweep's folder is on a file system that the node shares, the run writes there; elsewhere it writes into a
temporary folder of the node, and what it has written is handed to the driver at intervals and at its end.
"""

import logging
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".*")  # read at the import: no logs of lost nodes on the terminal
import ray
from ray.exceptions import ActorUnavailableError, RayError
from ray.util import get_node_ip_address, placement_group, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from shvit_pl.compat import keep_ray_on_loopback
from shvit_pl.display import counted
from shvit_pl.errors import UserError, first_line, one_line
from shvit_pl.files import write_whole
from shvit_pl.sweep.definition import RUNS
from shvit_pl.sweep.engine.engines import Ended, Engine, Job
from shvit_pl.sweep.options import SweepOptions
from shvit_pl.sweep.processes import DRIVER, end_processes, run_environment, start_process

_FLAGS = {"CPU": "cpus_per_run", "GPU": "gpus_per_run"}
_HANDOVER = 60.0  # seconds between two deliveries of what a run has written
_WATCH = 1.0  # seconds that an actor watches its process for, before it answers
_PATIENCE = 30.0  # seconds for runs to end, and for nodes to answer
_ANSWER = 5.0  # seconds for a cluster to answer


class _News(NamedTuple):
    """What an actor answers about its process."""

    node: str
    """The node's id."""
    host: str
    """The node's name."""
    log: bytes
    """What the process has printed since it was asked last."""
    files: Mapping[str, bytes]
    """Contents of files in the run's folder, by their paths there."""
    code: int | None


@dataclass(frozen=True)
class _Task:
    """A job for an actor: a process of one of the run's nodes."""

    job: Job
    directory: str
    """The driver's, for relative paths."""
    folder: str
    """Of the sweep, on the driver's computer."""
    mark: tuple[int, int]
    """Of a file there, by which a node knows whether it shares the folder."""
    configs: Mapping[str, str]
    """Texts of the config files, by their paths."""
    begun: Mapping[str, bytes]
    """What the run wrote before, as `_News` has it."""
    threads: int | None
    """Of the process; None for Ray's choice, a thread for each core of the run, if the node's environment has none."""
    python: str = sys.executable
    """The driver's interpreter."""
    version: str = field(default_factory=lambda: version("shvit-pl"))
    """The driver's, of this package."""


class _Runner:
    """An actor: it starts a run's process on its node, and answers for it; the process dies with it."""

    def address(self) -> tuple[str, int]:
        """Return where the processes of a run on several nodes meet."""
        with socket.socket() as free:
            free.bind(("", 0))
            return _address(), int(free.getsockname()[1])

    def start(self, task: _Task, rank: int, nodes: int, master: tuple[str, int] | None) -> _News:
        """Start the process, as Lightning's node number `rank` of `nodes`, and return the first news."""
        if (own := version("shvit-pl")) != task.version:  # of a node that has joined since
            raise UserError(f"{socket.gethostname()} has shvit-pl {own}, and the driver {task.version}.")
        self.folder = Path(task.folder)
        self.is_shared = False
        with suppress(OSError):
            os.chdir(task.directory)
            self.is_shared = _mark(self.folder) == task.mark
        self.own = Path(tempfile.mkdtemp(prefix="shvit_pl_sweep_"))
        if not self.is_shared:
            self.folder = self.own
        self.run = self.folder / RUNS / task.job.name
        if not self.is_shared:
            _write(task.begun, self.run)
        self.log, self.read, self.delivered = self.own / "log", 0, time.time()
        command, environment = self._translated(task), dict(task.job.environment)
        if master is not None:
            environment |= {"MASTER_ADDR": master[0], "MASTER_PORT": str(master[1]), "NODE_RANK": str(rank)}
        self.process = start_process(command, self.log, run_environment(os.environ, None, task.threads) | environment)
        return self.watch(_WATCH)

    def _translated(self, task: _Task) -> list[str]:
        """Return the command with this node's interpreter, and paths of this node where its folder is its own."""
        changed = {task.python: sys.executable}
        if not self.is_shared:
            runs = "--trainer.default_root_dir="
            changed[f"{runs}{Path(task.folder) / RUNS}"] = f"{runs}{self.folder / RUNS}"
            for number, (path, text) in enumerate(task.configs.items()):
                copy = self.folder / f"{number}.yaml"
                copy.write_text(text)
                changed[f"--config={path}"] = f"--config={copy}"
        return [changed.get(arg, arg) for arg in task.job.command]

    def watch(self, seconds: float, is_due: bool = False) -> _News:
        """Return the news, at the process's end or after so many seconds.

        Files come at the end, after which nothing is left on the node, and where a delivery `is_due`.
        """
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        code = self.process.poll()
        with self.log.open("rb") as log:
            log.seek(self.read)
            text = log.read()
        self.read += len(text)
        files = dict[str, bytes]()
        if not self.is_shared and (code is not None or is_due):
            since, self.delivered = self.delivered if code is None else 0.0, time.time()
            files = _read(self.run, since)
        if code is not None:
            end_processes([self.process])  # what it has started
            shutil.rmtree(self.own, ignore_errors=True)
        return _News(ray.get_runtime_context().get_node_id(), socket.gethostname(), text, files, code)

    def stop(self) -> _News:
        """End the process, and return the news."""
        end_processes([self.process])
        return self.watch(0)


@dataclass
class _Placed:
    """A run of one process per node."""

    job: Job
    runners: list[Any]
    group: Any
    """The nodes' placement group; None on one node."""
    nodes: set[str]
    """Ids of the nodes that it may be on."""
    host: str = ""
    """The name of one; empty before it has answered."""
    delivered: float = field(default_factory=time.monotonic)
    """When its files were asked for."""
    news: dict[int, Any] = field(default_factory=dict)
    """What each runner that goes on will answer, by its place."""


class RayEngine(Engine):
    """A Ray cluster, or Ray on this computer alone where no address is given.

    Raises `UserError` for a cluster that can't be reached, that has no node for a run, or nodes of another version.
    """

    def __init__(
        self, options: SweepOptions, folder: Path, configs: Sequence[str] = (), devices: object = "auto"
    ) -> None:
        _connect(options.address)
        self.folder, self.workers, self.nodes = folder, options.workers, options.nodes_per_run
        self.threads, self.demand = options.cpus_per_run, {"CPU": float(options.cpus_per_run or 1)}
        if options.gpus_per_run or any("GPU" in node["Resources"] for node in _nodes()):
            self.demand["GPU"] = options.gpus_of_run(devices)
        self._configs = {path: Path(path).read_text() for path in configs if Path(path).is_file()}
        self.host = _address()
        self._free: list[tuple[Any, set[str]]] = []  # runners whose run has ended, and their nodes
        try:
            self._check_nodes(options)
        except UserError:
            self.close()
            raise

    def _check_nodes(self, options: SweepOptions) -> None:
        nodes = _nodes()
        if sum(self._runs_on(node) > 0 for node in nodes) < self.nodes:
            most = {name: max(node["Resources"].get(name, 0.0) for node in nodes) for name in self.demand}
            flag = next((_FLAGS[name] for name, amount in self.demand.items() if amount > most[name]), "nodes_per_run")
            have = "; ".join(f"{node['NodeManagerHostname']} has {_resources(node['Resources'])}" for node in nodes)
            raise UserError(
                f"--{flag} {getattr(options, flag) or 1:g}: a run needs {counted(self.nodes, 'node')} with "
                f"{_resources(self.demand)}; {have}. Ask for less{', or add nodes' if options.address else ''}."
            )
        own = version("shvit-pl")
        others = [f"{name} has {theirs}" for name, theirs in _versions(nodes) if theirs != own]
        if others:
            found = "; ".join(dict.fromkeys(others))
            raise UserError(
                f"--engine ray: this is shvit-pl {own}, and {found}. Install the same version on each node."
            )

    def _runs_on(self, node: Mapping[str, Any]) -> int:
        """Return how many runs, or parts of runs, a node has room for."""
        has, gpus = node["Resources"], self.demand.get("GPU", 0.0)
        room = int(has.get("CPU", 0.0) / self.demand["CPU"])
        if gpus:  # a fraction is one of a single GPU
            room = min(room, int(has.get("GPU", 0.0)) * int(1 / gpus) if gpus < 1 else int(has.get("GPU", 0.0) / gpus))
        return room

    def room(self) -> int:
        """Return the number of runs that the living nodes have room for, at most `workers`."""
        parts = [self._runs_on(node) for node in _nodes()]
        room = sum(parts) // self.nodes
        while sum(min(part, room) for part in parts) < room * self.nodes:  # each part of a run is on another node
            room -= 1
        return min(room, self.workers or room)

    def start(self, jobs: Sequence[Job]) -> Iterator[_Placed]:
        """Have each run wait for its nodes; those of a run that has just ended are used again, or given back."""
        while len(self._free) > len(jobs):  # others may need what they hold
            ray.kill(self._free.pop()[0])
        return map(self._start, jobs)

    def _start(self, job: Job) -> _Placed:
        options: dict[str, Any] = {
            "num_cpus": self.demand["CPU"], "num_gpus": self.demand.get("GPU", 0.0), "max_restarts": 0,
        }  # fmt: skip
        group = None
        if self.nodes > 1:
            group = placement_group([self.demand] * self.nodes, strategy="STRICT_SPREAD")
        begun = self.folder / RUNS / job.name
        task = _Task(
            job, os.getcwd(), str(self.folder), _mark(self.folder), self._configs, _read(begun, 0.0), self.threads
        )
        placed = _Placed(job, [], group, {node["NodeID"] for node in _nodes()})
        if self._free:
            runner, placed.nodes = self._free.pop()
            placed.runners.append(runner)
        for rank in range(len(placed.runners), self.nodes):
            if group is not None:
                options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(group, rank)
            placed.runners.append(ray.remote(_Runner).options(**options).remote())
        master = placed.runners[0].address.remote() if group is not None else None
        for rank, runner in enumerate(placed.runners):
            placed.news[rank] = runner.start.remote(task, rank, self.nodes, master)
        return placed

    def has_begun(self, run: _Placed) -> bool:
        """Return whether its first node has answered."""
        return bool(run.host)

    def ended(self, run: _Placed) -> Ended | None:
        """Take in what a run has printed and written, and return how it ended."""
        ready, _ = ray.wait([*run.news.values()], num_returns=len(run.news), timeout=0)
        for rank, ref in [(rank, ref) for rank, ref in run.news.items() if ref in ready]:
            try:
                news: _News = ray.get(ref)
            except ActorUnavailableError:  # the network failed: it may still go on
                news = _News("", run.host, b"", {}, None)
            except RayError as error:
                is_lost = _has_lost(run.nodes)
                self._release(run)
                return Ended(1, run.host, is_lost, "" if is_lost else one_line(getattr(error, "cause", error)))
            self._take_in(run, rank, news)
            if news.code is not None and (rank == 0 or news.code != 0):
                if self.nodes == 1:
                    self._free.append((run.runners[0], run.nodes))
                else:
                    self._release(run)
                return Ended(news.code, news.host)
            if news.code is not None:
                del run.news[rank]
            else:
                is_due = rank == 0 and time.monotonic() - run.delivered > _HANDOVER
                run.delivered = time.monotonic() if is_due else run.delivered
                run.news[rank] = run.runners[rank].watch.remote(_WATCH, is_due)
        return None

    def stop(self, runs: Sequence[_Placed]) -> None:
        """End the processes, take in what they have written, and give the nodes back."""
        asked = [
            (run, rank, ref)
            for run in runs
            if run.host  # the others' actors may wait for their places, and answer nothing
            for rank, last in run.news.items()
            for ref in (last, run.runners[rank].stop.remote())
        ]
        refs = [ref for *_, ref in asked]
        ready, _ = ray.wait(refs, num_returns=len(refs), timeout=_PATIENCE) if refs else ((), ())
        for run, rank, ref in asked:
            if ref in ready:
                with suppress(RayError, OSError):
                    self._take_in(run, rank, ray.get(ref))
        for run in runs:
            self._release(run)

    def _take_in(self, run: _Placed, rank: int, news: _News) -> None:
        """Write down what a node of a run has answered."""
        run.host = run.host or news.host
        if self.nodes == 1 and news.node:
            run.nodes = {news.node}
        if news.log:
            with run.job.log.open("ab") as log:
                log.write(news.log)
        if rank == 0:
            _write(news.files, self.folder / RUNS / run.job.name)

    def _release(self, run: _Placed) -> None:
        """Give the nodes of a run back; where it goes on on some, it ends there."""
        if self.nodes > 1 and run.host:
            ray.wait([runner.stop.remote() for runner in run.runners], num_returns=self.nodes, timeout=_PATIENCE)
        for runner in run.runners:
            ray.kill(runner)
        if run.group is not None:
            remove_placement_group(run.group)

    def close(self) -> None:
        """Leave the cluster; a Ray that was started here ends."""
        ray.shutdown()


def _connect(address: str | None) -> None:
    """Connect to a cluster, or start one of this computer; raises `UserError` where none answers."""
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": False}
    if address is None:
        keep_ray_on_loopback()
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # Ray would leave one in ~/.ray for all clusters
        logging.getLogger("ray").setLevel(logging.ERROR)  # no hint that it asks for it
        ray.init("local", include_dashboard=False, **quiet)
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        if address != "auto" and not port.isdecimal():
            raise ValueError("it has no port")
        if address != "auto":  # Ray itself tries for minutes
            socket.create_connection((host, int(port)), _ANSWER).close()
        ray.init(address=address, **quiet)
    except (OSError, ValueError, RuntimeError, RayError) as error:
        raise UserError(
            f"--address {address}: no Ray cluster answers there ({first_line(error)}). Give auto, HOST:PORT or "
            "ray://HOST:PORT of one that ray start --head has started (with its RAY_AUTH_TOKEN, if it demands one), or "
            "leave the flag out for this computer alone."
        ) from error


def _nodes() -> list[Mapping[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def _address() -> str:
    return str(get_node_ip_address())  # type: ignore[no-untyped-call]


def _has_lost(nodes: set[str]) -> bool:
    """Return whether one of the nodes has died, which Ray may learn after the death of what was on it."""
    end = time.monotonic() + _ANSWER
    while nodes <= {node["NodeID"] for node in _nodes()}:
        if time.monotonic() > end:
            return False
        time.sleep(0.5)
    return True


def _mark(folder: Path) -> tuple[int, int]:
    """Return what is the same wherever a sweep's folder is seen; read without opening the file, which is locked."""
    status = (folder / DRIVER).stat()
    return status.st_ino, status.st_mtime_ns


def _versions(nodes: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return each node's name, and the version of this package there."""

    def installed() -> str:  # travels as it is: the package may be missing there
        from importlib.metadata import PackageNotFoundError, version

        try:
            return f"{version('shvit-pl')}"
        except PackageNotFoundError:
            return "none"

    places = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in nodes]
    asked = [ray.remote(installed).options(num_cpus=0, scheduling_strategy=place).remote() for place in places]
    names = [node["NodeManagerHostname"] for node in nodes]
    ready, _ = ray.wait(asked, num_returns=len(asked), timeout=_PATIENCE)
    return [(name, ray.get(ref) if ref in ready else "not answered") for name, ref in zip(names, asked, strict=True)]


def _resources(amounts: Mapping[str, float]) -> str:
    return " and ".join(counted(f"{amounts.get(name, 0):g}", name) for name in _FLAGS)


def _read(folder: Path, since: float) -> dict[str, bytes]:
    """Return the files below a folder that are newer than `since`, but those that are being written."""
    files = dict[str, bytes]()
    for path in folder.rglob("[!.]*"):
        with suppress(OSError):  # it was replaced
            if path.is_file() and path.stat().st_mtime > since:
                files[str(path.relative_to(folder))] = path.read_bytes()
    return files


def _write(files: Mapping[str, bytes], folder: Path) -> None:
    for name, content in files.items():
        write_whole(folder / name, content)
