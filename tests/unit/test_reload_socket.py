"""The socket on which `spyglass reload` asks the Master: which processes may, what each
is told, and which answers the command trusts.
"""

import os
import socket
import struct

import pytest

from spyglass.config.command_line import parse
from spyglass.errors import UsageError
from spyglass.log import Log
from spyglass.master import local_socket
from spyglass.master.reload_socket import Reloads, reload_addresses
from spyglass.ops.commands import reload
from spyglass.runtime import scoreboard
from spyglass.runtime.poller import Poller

from .answering import answering

LIFE = "0123456789abcdef"


class Generation:
    """As far as a handover goes: whether its workers have answered an order."""

    def __init__(self, *orders):
        self.orders = orders

    def obeys(self, order):
        return order in self.orders


@pytest.fixture
def environ(monkeypatch):
    life = f"{LIFE}-{os.getpid()}"
    monkeypatch.setenv("INVOCATION_ID", life)
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    return {"INVOCATION_ID": life, "MAINPID": str(os.getpid())}


@pytest.fixture
def desk(environ):
    """A Reloads, with `asked` (int) and `knock()`, which waits for what happens at the
    desk.
    """
    poller = Poller()

    def ask():
        made.asked += 1
        made.begin(ready=True)

    made = Reloads(poller, Log("master"), ask)
    made.asked = 0
    made.knock = lambda: poller.wait(0.1)
    yield made
    made.abandon()
    poller.abandon()


def come(environ):
    visitor = socket.socket(socket.AF_UNIX)
    visitor.settimeout(5)
    visitor.connect(reload_addresses(environ, environ["MAINPID"])[0])
    return visitor


def heard(visitor):
    with visitor:
        return visitor.makefile().read()


def test_the_address_is_that_of_this_life_of_the_unit_or_of_this_process():
    assert reload_addresses({"INVOCATION_ID": "a"}, "12") == [
        "\0spyglass/reload/a",
        "\0spyglass/reload/12",
    ]
    assert reload_addresses({}, "12") == ["\0spyglass/reload/12"]
    assert reload_addresses({"STATE_DIRECTORY": "/var/lib/a:/var/lib/b"}, "12") == [
        "/var/lib/a/.spyglass-reload",
        "\0spyglass/reload/12",
    ]


