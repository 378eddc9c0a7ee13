"""systemd's contracts: the sockets that are passed in (sd_listen_fds(3)) and the notes
that are sent back (sd_notify(3)).
"""

import fcntl
import json
import os
import socket
import subprocess
import sys
import tempfile

import pytest
from process.processes import no_descriptors

from spyglass.runtime import sd_daemon
from spyglass.runtime.addresses import address_text

# Becomes a process to which systemd has passed descriptors: from 3 on, named,
# inheritable, meant for this very pid.
CHILD = """
import json, os, socket, sys
sources, environ = json.loads(sys.argv[1]), json.loads(sys.argv[2])
for number, fd in enumerate(sources, 3):
    os.dup2(fd, number) if fd >= 0 else os.closerange(number, number + 1)
os.environ |= {name: value.replace("PID", str(os.getpid())) for name, value in environ.items()}

from spyglass.runtime import sd_daemon
from spyglass.errors import ListenerError
try:
    listeners = sd_daemon.adopt_listeners()
except ListenerError as error:
    print(json.dumps({"refused": str(error), "status": error.exit_status}))
else:
    print(json.dumps([{
        "fd": each.fd, "name": each.name, "address": str(each), "unix": each.is_unix, "blocking": os.get_blocking(each.fd),
        "inherited": os.get_inheritable(each.fd),
        "nodelay": not each.is_unix and bool(each.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)),
    } for each in listeners]))
"""


def adopt(files, **environ):
    """What comes of passing these (None: a descriptor that is closed)."""
    # Out of the way of the numbers from 3 on, that the child makes of them.
    high = [-1 if file is None else fcntl.fcntl(file, fcntl.F_DUPFD, 100) for file in files]
    environ = {"LISTEN_PID": "PID", "LISTEN_FDS": str(len(files))} | environ
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LISTEN_")}
    command = [sys.executable, "-c", CHILD, json.dumps(high), json.dumps(environ)]
    try:
        done = subprocess.run(
            command,
            env=clean,
            pass_fds=[fd for fd in high if fd >= 0],
            capture_output=True,
            text=True,
            timeout=30,
        )
    finally:
        for fd in high:
            if fd >= 0:
                os.close(fd)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refusal(files, **environ):
    answer = adopt(files, **environ)
    assert answer["status"] == 78
    assert "\n" not in answer["refused"]
    return answer["refused"]


@pytest.fixture
def tcp():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


@pytest.fixture
def tcp6():
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    with socket.socket(socket.AF_INET6) as sock:
        sock.bind(("::1", 0))
        sock.listen()
        yield sock


@pytest.fixture
def unix(tmp_path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "http.sock"))
        sock.listen()
        yield sock


def test_every_kind_of_listener_is_adopted_under_its_name(tcp, tcp6, unix):
    got = adopt([unix, tcp, tcp6], LISTEN_FDNAMES="http:admin:whatever")
    assert [(each["name"], each["address"], each["unix"]) for each in got] == [
        ("http", f"unix:{unix.getsockname()}", True),
        ("admin", f"127.0.0.1:{tcp.getsockname()[1]}", False),
        ("whatever", f"[::1]:{tcp6.getsockname()[1]}", False),
    ]
    assert [each["fd"] for each in got] == [3, 4, 5]
    assert not any(each["blocking"] or each["inherited"] for each in got)
    assert [each["nodelay"] for each in got] == [False, True, True]


def test_names_are_optional_and_may_repeat(tcp, unix):
    assert len(adopt([tcp, unix])) == 2
    assert [each["name"] for each in adopt([tcp, unix], LISTEN_FDNAMES="http:http")] == [
        "http",
        "http",
    ]


NONE = (
    "no listening socket was passed in: start it through its .socket unit, "
    "or use 'spyglass lookout' where there is no systemd"
)


