"""A pgbouncer of the tests' own, in front of a Postgres."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.support.waiting import SOON

CONFIGURATION = """
[databases]
* = {server}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 4
server_idle_timeout = 1
server_login_retry = 0.5
max_client_conn = 1000
ignore_startup_parameters = extra_float_digits
logfile = {folder}/log
"""


# Debian puts it where an ordinary user does not look.
BINARY = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@contextmanager
def running(server_url: str) -> Iterator[str]:
    """Run it in transaction mode, and yield the URL of the same database behind it; skip the test without one."""
    if BINARY is None:
        if os.environ.get("TASKCTX_TEST_PGBOUNCER"):
            pytest.fail("there is no pgbouncer: run `apt-get install pgbouncer`")
        pytest.skip("there is no pgbouncer, and TASKCTX_TEST_PGBOUNCER does not ask for one")
    server = sa.make_url(server_url)
    folder = Path(tempfile.mkdtemp(prefix="taskctx-pgbouncer-"))
    port = _free_port()
    host = server.query.get("host") or server.host or "127.0.0.1"
    parts = [f"host={host}", f"port={server.port or 5432}", f"user={server.username or 'postgres'}"]
    if server.password:
        parts.append(f"password={server.password}")
    (folder / "pgbouncer.ini").write_text(CONFIGURATION.format(server=" ".join(parts), port=port, folder=folder))
    command = [BINARY, str(folder / "pgbouncer.ini")]
    if os.geteuid() == 0:
        # It refuses to run as root; whoever owns the server's socket can reach it.
        owner = Path(str(host)).stat().st_uid if str(host).startswith("/") else pwd.getpwnam("nobody").pw_uid
        os.chown(folder, owner, -1)
        os.chown(folder / "pgbouncer.ini", owner, -1)
        command[1:1] = ["-u", pwd.getpwuid(owner).pw_name]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(port, process, folder / "log")
        yield server.set(host="127.0.0.1", port=port, query={}).render_as_string(hide_password=False)
    finally:
        process.terminate()
        process.wait(SOON)
        shutil.rmtree(folder)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + SOON
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"pgbouncer does not run: {log.read_text() if log.exists() else 'it wrote no log'}")
