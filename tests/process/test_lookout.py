"""The lookout: where there is no systemd it holds the sockets, and does to a Master
what systemd would.
"""

import os
import re
import select
import signal
import socket
import stat
import subprocess
import time

import pytest
from waiting import wait_until

from .fake_systemd import APPS, server_environ, spyglass
from .lookout_process import free_port
from .processes import children, members, workers
from .visitor import Crowd, Visitor, visit


def test_it_wakes_and_goes_back_for_every_kind_of_address(lookout, tmp_path):
    path = str(tmp_path / "http.sock")
    ports = [free_port(), free_port("::1")]
    look = lookout(
        binds=[f"127.0.0.1:{ports[0]}", f"[::1]:{ports[1]}", f"unix:{path}"], idle_timeout=0.4
    )
    addresses = [("127.0.0.1", ports[0]), ("::1", ports[1]), path]
    look.until_listening()
    assert look.others() == []
    for cycle, first in enumerate(addresses, 1):
        assert visit(first).text == "hello"
        assert [visit(address).status for address in addresses] == [200] * 3
        look.until_asleep(cycle)
    assert len(look.masters) == 3
    for text in (f"http://127.0.0.1:{ports[0]}/", f"http://[::1]:{ports[1]}/", f"unix:{path}"):
        assert text in look.log.splitlines()[0]
    assert stat.S_ISSOCK(os.stat(path).st_mode)
    look.signal(signal.SIGTERM)
    assert look.until_ended() == 0
    assert not os.path.exists(path)


def test_an_address_without_a_host_is_all_of_them(lookout):
    port = free_port()
    look = lookout(binds=[f":{port}"], idle_timeout=0.4)
    look.until_listening()
    assert visit(("127.0.0.1", port)).status == 200
    assert visit(("::1", port)).status == 200


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT], ids=lambda number: number.name
)
@pytest.mark.parametrize("awake", [True, False], ids=["awake", "asleep"])
def test_told_to_stop_it_passes_that_on_and_leaves(lookout, number, awake):
    look = lookout(idle_timeout=60)
    look.until_listening()
    if awake:
        with Visitor(look.address) as busy:
            busy.send("/sleep/0.7", keep=True)
            look.until(lambda: visit(look.address).status == 200, "not served")
            look.signal(number)
            assert busy.answer().text == "slept"
    else:
        look.signal(number)
    assert look.until_ended() == 0
    assert members(look.pid) == []


def test_hup_and_ttin_are_passed_on(lookout):
    look = lookout(idle_timeout=60, workers=1)
    look.until_listening()
    visit(look.address)
    assert len(look.masters) == 1, look.log
    [master] = look.masters
    look.signal(signal.SIGTTIN)
    look.until(lambda: len(workers(master)) == 2, "TTIN did not arrive")
    look.signal(signal.SIGHUP)
    look.until_logged("SIGHUP: loading another generation")
    assert visit(look.address).status == 200
    assert look.masters == [master]


@pytest.mark.parametrize(
    "number", [signal.SIGHUP, signal.SIGTTIN, signal.SIGUSR2], ids=lambda number: number.name
)
def test_a_signal_that_comes_when_a_master_has_just_begun_does_not_hurt_it(lookout, number):
    look = lookout(idle_timeout=60)
    look.until_listening()
    look.signal(number)  # asleep there is no Master to tell
    with Visitor(look.address) as visitor:
        visitor.send()
        look.until_logged("starting the Master")
        look.signal(number)
        assert visitor.answer().status == 200
    assert len(look.masters) == 1


def test_a_port_that_is_taken(lookout):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        look = lookout(binds=[f"127.0.0.1:{taken.getsockname()[1]}"])
        assert look.until_ended() == 78
        assert len(look.log.splitlines()) == 1
        assert (
            f"cannot listen on 127.0.0.1:{taken.getsockname()[1]}: another program uses this port"
            in look.log
        )
        assert "--bind" in look.log


@pytest.mark.parametrize(
    "address",
    [
        "localhost",
        "127.0.0.1:http",
        "127.0.0.1:99999",
        "::1:80",
        "192.0.2.1:4222",
        "unix:/proc/nonexistent/http.sock",
        "no such host:1",
    ],
)
def test_an_address_that_cannot_be_had(lookout, address):
    look = lookout(binds=[address])
    assert look.until_ended() in (2, 78)
    assert len(look.log.splitlines()) == 1, look.log
    assert address in look.log


def test_a_stale_unix_socket_is_replaced(lookout, tmp_path):
    path = str(tmp_path / "http.sock")
    with socket.socket(socket.AF_UNIX) as former:
        former.bind(path)
    look = lookout(binds=[f"unix:{path}"], idle_timeout=60)
    look.until_listening()
    assert visit(path).status == 200


def test_a_living_unix_socket_is_left_alone(lookout, tmp_path):
    path = str(tmp_path / "http.sock")
    with socket.socket(socket.AF_UNIX) as living:
        living.bind(path)
        living.listen()
        look = lookout(binds=[f"unix:{path}"])
        assert look.until_ended() == 78
        assert "another program listens there" in look.log
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)


def test_a_file_that_is_no_socket_is_left_alone(lookout, tmp_path):
    (tmp_path / "precious").write_text("data")
    look = lookout(binds=[f"unix:{tmp_path}/precious"])
    assert look.until_ended() == 78
    assert (tmp_path / "precious").read_text() == "data"
    assert "not a socket" in look.log


