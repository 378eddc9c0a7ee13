"""Does the sandbox hold, and do apps live in it? The shipped units on real systemds of
both releases, with needs.py as the program.

    sudo .venv/bin/python benchmarks/sandbox/check.py

For spyglass.service (port 4222) and spyglass@app.service (unix socket):
`systemd-analyze verify` is silent, `systemd-analyze security` of the loaded unit is at
most 1.5, everything in NEEDS works and everything in REFUSED fails. Exits 1 if not so.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "tests/system"))

import options  # noqa: E402
from machine import REPOSITORY, Address, Machine, boot, root  # noqa: E402
from measure import RELEASES, exposure, furnish  # noqa: E402

UNITS = REPOSITORY / "packaging/systemd"
MOST = 1.5
ADDRESSES: dict[str, Address] = {"spyglass": 4222, "spyglass@app": "/run/spyglass/app.sock"}

# Something to talk to, outside of the sandbox: tells who comes by unix socket who the
# kernel says it is, everybody else "hello".
PEER = """
import os, selectors, socket, struct
def listen(family, address):
    listener = socket.socket(family)
    listener.bind(address)
    listener.listen()
    return listener
os.umask(0)
listeners = [listen(socket.AF_INET, ("127.0.0.1", 9901)), listen(socket.AF_INET6, ("::1", 9901)),
             listen(socket.AF_UNIX, "/run/database.sock")]
selector = selectors.DefaultSelector()
for listener in listeners:
    selector.register(listener, selectors.EVENT_READ)
print("up", flush=True)
while True:
    for key, _ in selector.select():
        client, _ = key.fileobj.accept()
        if client.family == socket.AF_UNIX:
            client.send(str(struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]).encode())
        else:
            client.send(b"hello")
        client.close()
"""


def furnished(machine: Machine) -> None:
    furnish(machine)
    for unit in UNITS.iterdir():
        machine.copy(unit, f"/usr/lib/systemd/system/{unit.name}")
    machine.write(
        "/usr/bin/spyglass", "#!/srv/venv/bin/python -I\n" + (HERE / "needs.py").read_text(), 0o755
    )
    machine.write("/srv/needs/some_module.py", "x = 1\n")
    machine.systemctl("daemon-reload")


@contextmanager
def peer(machine: Machine) -> Iterator[None]:
    process = machine.popen("python3", "-I", "-c", PEER, stdout=-1)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    yield
    process.terminate()


def ask(machine: Machine, address: Address) -> dict[str, dict[str, str]]:
    with machine.connect(address, 60) as client:
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        said = b"".join(iter(lambda: client.recv(65536), b""))
    found: dict[str, dict[str, str]] = json.loads(said)
    return found


def complaints(machine: Machine) -> Iterator[str]:
    names = [unit.name.replace("@.", "@app.") for unit in sorted(UNITS.iterdir())]
    done = machine.run("systemd-analyze", "verify", "--man=no", *names, check=False)
    if done.returncode or done.stdout or done.stderr:
        yield f"systemd-analyze verify: {done.returncode} {done.stdout}{done.stderr}"
    for name, address in ADDRESSES.items():
        score, _ = exposure(machine, f"{name}.service")
        print(f"{machine.release}: {name}.service: exposure {score}")
        if score > MOST:
            yield f"{name}.service: exposure {score}"
        machine.systemctl("start", f"{name}.socket")
        found = ask(machine, address)
        for what, outcome in found["needs"].items():
            if outcome != "ok":
                yield f"{name}.service: {what}: {outcome}"
        for what, outcome in found["refused"].items():
            print(f"    {what}: {outcome}")
            if outcome == "ok":
                yield f"{name}.service: {what} was not refused"


def main() -> int:
    wrong = []
    if options.shipped(UNITS / "spyglass.service")[0] != options.LIFE:
        wrong.append("the two service units live differently")
    for release in RELEASES:
        with boot(release, root("tests", release)) as machine:
            furnished(machine)
            with peer(machine):
                wrong += [f"{release}: {complaint}" for complaint in complaints(machine)]
    print("\n".join(wrong) or "all as it should be")
    return 1 if wrong else 0


if __name__ == "__main__":
    socket.setdefaulttimeout(60)
    sys.exit(main())