@pytest.mark.parametrize(
    "environ",
    [
        {"LISTEN_FDS": "0"},
        {"LISTEN_PID": "1"},
        {"LISTEN_PID": "1", "LISTEN_FDS": "x"},
        {"LISTEN_PID": ""},
        {"LISTEN_FDS": ""},
    ],
)
def test_none_for_us(environ):
    """LISTEN_PID says for whom they are; a service's children inherit the variables and
    not the meaning.
    """
    assert refusal([], **environ).startswith(("no listening socket", "LISTEN_FDS is not a number"))


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("datagram", "is not a stream socket: use ListenStream=, not ListenDatagram="),
        ("unix datagram", "is not a stream socket: use ListenStream=, not ListenDatagram="),
        ("sequential packets", "is not a stream socket: use ListenStream=, not ListenDatagram="),
        ("connected", "is not listening: the unit must have Accept=no"),
        ("bound", "is not listening: the unit must have Accept=no"),
        ("a file", "is not a socket"),
        ("a pipe", "is not a socket"),
        ("closed", "is closed"),
    ],
)
@pytest.mark.parametrize("position", [0, 1])
def test_what_cannot_be_accepted_from_is_named(tcp, kind, says, position):
    near, far = socket.socketpair()
    pipe = os.pipe()
    others = {
        "datagram": socket.socket(type=socket.SOCK_DGRAM),
        "unix datagram": socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM),
        "sequential packets": socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET),
        "connected": near,
        "bound": socket.socket(),
        "a file": tempfile.TemporaryFile(),
    }
    others["bound"].bind(("127.0.0.1", 0))
    passed = [tcp, tcp]
    passed[position] = others.get(kind, pipe[0] if kind == "a pipe" else None)
    try:
        assert (
            refusal(passed, LISTEN_FDNAMES="web:admin")
            == f"inherited descriptor {3 + position} ({['web', 'admin'][position]}) {says}"
        )
    finally:
        for each in (far, *others.values()):
            each.close()
        for fd in pipe:
            os.close(fd)


@pytest.mark.parametrize(
    "environ",
    [
        {"LISTEN_FDS": "many"},
        {"LISTEN_FDS": "-1"},
        {"LISTEN_FDNAMES": "one:two"},
        {"LISTEN_PID": "many"},
        {"LISTEN_FDS": "2"},
    ],
)
def test_variables_that_contradict_the_descriptors_are_refused_in_one_line(tcp, environ):
    """Whatever started us got it wrong. A traceback would end with status 1, and be
    restarted for ever.
    """
    assert refusal([tcp], **environ)


# Addresses


@pytest.mark.parametrize(
    ("family", "address", "text"),
    [
        (socket.AF_INET, ("127.0.0.1", 0), "127.0.0.1:{port}"),
        (socket.AF_INET, ("0.0.0.0", 0), "0.0.0.0:{port}"),
        (socket.AF_INET6, ("::1", 0), "[::1]:{port}"),
        (socket.AF_INET6, ("::", 0), "[::]:{port}"),
        (socket.AF_UNIX, "{path}/a b", "unix:{path}/a b"),
    ],
)
def test_an_address_is_written_as_bind_takes_it(tmp_path, family, address, text):
    with socket.socket(family) as sock:
        sock.bind(address.format(path=tmp_path) if isinstance(address, str) else address)
        port = "" if family == socket.AF_UNIX else sock.getsockname()[1]
        assert address_text(sock) == text.format(path=tmp_path, port=port)


# Notes


def test_notes_are_sent_in_one_packet(tmp_path, monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        sd_daemon.notify("READY=1", "STATUS=awake: Füße")
        assert journal.recv(4096).decode() == "READY=1\nSTATUS=awake: Füße"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("a\rSTOPPING=1\nWATCHDOG=1\u2028b", "STATUS=a STOPPING=1 WATCHDOG=1 b"),
        ("\ud800 \udc80", r"STATUS=\ud800 \udc80"),
        ("a\0b", r"STATUS=a\x00b"),
        ("\U0001f989" * 5000, "STATUS=" + "\U0001f989" * 990 + "..."),
    ],
)
def test_no_words_say_more_than_they_are_meant_to(tmp_path, monkeypatch, words, told):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        sd_daemon.notify(f"STATUS={words}")
        assert journal.recv(4096, socket.MSG_TRUNC).decode() == told


@pytest.mark.parametrize("where", [None, "/proc/nonexistent/notify", "nonsense", ""])
def test_notify_without_a_listener_does_nothing(monkeypatch, where):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if where is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", where)
    sd_daemon.notify("READY=1")


def test_notify_says_so_when_it_has_no_descriptor(tmp_path, monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        assert sd_daemon.notify("STATUS=1")
        with no_descriptors(os.getpid()):
            assert not sd_daemon.notify("STATUS=2")
        assert sd_daemon.notify("STATUS=3")
        assert [journal.recv(4096) for _ in range(2)] == [b"STATUS=1", b"STATUS=3"]


def test_an_app_sees_nothing_of_it(monkeypatch):
    ours = (
        "LISTEN_PID",
        "LISTEN_FDS",
        "LISTEN_FDNAMES",
        "LISTEN_PIDFDID",
        "NOTIFY_SOCKET",
        "WATCHDOG_PID",
        "WATCHDOG_USEC",
    )
    for name in (*ours, "JOURNAL_STREAM"):
        monkeypatch.setenv(name, "x")
    sd_daemon.hide_from_the_app()
    assert not set(ours) & set(os.environ)
    assert "JOURNAL_STREAM" in os.environ  # stderr still is what it was