def test_a_master_that_fails_fast_is_started_with_growing_pauses(lookout):
    look = lookout(idle_timeout=60)
    look.until_listening()
    started = []
    with Visitor(look.address) as patient:
        patient.send()
        for count in range(1, 4):
            look.until(lambda count=count: len(look.masters) == count, "no Master was started")
            started.append(time.monotonic())
            os.kill(look.masters[-1], signal.SIGKILL)
            look.until_logged("not starting another for", count)
        assert patient.answer().status == 200  # it was in the queue all the time
    assert started[1] - started[0] >= 0.45
    assert started[2] - started[1] >= 0.95
    assert re.findall(r"not starting another for ([\d.]+) s", look.log) == ["0.5", "1", "2"]


def test_a_broken_app_is_answered_for_and_mended(lookout, tmp_path):
    look = lookout("broken:app", directory=tmp_path, idle_timeout=0.4)
    look.until_listening()
    assert visit(look.address).status == 503
    look.until_logged("exited with status 78")
    (tmp_path / "broken.py").write_text(
        "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'mended']\n"
    )
    assert visit(look.address).text == "mended"


def test_waiting_it_has_loaded_neither_the_app_nor_what_serves_it(
    lookout, tmp_path, record_property
):
    (tmp_path / "app.py").write_text(
        "import os\nopen(f'loaded-by-{os.getpid()}', 'w')\ndef app(environ, start_response):\n"
        "    start_response('200 OK', [])\n    return [str(os.getppid()).encode()]\n"
    )
    look = lookout("app", directory=tmp_path, idle_timeout=0.4)
    look.until_listening()
    assert list(tmp_path.glob("loaded-by-*")) == []
    zygote = visit(look.address).text
    look.until_asleep(1)
    assert [path.name for path in tmp_path.glob("loaded-by-*")] == [f"loaded-by-{zygote}"]
    with open(f"/proc/{look.pid}/maps") as maps:
        libraries = {os.path.basename(line.split()[-1]) for line in maps if ".so" in line}
    assert not [
        name for name in libraries if re.search("httptools|systemd|_daemon|ssl|crypto", name)
    ], libraries
    with open(f"/proc/{look.pid}/smaps_rollup") as rollup:
        pss = int(re.search(r"^Pss: +(\d+) kB", rollup.read(), re.MULTILINE)[1])
    print(f"\nlookout asleep: {pss / 1024:.1f} MiB (PSS)")
    assert pss < 16 * 1024


def test_a_killed_master_leaves_nothing_behind_and_the_next_visitor_is_served(lookout):
    look = lookout(idle_timeout=0.5)
    look.until_listening()
    with Crowd(look.address, count=2) as crowd:
        for kills in range(1, 4):
            look.until(
                lambda kills=kills: len(look.masters) == kills and workers(look.masters[-1]),
                "no Master",
            )
            count = len(crowd.answers)
            look.until(lambda count=count: len(crowd.answers) > count + 10, "no request is served")
            master = look.masters[-1]
            started = time.monotonic()
            os.kill(master, signal.SIGKILL)
            look.until(
                lambda master=master: master not in [process.pid for process in look.others()],
                "it lives",
            )
        look.until(lambda: len(look.masters) == 4, "no Master")
        look.until(lambda: len(crowd.answers) > count + 20, "no request is served")
    assert crowd.lost == []
    assert crowd.statuses() == {200}
    assert time.monotonic() - started < 10
    look.until_asleep(1)


def test_what_hangs_behind_a_killed_master_is_ended_too(lookout, tmp_path):
    (tmp_path / "app.py").write_text("import time\ntime.sleep(3600)\n")
    look = lookout("app", directory=tmp_path, graceful_timeout=0.5)
    look.until_listening()
    with Visitor(look.address):
        look.until(lambda: look.masters and children(look.masters[-1]), "no zygote")
        [zygote] = children(look.masters[-1])
        os.kill(look.masters[-1], signal.SIGKILL)
        look.until(
            lambda: zygote.pid not in [process.pid for process in look.others()],
            "it hangs for ever",
        )


def test_a_killed_lookout_takes_everything_with_it_in_the_end(lookout):
    look = lookout(idle_timeout=0.5)
    look.until_listening()
    assert visit(look.address).status == 200
    look.signal(signal.SIGKILL)
    assert look.until_ended() == -signal.SIGKILL
    wait_until(lambda: members(look.pid) == [], what="it has left something behind")


def test_ctrl_c_in_a_terminal_ends_it_all(tmp_path, pycache):
    master, terminal = os.openpty()
    port = free_port()
    argv = spyglass(
        "lookout",
        "plain:app",
        "--directory",
        str(APPS),
        "--bind",
        f"127.0.0.1:{port}",
        "--idle-timeout",
        "60",
    )
    # A terminal sends what is typed to the foreground process group of the session that
    # it controls: ours must not be that.
    process = subprocess.Popen(
        ["setsid", "--ctty", *argv],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=server_environ(pycache),
    )
    os.close(terminal)
    said = bytearray()

    def hear():
        while select.select([master], [], [], 0)[0]:
            try:
                data = os.read(master, 65536)
            except OSError:  # EIO: the other side is closed (pty(7))
                return said
            said.extend(data)
        return said

    try:
        wait_until(lambda: b"is asleep" in hear(), what=lambda: f"it does not listen: {said}")
        with Visitor(("127.0.0.1", port)) as kept:
            assert kept.ask(keep=True).status == 200
            os.write(master, b"\x03")
            wait_until(
                lambda: hear() and process.poll() is not None,
                what=lambda: f"Ctrl-C does not end it: {said}",
            )
        assert process.returncode == 0
        assert members(process.pid) == []
        text = hear().decode()
        assert "SIGINT: stopping" in text
        assert "Traceback" not in text
        assert text.rstrip().endswith("stopped")
    finally:
        for left in members(process.pid):
            os.kill(left.pid, signal.SIGKILL)
        process.wait()
        os.close(master)