@pytest.fixture
def state(tmp_path, environ, monkeypatch):
    """The environment of a unit with a state directory."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    return environ | {"STATE_DIRECTORY": str(tmp_path)}


def a_stale_socket(path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))


def a_link(path):
    path.symlink_to("/etc/passwd")


PUT = [lambda path: None, a_stale_socket, a_link, os.mkfifo, lambda path: path.touch()]


@pytest.mark.parametrize("put", PUT)
def test_its_file_is_in_the_apps_own_directory_and_goes_with_it(state, tmp_path, put, capfd):
    put(tmp_path / ".spyglass-reload")
    poller = Poller()
    desk = Reloads(poller, Log("master"), lambda: desk.begin(ready=True))
    visitor = come(state)
    poller.wait(0.1)
    desk.end(78, "boom")
    desk.tell()
    assert heard(visitor) == "78 boom\n"
    desk.close()
    poller.abandon()
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr().err == ""


def test_what_the_next_master_has_put_there_stays(state, tmp_path):
    poller = Poller()
    first, second = (Reloads(poller, Log("master"), lambda: None) for _ in range(2))
    first.close()
    assert [path.name for path in tmp_path.iterdir()] == [".spyglass-reload"]
    come(state).close()
    second.close()
    poller.abandon()
    assert list(tmp_path.iterdir()) == []


def test_where_no_file_can_be_made_there_is_a_name(state, tmp_path, capfd):
    (tmp_path / ".spyglass-reload").mkdir()
    poller = Poller()
    desk = Reloads(poller, Log("master"), lambda: None)
    with socket.socket(socket.AF_UNIX) as visitor:
        visitor.connect(reload_addresses(state, "0")[1])
    desk.close()
    poller.abandon()
    assert (tmp_path / ".spyglass-reload").is_dir()
    assert capfd.readouterr().err == ""


def test_all_that_wait_are_told_the_outcome_of_the_newest(desk, environ):
    first = come(environ)
    desk.knock()
    second, third = come(environ), come(environ)
    desk.knock()
    assert desk.asked == 2  # the two came together
    desk.end(78, "boom")
    desk.tell()
    assert [heard(each) for each in (first, second, third)] == ["78 boom\n"] * 3


def test_it_is_over_when_the_new_accept_and_the_old_do_not_any_more(desk, environ):
    visitor = come(environ)
    desk.knock()
    new, old = Generation(), Generation()
    desk.take_over(new, old)
    for orders in [((), ()), ((scoreboard.SERVE,), ()), ((), (scoreboard.RETIRE,))]:
        new.orders, old.orders = orders
        desk.look(0.0)
        assert desk.under_way
    new.orders, old.orders = (scoreboard.SERVE,), (scoreboard.RETIRE,)
    desk.look(0.0)
    assert heard(visitor) == "0 \n"


def test_a_busy_worker_does_not_delay_the_end_of_a_reload_for_ever(desk, environ):
    visitor = come(environ)
    desk.knock()
    desk.take_over(Generation(), Generation())
    desk.look(*desk.due(0.0))
    assert heard(visitor) == "0 \n"


def test_a_client_during_the_handover_requests_another_reload(desk, environ):
    first = come(environ)
    desk.knock()
    desk.take_over(Generation(), Generation())
    second = come(environ)
    desk.knock()
    assert heard(first) == "0 \n"
    desk.end(78, "boom")
    desk.tell()
    assert heard(second) == "78 boom\n"


def test_why_the_last_one_failed_is_known_until_another_serves(desk):
    desk.begin(ready=True)
    desk.end(78, "boom")
    assert desk.failure == "boom"
    desk.take_over(Generation(), None)
    assert desk.failure == ""


def test_a_client_that_has_gone_does_no_harm(desk, environ):
    come(environ).close()
    desk.knock()
    desk.end()
    desk.tell()


class Peer:
    def __init__(self, uid):
        self.uid = uid

    def getsockopt(self, *_):
        return struct.pack("iII", 1, self.uid, 1)


@pytest.mark.parametrize(("uid", "ours"), [(0, True), (1000, True), (1001, False), (65534, False)])
def test_only_root_and_the_masters_own_user_may_ask(monkeypatch, uid, ours):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert local_socket._is_ours(Peer(uid)) is ours


def test_another_user_is_sent_away(desk, environ, monkeypatch):
    monkeypatch.setattr(local_socket, "_is_ours", lambda sock: False)
    visitor = come(environ)
    desk.knock()
    assert heard(visitor) == ""
    assert desk.asked == 0


def test_a_name_that_is_taken_is_no_end(desk, capfd):
    """Nor is anything else that keeps a socket from listening."""
    poller = Poller()
    second = Reloads(poller, Log("master"), lambda: None)
    assert capfd.readouterr().err == "", "there is one more name"
    another = Reloads(poller, Log("master"), lambda: None)
    assert (
        "cannot reach this Master; use SIGHUP instead: Address already in use"
        in capfd.readouterr().err
    )
    another.begin(ready=True)
    another.end()
    another.look(0.0)
    another.abandon()
    second.abandon()
    poller.abandon()


# The command


@pytest.fixture(autouse=True)
def signals(monkeypatch):
    """They are those of a process of its own."""
    monkeypatch.setattr(reload.signal, "signal", lambda number, handler: None)
    monkeypatch.setattr(reload, "_LATER", 0.0)


def test_a_listener_of_another_user_is_not_believed(desk, environ, monkeypatch, capfd):
    real = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: real + 1)
    assert reload.reload(environ) == 69
    assert "another user's process listens on the Master's socket" in capfd.readouterr().err


def test_a_listener_that_is_another_process_is_not_believed(state, tmp_path, capfd):
    """A worker of the app's, say, which is the same user: it cannot tell systemd how a
    reload went.
    """
    near, far = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(str(tmp_path / ".spyglass-reload"))
            listener.listen()
            os.write(far, b"x")
            sock, _ = listener.accept()
            sock.send(b"0 \n")
        finally:
            os._exit(0)
    os.close(far)
    assert os.read(near, 1) == b"x"
    os.close(near)
    assert reload.reload(state) == 69
    os.waitpid(pid, 0)
    assert f"another process, pid {pid}, listens on the Master's socket" in capfd.readouterr().err


def test_a_listener_that_accepts_nothing_is_not_waited_for(state, tmp_path, capfd):
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as full:
        listener.bind(str(tmp_path / ".spyglass-reload"))
        listener.listen(0)
        full.connect(str(tmp_path / ".spyglass-reload"))
        assert reload.reload(state) == 69
    said = capfd.readouterr().err
    assert "cannot reach the Master, pid " in said
    assert ": Resource temporarily unavailable" in said


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"\n",
        b"0",
        b"0 \n",
        "²\n".encode(),
        b"-1 x\n",
        b"99999999999 x\n",
        b"\xff\n",
        b"78 \x1b[31m\xe2\x80\xa8\n",
        b"7" * 100_000,
    ],
)
def test_whatever_is_said_is_understood(state, tmp_path, said, capfd):
    with answering(tmp_path / ".spyglass-reload", said):
        status = reload.reload(state)
    assert status == (0 if said.startswith(b"0") else 78 if said.startswith(b"78 ") else 69)
    assert "\x1b" not in capfd.readouterr().err


def test_a_master_that_says_nothing_is_not_waited_for_without_end(
    state, tmp_path, monkeypatch, capfd
):
    monkeypatch.setattr(reload, "_ANSWERS", 0.05)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / ".spyglass-reload"))
        listener.listen()
        assert reload.reload(state) == 69
    assert "no answer from the Master" in capfd.readouterr().err


def test_it_says_so_if_nothing_listens(capfd):
    assert reload.reload({"MAINPID": "1", "INVOCATION_ID": "nothing"}) == 69
    assert "cannot reach the Master, pid 1: Connection refused" in capfd.readouterr().err


def test_without_a_main_pid_it_cannot_be_meant():
    with pytest.raises(UsageError, match="MAINPID is not set"):
        reload.reload({})


@pytest.mark.parametrize(("words", "name"), [(["reload"], None), (["reload", "blog"], "blog")])
def test_the_command_line(words, name):
    arguments = parse(words)
    assert (arguments.command, arguments.name) == ("reload", name)


@pytest.mark.parametrize(
    "words",
    [["reload", "a", "b"], ["reload", "--name", "a"], ["reload", "--workers=2"], ["reload", "-x"]],
)
def test_it_takes_one_name_and_no_options(words):
    with pytest.raises(UsageError, match="takes the NAME of one app and no options"):
        parse(words)
