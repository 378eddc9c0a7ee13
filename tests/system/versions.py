"""The package under other versions, and dpkg with them, on a machine.

Of a `stranger` no module goes together with one of another version: a process that has
begun as one version and imports a part of another fails at it, as it would if what the
one expects of the other had changed.
"""

from __future__ import annotations

from machine import Machine, package

PLACE = "/root/versions"
NOT_ALIKE = 'import spyglass as _whole; assert _whole.__version__ == "{0}", f"{{__name__}} of {0}, in {{_whole.__version__}}"'


def version(machine: Machine) -> str:
    """That of the package that `make deb` made."""
    return package(machine.release).name.split("_")[1]


def deb(machine: Machine, number: str) -> str:
    """The path of a package of that version, on the machine."""
    path = f"{PLACE}/spyglass_{number}_amd64.deb"
    if machine.run("test", "-e", path, check=False).returncode == 0:
        return path
    if number == version(machine):
        machine.copy(package(machine.release), path)
        return path
    script = """
        made=$(mktemp -d)
        dpkg-deb --raw-extract "$1" "$made/root"
        sed -i "s/^Version: .*/Version: $2/" "$made/root/DEBIAN/control"
        cd "$made/root/usr/lib/python3/dist-packages/spyglass"
        sed -i "s/^__version__ = .*/__version__ = \\"$2\\"/" __init__.py
        [ -z "$4" ] || find . -name "*.py" | while read -r module; do echo "$4" >>"$module"; done
        dpkg-deb --root-owner-group -Znone --build "$made/root" "$3" >/dev/null
        rm -r "$made"
    """
    not_alike = NOT_ALIKE.format(number) if number == stranger(machine) else ""
    machine.run(
        "sh", "-euc", script, "repack", deb(machine, version(machine)), number, path, not_alike
    )
    return path


def newer(machine: Machine) -> str:
    return version(machine).replace("~", ".1~")


def stranger(machine: Machine) -> str:
    return version(machine).replace("~", ".2~")


def install(machine: Machine, number: str, *options: str) -> str:
    """As apt does it in the end; returns what dpkg says."""
    done = machine.run("dpkg", *options, "--install", deb(machine, number), timeout=100)
    return done.stdout + done.stderr


def status(machine: Machine) -> str:
    """dpkg's word for it and the version: "installed 0.1.0~deb13u1"."""
    return machine.run(
        "dpkg-query",
        "--show",
        "--showformat=${db:Status-Status} ${Version}",
        "spyglass",
        check=False,
    ).stdout
