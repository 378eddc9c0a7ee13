"""A PostgreSQL of the tests' own, from Debian's package: a cluster in a temporary
directory, on a unix socket and nothing else.

It refuses to run as root, so it is nobody's where the tests are root's.
"""

import glob
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile

import psycopg
from waiting import wait_until

# No test needs what it has written to outlive the machine.
OPTIONS = {
    "listen_addresses": "",
    "fsync": "off",
    "max_connections": "100",
    "shared_buffers": "16MB",
    "autovacuum": "off",
}


class Postgres:
    """`directory` holds the socket, `where` is what a client needs to find it (a libpq
    connection string).
    """

    def __init__(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="spyglass-postgres-"))
        self._as = (
            {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
        )
        if self._as:
            shutil.chown(self.directory, "nobody", "nogroup")
        self._data = self.directory / "data"
        self.where = f"host={self.directory} user=tests dbname=postgres"
        self._process = None

    def start(self):
        self._run(
            "initdb",
            "--pgdata",
            self._data,
            "--username=tests",
            "--auth=trust",
            "--no-sync",
            "--locale=C",
            "--encoding=UTF8",
        )
        settings = OPTIONS | {"unix_socket_directories": str(self.directory)}
        options = [f"--{name}={value}" for name, value in settings.items()]
        log = (self.directory / "log").open("wb")
        with log:
            command = [_program("postgres"), "-D", str(self._data), *options]
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                start_new_session=True,
                **self._as,
            )
        wait_until(
            self._answers,
            30,
            lambda: f"PostgreSQL has not started: {(self.directory / 'log').read_text()}",
        )
        return self

    def _run(self, program, *arguments):
        done = subprocess.run(
            [_program(program), *arguments],
            cwd=self.directory,
            capture_output=True,
            text=True,
            **self._as,
        )
        assert done.returncode == 0, done.stderr

    def _answers(self):
        try:
            psycopg.connect(self.where).close()
        except psycopg.OperationalError:
            assert self._process.poll() is None, (self.directory / "log").read_text()
            return False
        return True

    def ask(self, query):
        """The rows of `query`, or None for a command."""
        with psycopg.connect(self.where, autocommit=True) as connection:
            cursor = connection.execute(query)
            return cursor.fetchall() if cursor.description else None

    def end(self):
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)  # "fast": it ends those who are connected
            try:
                self._process.wait(20)
            finally:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self.directory)


def _program(name):
    """Debian has a folder for each version, and none of them in PATH."""
    found = sorted(
        glob.glob(f"/usr/lib/postgresql/*/bin/{name}"), key=lambda path: float(path.split("/")[4])
    )
    program = found[-1] if found else shutil.which(name)
    assert program, "there is no PostgreSQL: make test installs Debian's package postgresql"
    return program
