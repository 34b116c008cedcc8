"""A real PostgreSQL for a session of tests: a cluster of its own, on a free port, which leaves nothing behind."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from shvit_pl.sweep.processes import kill_on_parent_exit
from tests.sweep.engine.processes import wait_until

_OWNER = "postgres"  # of the cluster where this is run as root, which PostgreSQL refuses to be


class Postgres:
    """A cluster of the programs in a folder, in a folder that is empty."""

    def __init__(self, binaries, folder):
        self.binaries, self.folder, self.log = binaries, folder, folder.with_suffix(".log")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._call("initdb", "--auth=trust", f"--username={_OWNER}", "--no-sync").wait()
        self.start()

    def start(self):
        """Start it; it dies with the tests, should they be killed."""
        where = ("-p", str(self.port), "-k", str(self.folder), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off")
        self._server = self._call("postgres", *where)
        assert wait_until(self._answers, 60), self.log.read_text()

    def stop(self):
        """Stop at once, as in a crash."""
        self._server.send_signal(signal.SIGQUIT)
        self._server.wait()

    def _answers(self):
        with suppress(psycopg.OperationalError), psycopg.connect(self.url()):
            return True
        return False

    def url(self, database="postgres"):
        return f"postgresql://{_OWNER}@127.0.0.1:{self.port}/{database}"

    def new(self, database):
        """The URL of a new database."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{database}"')
        return self.url(database)

    def _call(self, program, *args):
        user = _OWNER if os.geteuid() == 0 else None
        owner = {"user": user, "group": user, "cwd": self.folder, "preexec_fn": kill_on_parent_exit()}
        with self.log.open("a") as log:
            command = [str(self.binaries / program), "-D", str(self.folder), *args]
            return subprocess.Popen(command, stdout=log, stderr=log, **owner)


@pytest.fixture(scope="session")
def postgres():
    """A running cluster, of the newest programs that Debian installs, or those on the PATH."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[4]))
    found = str(debian[-1]) if debian else shutil.which("initdb")
    if found is None:
        pytest.skip("PostgreSQL is not installed (Debian's package is postgresql)")
    is_root = os.geteuid() == 0
    # its owner can't enter the folders of root's tests
    folder = Path(tempfile.mkdtemp(prefix="shvit_pl_postgres_", dir="/tmp" if is_root else None))
    if is_root:
        shutil.chown(folder, _OWNER, _OWNER)
    try:
        cluster = Postgres(Path(found).resolve().parent, folder)
        yield cluster
        cluster.stop()
    finally:
        shutil.rmtree(folder)
        folder.with_suffix(".log").unlink(missing_ok=True)
