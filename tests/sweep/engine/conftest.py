"""Sweeps of made-up runs, and the places where their study may live: the journal, or a real PostgreSQL."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import uuid
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from shvit_pl.sweep.processes import kill_on_parent_exit
from tests.sweep.engine.launch import Sweep, kill, processes_of, wait_until

# of the cluster where this is run as root, which PostgreSQL refuses to be
OWNER = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}


@pytest.fixture
def sweep(tmp_path):
    """A sweep of made-up runs; whatever is left of it is ended."""
    yield Sweep(str(tmp_path / "numbers"))
    for process in processes_of(tmp_path / "numbers"):
        kill(process)


@pytest.fixture(params=["journal", "postgresql"])
def storage(request):
    """The journal, or a fresh database, dropped with what is still connected to it."""
    if request.param == "journal":
        yield None
    else:
        postgres = request.getfixturevalue("postgres")
        yield (url := postgres.new_database())
        postgres.execute(f'DROP DATABASE "{url.rpartition("/")[2]}" WITH (FORCE)')


class Postgres:
    """A cluster of its own on a free port, by the programs in a folder; it dies with killed tests."""

    def __init__(self, binaries, folder):
        self.binaries, self.folder, self.log = binaries, folder, folder.with_suffix(".log")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._call("initdb", "--auth=trust", "--username=postgres", "--no-sync").wait()
        self.start()

    def start(self):
        where = ("-p", str(self.port), "-k", str(self.folder), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off")
        self._server = self._call("postgres", *where)
        assert wait_until(self._answers, 60), self.log.read_text()

    def stop(self):
        """Stop at once, as in a crash."""
        self._server.send_signal(signal.SIGQUIT)
        self._server.wait()

    def new_database(self):
        """The URL of a new database."""
        name = uuid.uuid4().hex
        self.execute(f'CREATE DATABASE "{name}"')
        return self._url(name)

    def execute(self, statement):
        """Execute a statement outside transactions."""
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            connection.execute(statement)

    def _answers(self):
        with suppress(psycopg.OperationalError), psycopg.connect(self._url("postgres")):
            return True
        return False

    def _url(self, database):
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def _call(self, program, *args):
        command = [str(self.binaries / program), "-D", str(self.folder), *args]
        prepare = kill_on_parent_exit()
        with self.log.open("a") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder, preexec_fn=prepare, **OWNER)


@pytest.fixture(scope="session")
def postgres():
    """A running cluster, of the newest programs that Debian installs, or those on the PATH; nothing is left of it."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[4]))
    found = str(debian[-1]) if debian else shutil.which("initdb")
    if found is None:
        pytest.skip("PostgreSQL is not installed (Debian's package is postgresql)")
    # its owner can't enter the folders of root's tests
    folder = Path(tempfile.mkdtemp(prefix="shvit_pl_postgres_", dir="/tmp" if OWNER else None))
    if OWNER:
        shutil.chown(folder, **OWNER)
    try:
        cluster = Postgres(Path(found).resolve().parent, folder)
        yield cluster
        cluster.stop()
    finally:
        shutil.rmtree(folder)
        folder.with_suffix(".log").unlink(missing_ok=True)
