"""nginx, Caddy and HAProxy on one machine, each as its guide in docs/guides has it, in
front of apps that mirror what comes.

All three run at the same time, so that one restart of an app is seen through each. What
a guide says is taken from it as it stands, but for the port: nginx has 443, Caddy and
HAProxy another; and Caddy gets its certificate from itself, for there is no internet.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from instance import Instance
from machine import Machine
from process import visitor
from typed import Page, do

SOURCE = Path(__file__).with_name("mirror.py").read_text()
CLIENT = "127.0.0.9"  # an address that is nobody's in `trusted_proxies`
NGINX, CADDY, HAPROXY = (Page(f"docs/guides/{name}.md") for name in ("nginx", "caddy", "haproxy"))
CHECKS = "300ms"  # between two
STYLE = "body { color: black }\n"
# The certificates are made for a test, by whoever is asked.
TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
TLS.check_hostname = False
TLS.verify_mode = ssl.CERT_NONE
# It would try to have the machine trust its certificates.
CADDY_ALONE = (
    "{\n    local_certs\n    skip_install_trust\n    https_port 7443\n    http_port 7080\n}\n"
)


class Customer(visitor.Visitor):  # type: ignore[misc]
    """Who comes by TLS, to blog.example."""

    host = "blog.example"

    def connect(self, address: tuple[str, int]) -> None:
        self.sock.connect(address)
        self.sock = TLS.wrap_socket(self.sock, server_hostname=self.host)


class Customers(visitor.Crowd):  # type: ignore[misc]
    visitor = Customer


class RegularCustomers(visitor.Regulars):  # type: ignore[misc]
    visitor = Customer


class Posters(Customers):
    """With a body, and not to be asked again by anybody on the way."""

    def come(self) -> None:
        with Customer(self.address) as customer:
            customer.send("/upload", method="POST", body=[b"x" * 1000])
            self.answers.append(customer.answer("POST"))


@dataclass
class Answer:
    status: int
    fields: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


@dataclass
class Front:
    """One of the three, in front of `app`."""

    name: str
    port: int
    app: Instance

    @property
    def machine(self) -> Machine:
        return self.app.machine

    @property
    def unit(self) -> str:
        return f"{self.name}.service"

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    @contextmanager
    def client(self, port: int = 0, tls: bool = True) -> Iterator[http.client.HTTPConnection]:
        """From CLIENT, on one connection."""
        with self.machine.network():
            connection: socket.socket = socket.create_connection(
                ("127.0.0.1", port or self.port), 40, (CLIENT, 0)
            )
        if tls:
            connection = TLS.wrap_socket(connection, server_hostname="blog.example")
        client = http.client.HTTPConnection("blog.example", timeout=40)
        client.sock = connection
        try:
            yield client
        finally:
            client.close()

    def ask(
        self,
        target: str,
        method: str = "GET",
        body: Any = None,
        fields: dict[str, str] | None = None,
        port: int = 0,
    ) -> Answer:
        with self.client(port) as client:
            client.request(
                method,
                target,
                body,
                fields or {},
                encode_chunked=not isinstance(body, bytes | None),
            )
            response = client.getresponse()
            return Answer(
                response.status,
                {name.lower(): value for name, value in response.getheaders()},
                response.read(),
            )


def apply(app: Instance, settings: str) -> None:
    """Adds `settings`, as a guide says, to the app's file; systemd follows, and listens
    for it.
    """
    app.machine.write(app.configuration, app.machine.read(app.configuration) + settings)
    app.machine.run("spyglass", "apply", app.name)


def certificate(machine: Machine) -> None:
    """Where the guides say that it is."""
    script = """
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=blog.example \\
            -keyout /etc/ssl/private/blog.key -out /etc/ssl/certs/blog.pem 2>&1
        cat /etc/ssl/certs/blog.pem /etc/ssl/private/blog.key >/etc/haproxy/shop.pem
    """
    do(machine, script)


def nginx(machine: Machine, kept: bool = False) -> None:
    """As the guide has it, with a place for files of its own; `kept`: with connections
    to the app that are kept. Started, or told of the change.
    """
    [(path, text)] = NGINX.files("Behind nginx").items()
    text = with_lines(text, "location /static/ {", NGINX.found("internal;"), before=True)
    if kept:
        for upstream, lines in NGINX.files("Connections between nginx and the app").items():
            machine.write(upstream, lines)
        text = with_lines(
            text,
            "proxy_pass http://unix:/run/spyglass/blog.sock;",
            NGINX.found("proxy_pass http://blog;"),
            instead=True,
        )
    machine.write(path, text)
    reload(machine, "nginx", "rm -f /etc/nginx/sites-enabled/blog; " + NGINX.typed("Behind nginx"))


def nginx_relay(machine: Machine) -> None:
    """A `stream` server, beside the rest."""
    for path, text in NGINX.files("As a relay: `stream`").items():
        machine.write(path, text)
    reload(machine, "nginx", "systemctl reload nginx")


def caddy(machine: Machine, kept: bool = False, checked: bool = False) -> None:
    """Likewise; `checked`: with health checks."""
    [(path, text)] = CADDY.files("Behind Caddy").items()
    text = with_lines(text, "transport http {", CADDY.found("@accel header"), before=True)
    if kept:
        text = with_lines(text, "keepalive off", CADDY.found("keepalive 4s"), instead=True)
    if checked:
        text = with_lines(
            text, "transport http {", CADDY.found("health_uri").replace("60s", CHECKS), before=True
        )
    machine.write(path, CADDY_ALONE + text)
    machine.systemctl("start", "caddy")
    do(machine, CADDY.typed("Behind Caddy"))  # waits for the outcome


def haproxy(
    machine: Machine, kept: bool = False, checked: bool = False, forwarded: bool = False
) -> None:
    """Likewise; with the relay; `forwarded`: with the field of RFC 7239."""
    path = "/etc/haproxy/haproxy.cfg"
    if machine.run("test", "-e", f"{path}.debian", check=False).returncode != 0:
        machine.run("cp", path, f"{path}.debian")
    text = HAPROXY.files("Behind HAProxy")[path].replace(":443", ":9443")
    frontend, backend = text.split("\nbackend shop\n")
    if kept:
        backend = with_lines(
            backend, "option http-server-close", HAPROXY.found("http-reuse safe"), instead=True
        )
    if checked:
        backend = (
            HAPROXY.found("option httpchk").removeprefix("backend shop\n").replace("60s", CHECKS)
        )
    if forwarded:
        frontend = with_lines(
            frontend,
            "http-request set-header X-Forwarded-Proto https",
            HAPROXY.found("del-header Forwarded"),
            instead=True,
        )
        frontend = with_lines(frontend, "option forwardfor", "", instead=True)
        backend = with_lines(backend, "option http-server-close", HAPROXY.found("option forwarded"))
    relay = HAPROXY.files("As a relay: `mode tcp`")[path]
    machine.write(
        path,
        "\n".join([machine.read(f"{path}.debian"), frontend + "\nbackend shop\n" + backend, relay]),
    )
    reload(machine, "haproxy", HAPROXY.typed("Behind HAProxy"))


def reload(machine: Machine, name: str, script: str) -> None:
    """Runs a script that reloads what is running, and waits until those who go by the
    old configuration have gone.
    """
    machine.systemctl("start", name)
    main = int(machine.state(name)["MainPID"])
    before = pids(machine, name) - {main}
    do(machine, script)
    machine.wait_until(
        lambda: len(now := pids(machine, name)) > 1 and not before & now,
        20,
        f"{name} goes by its new configuration",
    )


def pids(machine: Machine, name: str) -> set[int]:
    return {process.pid for process in machine.processes(name)}


def with_lines(text: str, line: str, more: str, instead: bool = False, before: bool = False) -> str:
    """`more` below a line of `text`, before it, or in its place, indented as it is."""
    [found] = [each for each in text.splitlines(keepends=True) if each.strip() == line]
    lines = textwrap.indent(more, found[: len(found) - len(found.lstrip())])
    return text.replace(found, lines if instead else lines + found if before else found + lines)
