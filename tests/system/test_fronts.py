"""Real nginx, Caddy and HAProxy in front of apps of the installed package, configured
as docs/guides has them (fronts.py).
"""

from __future__ import annotations

import random
import re
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import fronts
import pytest
from fronts import CLIENT, STYLE, Customer, Customers, Front, Posters, RegularCustomers
from instance import Instance, lives
from machine import Machine, package
from waiting import wait_until

from spyglass.config.settings import SETTINGS

PORTS = {"nginx": 443, "caddy": 7443, "haproxy": 9443}
FORGED = {
    "X-Forwarded-For": "203.0.113.7", "X-Forwarded-Host": "evil.example", "X-Forwarded-Port": "99", "Forwarded": "for=203.0.113.7;host=evil.example",
}  # fmt: skip
WEBSOCKET = {
    "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}  # fmt: skip
SLOW_IMPORT = 5.0
IDLE = 2.0
UPLOAD = random.Random(8).randbytes(20 << 20)
LEAVES = f"master: exiting after {IDLE:g} s without a connection that counts"
IGNORED = {"shop": fronts.HAPROXY.found("idle_ignore"), "blog": fronts.CADDY.found("idle_ignore")}
CONFIGURE: dict[str, Callable[..., None]] = {
    "nginx": fronts.nginx,
    "caddy": fronts.caddy,
    "haproxy": fronts.haproxy,
}
Fronts = dict[str, Front]


@pytest.fixture(scope="module")
def apps(machine: Machine) -> dict[str, Instance]:
    """blog, behind nginx and Caddy, on the socket that it has by itself; shop, behind
    HAProxy, on one that HAProxy can reach.
    """
    # keepalive_timeout: a proxy that is not scheduled for a second is still the first
    # to close what it has kept.
    settings = {"idle_timeout": 60, "keepalive_timeout": 20, "log_level": "debug"}
    blog, shop = (
        Instance(machine, name, fronts.SOURCE, settings=settings).write()
        for name in ("blog", "shop")
    )
    fronts.apply(blog, "")
    fronts.apply(shop, fronts.HAPROXY.found("/var/lib/haproxy/shop.sock"))
    return {"blog": blog, "shop": shop}


@pytest.fixture(scope="module")
def all_fronts(machine: Machine, apps: dict[str, Instance]) -> Fronts:
    fronts.certificate(machine)
    machine.write("/srv/blog/static/style.css", STYLE)
    machine.write("/srv/blog/files/holidays.mp4", "a film\n")
    machine.write("/etc/nginx/conf.d/access.conf", "access_log off;\n")
    for configure in CONFIGURE.values():
        configure(machine)
    return {
        name: Front(name, port, apps["shop" if name == "haproxy" else "blog"])
        for name, port in PORTS.items()
    }


@pytest.fixture(params=PORTS)
def front(request: pytest.FixtureRequest, all_fronts: Fronts) -> Front:
    return all_fronts[request.param]


def test_what_the_app_sees(front: Front) -> None:
    answer = front.ask("/environ?a=b", fields=FORGED | WEBSOCKET)
    assert answer.status == 200, (
        answer
    )  # an offer to change the protocol is no reason to refuse anybody
    seen = answer.json
    assert seen["REMOTE_ADDR"] == CLIENT
    assert (seen["wsgi.url_scheme"], seen["HTTPS"]) == ("https", "on")
    assert (seen["HTTP_HOST"], seen["SERVER_PORT"], seen["QUERY_STRING"]) == (
        "blog.example",
        "443",
        "a=b",
    )
    assert "evil" not in str(seen)
    # The guides' configurations set no more than these two; what a client has made up
    # of the others ends here.
    assert {name for name in seen if "FORWARDED" in name} == {
        "HTTP_X_FORWARDED_FOR",
        "HTTP_X_FORWARDED_PROTO",
    }


def test_a_relay_that_tells_by_proxy_protocol(machine: Machine, all_fronts: Fronts) -> None:
    """wiki behind nginx, version 1, and raw behind HAProxy, version 2; what a client
    writes into its request counts for nothing.
    """
    raw, wiki = (Instance(machine, name, fronts.SOURCE).write() for name in ("raw", "wiki"))
    fronts.apply(raw, fronts.HAPROXY.found("proxy_protocol = true"))
    fronts.apply(wiki, "proxy_protocol = true\n")
    fronts.nginx_relay(machine)
    for port, scheme in ((8443, "http"), (8444, "https")):
        seen = all_fronts["nginx"].ask("/environ", fields=FORGED, port=port).json
        assert (seen["REMOTE_ADDR"], seen["wsgi.url_scheme"]) == (CLIENT, scheme)
        assert not any(name.startswith(("HTTP_X_", "HTTP_FORWARDED")) for name in seen)


def test_forwarded(machine: Machine, all_fronts: Fronts, apps: dict[str, Instance]) -> None:
    """HAProxy writes the field itself from 2.8 on, and says so before."""
    shop = apps["shop"]
    before = machine.read(shop.configuration)
    if machine.release == "bookworm":
        with pytest.raises(
            AssertionError, match="unknown keyword 'option forwarded'|unknown option 'forwarded'"
        ):
            fronts.haproxy(machine, forwarded=True)
    else:
        fronts.haproxy(machine, forwarded=True)
        fronts.apply(shop, fronts.HAPROXY.found("forwarded_headers"))
        machine.systemctl("stop", shop.service)
        seen = (
            all_fronts["haproxy"]
            .ask("/environ", fields=FORGED | {"X-Forwarded-Proto": "http"})
            .json
        )
        assert (seen["REMOTE_ADDR"], seen["wsgi.url_scheme"], seen["HTTP_HOST"]) == (
            CLIENT,
            "https",
            "blog.example",
        )
        assert not any(name.startswith("HTTP_X_FORWARDED") for name in seen)
        machine.write(shop.configuration, before)
        fronts.apply(shop, "")
        machine.systemctl("stop", shop.service)
    fronts.haproxy(machine)


def test_a_name_that_is_not_the_one_asked_for(front: Front) -> None:
    """The target is a whole URL, and Host says something else: that is what the app
    must not see (RFC 9112 3.2.2).
    """
    with front.machine.network(), Customer(front.address) as customer:
        customer.host = "evil.example"
        answer = customer.ask("https://blog.example/environ")
    assert "evil" not in answer.text
    assert answer.status == 400 or '"HTTP_HOST": "blog.example"' in answer.text


def test_static_files_wake_no_app(front: Front) -> None:
    if front.name == "haproxy":  # has no files
        return
    front.machine.systemctl("stop", front.app.service)
    assert front.ask("/static/style.css").body.decode() == STYLE
    assert front.app.asleep()


@pytest.mark.parametrize("chunked", [False, True], ids=["of known length", "chunked"])
def test_a_large_upload(front: Front, chunked: bool) -> None:
    body = (
        (UPLOAD[at : at + (1 << 18)] for at in range(0, len(UPLOAD), 1 << 18))
        if chunked
        else UPLOAD
    )
    answer = front.ask("/upload", "POST", body)
    assert (answer.status, answer.body.decode()) == (200, f"{len(UPLOAD)} {zlib.crc32(UPLOAD)}")


def test_a_large_download(front: Front) -> None:
    size = 40 << 20
    answer = front.ask(f"/large/{size}")
    assert (answer.status, answer.body == bytes(size)) == (200, True)


def test_a_stream_comes_piece_by_piece(front: Front) -> None:
    with front.client() as client:
        client.request("GET", "/stream")
        response = client.getresponse()
        assert response.readline() == b"first\n"
        front.ask("/go")
        assert response.read() == b"last\n"


def test_asleep_it_is_woken_within_the_proxies_patience(
    machine: Machine, all_fronts: Fronts, apps: dict[str, Instance]
) -> None:
    """An app that takes five seconds to import, with somebody at each door."""
    for app in apps.values():
        machine.write(f"/etc/spyglass/{app.name}.env", f"SLOW_IMPORT={SLOW_IMPORT}\n")
        machine.systemctl("stop", app.service)
    began = time.monotonic()
    with ThreadPoolExecutor() as pool:
        answers = list(pool.map(lambda front: front.ask("/environ"), all_fronts.values()))
    assert time.monotonic() - began >= SLOW_IMPORT
    assert [answer.status for answer in answers] == [200] * 3
    for app in apps.values():
        machine.run("rm", f"/etc/spyglass/{app.name}.env")
        machine.systemctl("stop", app.service)


def said_since(app: Instance, since: str, priority: int = 7) -> list[str]:
    """What its journal has since a cursor, as grave as `priority` or graver."""
    records = app.machine.records(app.service, f"--after-cursor={since}")
    return [record["MESSAGE"] for record in records if int(record["PRIORITY"]) <= priority]


def cursor(app: Instance) -> str:
    """Of a line of its own: journalctl 252, told of any other, leaves out the first
    line after it.
    """
    return str(app.machine.records(app.service, "--lines=1")[0]["__CURSOR"])


def test_each_request_has_a_connection_of_its_own(front: Front) -> None:
    front.ask("/")
    since = cursor(front.app)
    with front.client() as client:
        for _ in range(5):
            client.request("GET", "/")
            assert client.getresponse().read()
    assert len([line for line in said_since(front.app, since) if line.endswith(": accepted")]) == 5


@pytest.mark.one_release
def test_no_client_is_lost_behind_them(
    machine: Machine, all_fronts: Fronts, apps: dict[str, Instance]
) -> None:
    """Reload, restart and an upgrade of the package, under load: one connection each,
    kept ones, and POSTs, which no proxy would ask again.
    """
    deb = f"/root/{package(machine.release).name}"
    machine.copy(package(machine.release), deb)
    listening = [app.unbroken() for app in apps.values()]

    def kinds(front: Front) -> list[Any]:
        return [
            Customers(front.address, "/", 1, 0.02),
            RegularCustomers(front.address, "/sleep/0.02", 1, 0.01),
            Posters(front.address, "", 1, 0.02),
        ]

    with crowds(all_fronts, kinds) as crowd:
        flows(crowd)
        for app in apps.values():
            machine.run("spyglass", "reload", app.name)
        flows(crowd)
        machine.systemctl("restart", *(app.service for app in apps.values()))
        flows(crowd)
        before = lives_of(apps)
        machine.run("dpkg", "--install", deb)
        machine.wait_until(
            lambda: not before & lives_of(apps) and awake(apps), 30, "they run the new program"
        )
        flows(crowd)
    assert [each.lost for each in crowd] == [[]] * len(crowd)
    assert [each.statuses() for each in crowd] == [{200}] * len(crowd)
    assert [app.unbroken() for app in apps.values()] == listening
    assert {len(lives(each.answers)) for each in crowd if not isinstance(each, Posters)} == {3}


def lives_of(apps: dict[str, Instance]) -> set[str]:
    return {app.state()["InvocationID"] for app in apps.values()}


def awake(apps: dict[str, Instance]) -> bool:
    return {app.state()["SubState"] for app in apps.values()} == {"running"}


@contextmanager
def crowds(all_fronts: Fronts, kinds: Callable[[Front], list[Any]]) -> Iterator[list[Any]]:
    """Of several kinds, at each door, for as long as the block lasts."""
    with ExitStack() as stack:
        machine = next(iter(all_fronts.values())).machine
        # Threads stay in the network in which they were started.
        with machine.network():
            everybody = [
                stack.enter_context(each) for front in all_fronts.values() for each in kinds(front)
            ]
        yield everybody


def flows(crowd: list[Any], each: int = 5) -> None:
    before = [len(kind.answers) for kind in crowd]
    wait_until(
        lambda: all(
            len(kind.answers) >= was + each for kind, was in zip(crowd, before, strict=True)
        ),
        20,
        "all are served",
    )


def test_a_proxy_that_is_killed_and_started_again(front: Front) -> None:
    """What it had in hand is lost to its clients, and nothing to the app."""
    first, since = life_of(front), cursor(front.app)
    with front.client() as client:
        client.request("GET", "/stream")
        assert client.getresponse().readline() == b"first\n"
        front.machine.systemctl("kill", "--signal=KILL", front.unit)
        front.machine.systemctl("restart", front.unit)
    front.ask("/go")
    assert life_of(front) == first
    assert said_since(front.app, since, 4) == []


def life_of(front: Front) -> str:
    return front.ask("/").body.decode().split()[0]


@pytest.mark.parametrize(
    ("name", "target"), [("nginx", "/protected/holidays.mp4"), ("caddy", "/holidays.mp4")]
)
def test_a_file_that_the_app_gives_leave_for(all_fronts: Fronts, name: str, target: str) -> None:
    answer = all_fronts[name].ask(f"/file?{target}")
    assert (answer.status, answer.body) == (200, b"a film\n")
    assert all_fronts[name].ask("/protected/holidays.mp4").body != b"a film\n", (
        "nobody can ask for it"
    )


def ends(front: Front, since: str) -> list[str]:
    """How connections of its app have ended since a cursor."""
    return [line for line in said_since(front.app, since) if ": closed: " in line]


def test_kept_connections(machine: Machine, all_fronts: Fronts, apps: dict[str, Instance]) -> None:
    """Each proxy uses one again; nginx and Caddy are the first to close it; where a
    reload closes it first, what may be asked again is.
    """
    for kept in (fronts.NGINX.found("keepalive_timeout"), fronts.CADDY.found("keepalive 4s")):
        [seconds] = re.findall(r"(\d+)s\b", kept)
        assert int(seconds) < float(str(SETTINGS["keepalive_timeout"].default))
    since_when: dict[str, str] = {}
    for configure in CONFIGURE.values():
        configure(machine, kept=True)
    try:
        for front in all_fronts.values():
            since = since_when[front.name] = cursor(front.app)
            with front.client() as client:
                for _ in range(5):
                    client.request("GET", "/")
                    assert client.getresponse().read()
            assert (
                len([line for line in said_since(front.app, since) if line.endswith(": accepted")])
                == 1
            ), front.name
        for name in ("nginx", "caddy"):
            front, since = all_fronts[name], since_when[name]
            machine.wait_until(
                lambda front=front, since=since: ends(front, since), 15, "they are closed"
            )
            assert ends(front, since)[0].endswith("closed by the client")
        with crowds(
            all_fronts,
            lambda front: [
                Customers(front.address, "/", 2, 0.01),
                RegularCustomers(front.address, "/", 1, 0.01),
            ],
        ) as crowd:
            for _ in range(3):
                flows(crowd)
                for app in apps.values():
                    machine.run("spyglass", "reload", app.name)
            flows(crowd)
        assert [each.lost for each in crowd] == [[]] * len(crowd)
        assert [each.statuses() for each in crowd] == [{200}] * len(crowd)
    finally:
        for configure in CONFIGURE.values():
            configure(machine)


def test_health_checks_do_not_keep_it_awake(
    machine: Machine, all_fronts: Fronts, apps: dict[str, Instance]
) -> None:
    """HAProxy by its name, Caddy by the path; each several times as often as the app
    would leave.
    """
    for app in apps.values():
        settings = re.sub(
            "idle_timeout = .*\nkeepalive_timeout = .*",
            f"idle_timeout = {IDLE}",
            machine.read(app.configuration),
        )
        machine.write(app.configuration, settings + IGNORED[app.name])
        machine.systemctl("restart", app.service)
    since = {app.name: cursor(app) for app in apps.values()}
    before = lives_of(apps)
    for name in ("caddy", "haproxy"):
        CONFIGURE[name](machine, checked=True)
    for name, app in apps.items():
        machine.wait_until(
            lambda app=app, since=since[name]: LEAVES in said_since(app, since),
            20,
            f"{name} has left",
        )
    machine.wait_until(
        lambda: awake(apps) and not before & lives_of(apps), 20, "the next check wakes them"
    )
