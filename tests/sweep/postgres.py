"""A real PostgreSQL for a session of tests: a cluster of its own, on a free port, which leaves nothing behind."""

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import psycopg
import pytest

_OWNER = "postgres"  # of the cluster where this is run as root, which PostgreSQL refuses to be


class Postgres:
    """A cluster.

    Args:
        binaries: Where initdb and pg_ctl are.
        folder: An empty folder, for the cluster alone.
        user: Who runs it; None for who runs this.
    """

    def __init__(self, binaries, folder, user):
        self.binaries, self.folder, self.user = binaries, folder, user
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._call("initdb", "--auth=trust", f"--username={_OWNER}", "--no-sync")

    def start(self):
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        self._call("pg_ctl", "start", "-w", "-s", "-o", options, "-l", str(self.folder / "log"))

    def stop(self):
        """Stop at once, as in a crash."""
        self._call("pg_ctl", "stop", "-w", "-s", "-m", "immediate")

    def url(self, database="postgres"):
        return f"postgresql://{_OWNER}@127.0.0.1:{self.port}/{database}"

    def new(self, database):
        """The URL of a new database."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{database}"')
        return self.url(database)

    def _call(self, program, *args):
        command = [str(self.binaries / program), *args, "-D", str(self.folder)]
        subprocess.run(command, check=True, user=self.user, group=self.user, cwd=self.folder, stdout=subprocess.DEVNULL)


@pytest.fixture(scope="session")
def postgres():
    """A running cluster."""
    binaries = _binaries()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed (Debian's package is postgresql)")
    is_root = os.geteuid() == 0
    # its owner can't enter the folders of root's tests
    folder = Path(tempfile.mkdtemp(prefix="shvit_pl_postgres_", dir="/tmp" if is_root else None))
    if is_root:
        shutil.chown(folder, _OWNER, _OWNER)
    try:
        cluster = Postgres(binaries, folder, _OWNER if is_root else None)
        cluster.start()
        yield cluster
        cluster.stop()
    finally:
        shutil.rmtree(folder)


def _binaries():
    """The newest that Debian installs, or those on the PATH."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[4]))
    found = str(debian[-1]) if debian else shutil.which("initdb")
    return Path(found).resolve().parent if found else None
