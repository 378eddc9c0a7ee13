"""Read and validate the apps of this machine: one file each in /etc/spyglass.

`read` parses a file; `examine` checks the rest of the machine against it: users,
addresses, paths, secrets. All faults of an app are reported at once, so that an
administrator fixes a file in one pass. Each line begins with its place:
"/etc/spyglass/blog.toml:4: listen: ...".
"""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from spyglass.config import setting_notes, settings
from spyglass.config.setting_errors import let_in, place_in
from spyglass.config.unit_settings import unfit
from spyglass.errors import ConfigError
from spyglass.ops.addresses import address_conflicts
from spyglass.ops.app import env_files
from spyglass.ops.app.app_interpreter import Program, program_for
from spyglass.ops.files import atomic_files, path_ownership, user_access
from spyglass.ops.units import unit_directives
from spyglass.printable import one_line
from spyglass.runtime import untrusted_files

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spyglass.config.settings import Config
    from spyglass.config.unit_settings import Address


_LONGEST = 8 << 10  # characters of a fault: two paths and a sentence


@dataclass
class App:
    """An app as its settings file describes it, and the Spyglass that runs it.

    `faults` are lines; an app with any is not applied. `notes` are lines about settings
    and variables without effect.
    """

    name: str
    file: str
    config: Config = field(default_factory=settings.Config)
    program: Program = field(default_factory=Program)
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def base(self) -> str:
        """The directory that relative paths in the file begin at."""
        return unit_directives.base_of(self.name, self.config)

    @property
    def addresses(self) -> tuple[Address, ...]:
        """The addresses in `listen`, or the default one."""
        from spyglass.config.unit_settings import Address

        return self.config.listen or (Address(path=f"/run/spyglass/{self.name}.sock"),)

    @property
    def remarks(self) -> list[str]:
        """The notes, and which ports are open to the network."""
        text = atomic_files.read_untrusted_or_empty(self.file)
        return [*self.notes, *setting_notes.open_ports(self.config, text)]

    def fault(self, setting: str, text: str) -> None:
        """Add a fault of `setting` (its name): `text` after the place in the file."""
        # One line, whatever other users put into the file names and links that it
        # quotes.
        self.faults.append(
            one_line(
                f"{place_in(self.file, atomic_files.read_untrusted_or_empty(self.file), setting)}: {setting}: {text}",
                _LONGEST,
            )
        )


def names() -> list[str]:
    """Return the names of all files in /etc/spyglass, valid or not as names of apps,
    sorted.
    """
    found = glob.glob("*.toml", root_dir=settings.DIRECTORY)
    return sorted(name.removesuffix(".toml") for name in found)


def read(name: str) -> App:
    """Return the app `name`. If its file is wrong, `faults` says so and the settings
    are the defaults.
    """
    try:
        app = App(name, settings.file_for(name))
    except ConfigError as error:
        file = os.path.join(settings.DIRECTORY, f"{name}.toml")
        return App(
            name, file, faults=[f"{file}: not a valid app name: {str(error).partition(': ')[2]}"]
        )
    if why := why_untrusted(app.file):
        app.faults = [f"{app.file}: {why}"]  # and do not open it: it may be anything
        return app
    try:
        app.config = settings.load(app.file, {}, {}, units=True)
    except ConfigError as error:
        app.faults = error.lines
        return app
    # Valid for the server, but these paths become part of unit files, which allow fewer
    # characters.
    for setting, path in (("directory", app.config.directory), ("venv", app.config.venv)):
        if why := unfit(path):
            app.fault(setting, why)
    return app


def variables_file(name: str) -> str:
    """Return the path of the app's own variables, EnvironmentFile= of the template."""
    return os.path.join(settings.DIRECTORY, f"{name}.env")


def why_untrusted(path: str) -> str:
    """Return what is wrong with a file in /etc/spyglass that root, or systemd as root,
    reads; "" if nothing is, or it is missing.
    """
    if why := path_ownership.weakness(path):
        return f"{why}: chown it to root and chmod go-w, or replace a link with the file itself"
    return "not a regular file" if os.path.exists(path) and not os.path.isfile(path) else ""


# Validation


def examine(app: App, others: Iterable[App], free: Iterable[Address] = ()) -> None:
    """Check the app against the machine; fill in `app.program`, `app.faults` and
    `app.notes`. For `others` and `free` see examine_addresses().
    """
    if not app.faults:
        examine_addresses(app, others, free)
        examine_machine(app)


def examine_machine(app: App) -> None:
    """Check all but the addresses."""
    text = atomic_files.read_untrusted_or_empty(app.file)
    app.notes += setting_notes.misplaced(app.config, text)
    account = _examine_user(app)
    if account.uid == 0:  # passwd(5) may have several names for uid 0
        app.fault(
            "user",
            f"{app.config.user!r} is root by another name (its uid is 0): an app must not run as root",
        )
    elif 0 in (account.gid, *account.groups):
        app.fault(
            "user",
            f"{app.config.user!r} is in root's group, which gives access to much of this machine",
        )
    _examine_code(app, account)
    _examine_secrets(app)
    _examine_writable(app, account)
    if 0 < app.config.memory_max < app.config.memory_high:
        app.fault(
            "memory_max",
            "must not be below memory_high: processes would be killed before they are slowed down",
        )


def _examine_user(app: App) -> user_access.Account:
    """Return the account that the app will have, after checking `user` and `group`."""
    user, group = app.config.user, app.config.group
    if group and not _is_group(group):
        app.fault("group", f"there is no group {group!r}; to create it: addgroup --system {group}")
        group = ""
    elif group and not user_access.group_id(group):
        app.fault("group", "must not be root's group, which gives access to much of this machine")
        group = ""
    try:
        return user_access.account(user, group)
    except KeyError:
        app.fault(
            "user", f"there is no user {user!r}; to create it: adduser --system --group {user}"
        )
        return user_access.account("", group)


def examine_addresses(
    app: App,
    others: Iterable[App],
    free: Iterable[Address] = (),
    held: Iterable[Address] = (),
) -> None:
    """Check the addresses against each other, other apps and the machine.

    `others` are the apps it must not conflict with. `free` are addresses that the app
    has already, or that will be free when it needs them. An address of `held` is the
    app's own now: another file that asks for it, too, is wrong.
    """
    held = list(held)

    def is_held(address: Address) -> bool:
        return any(address_conflicts.conflicts(address, each) for each in held)

    for index, address in enumerate(app.addresses):
        if any(_exclude_each_other(address, other) for other in app.addresses[:index]):
            app.fault("listen", f"{address} conflicts with another entry of the list")
            continue
        rival = next(
            (
                other
                for other in others
                if other is not app
                and not is_held(address)
                and any(address_conflicts.conflicts(address, each) for each in other.addresses)
            ),
            None,
        )
        if rival is not None:
            app.fault("listen", f"{address} is in use by the app {rival.name} ({rival.file})")
        elif address.path and (why := path_ownership.weakness(os.path.dirname(address.path))):
            app.fault("listen", f"{address}: {why}: use a path in /run/spyglass")
        elif not any(address_conflicts.conflicts(address, each) for each in free) and (
            why := address_conflicts.why_unavailable(address)
        ):
            app.fault("listen", f"{address}: {why}")
        if address.group and not _is_group(address.group):
            app.fault("listen", f"there is no group {address.group!r}")
    if len({(address.group, address.mode) for address in app.addresses if address.path}) > 1:
        app.fault(
            "listen",
            "all unix sockets of an app must have the same group and mode: systemd sets them once per unit",
        )


def _exclude_each_other(one: Address, other: Address) -> bool:
    """Return True if one app cannot have both addresses. [::] and an IPv4 address with
    the same port do not conflict.
    """
    apart = {"::", one.host, other.host} == {one.host, other.host} and "." in one.host + other.host
    return address_conflicts.conflicts(one, other) and not apart


def _is_group(name: str) -> bool:
    try:
        user_access.group_id(name)
    except KeyError:
        return False
    return True


def _examine_code(app: App, account: user_access.Account) -> None:
    """Check that the app's user can read its code, and choose the Spyglass that runs
    it.
    """
    named = app.config.directory != settings.Config().directory
    if named and not os.path.isdir(app.base):
        app.fault("directory", f"{app.base} is not a directory")
        return
    wanted = [
        (app.file, os.R_OK, "app"),
        *([(app.base, os.R_OK | os.X_OK, "directory")] if named else []),
    ]
    if app.config.venv:
        venv = os.path.normpath(os.path.join(app.base, app.config.venv))
        try:
            app.program = program_for(venv)
        except ConfigError as error:
            app.fault("venv", str(error))
            return
        wanted.append((os.path.join(venv, "pyvenv.cfg"), os.R_OK, "venv"))
        if app.program.command:
            wanted += [
                (os.path.realpath(app.program.python), os.X_OK, "venv"),
                (app.program.command, os.R_OK | os.X_OK, "venv"),
            ]
    closed = user_access.inaccessible(account, [(path, mode) for path, mode, _ in wanted])
    for path, _, setting in wanted:
        if path in closed:
            app.fault(setting, _access_fault(app.name, path, closed[path], account))


def _access_fault(name: str, path: str, where: str, account: user_access.Account) -> str:
    """Return the fault about `path`, to which `where` denies access, with commands that
    allow it.
    """
    them = account.named or "the app's dynamic user"
    to_them = f"is not accessible to {them} (mode {os.stat(where).st_mode & 0o7777:04o})"
    if where == path:
        return f"{path} {to_them}: {let_in(name, account.group, path, 'rX')}"
    # Do not suggest opening root's home, where uv and pyenv put the Pythons that root
    # installs.
    way = (
        ""
        if where == "/root"
        else f", or let the app through: {let_in(name, account.group, where, 'x')}"
    )
    return f"{path} cannot be reached, {where} {to_them}: move it somewhere else{way}"


def _examine_secrets(app: App) -> None:
    """Check what systemd reads as root for the app: only root may be able to replace it
    (files/path_ownership.py).
    """
    secrets = variables_file(app.name)
    if why := why_untrusted(secrets):
        app.faults.append(f"{secrets}: {why}")
    else:
        _examine_variables(app, secrets)
    for path in (os.path.join(app.base, path) for path in app.config.environment_file):
        if any(letter in path for letter in "*?["):
            app.fault(
                "environment_file",
                f"{path}: systemd would treat *, ? and [ as a pattern: rename the file",
            )
        elif why := path_ownership.weakness(path):
            app.fault(
                "environment_file",
                f"{path}: {why}: move its lines to {secrets} (root's, mode 0600), which the service always reads",
            )
        elif not os.path.isfile(path):
            app.fault("environment_file", f"{path} is not a file")
        else:
            _examine_variables(app, path)
    for name, path in app.config.credentials.items():
        found = (
            path or unit_directives.in_store(name) or unit_directives.in_store(name, ".encrypted")
        )
        if found and (why := path_ownership.weakness(found)):
            own = os.path.join(settings.DIRECTORY, f"{app.name}.{name}")
            app.fault(
                "credentials", f"{name}: {found}: {why}: move it to {own} (root's, mode 0600)"
            )
        elif path and not os.path.isfile(path):
            app.fault(
                "credentials",
                f"{name}: {path} {'is not a file' if os.path.exists(path) else 'does not exist'}",
            )
        elif not found:
            app.fault(
                "credentials",
                f"{name}: not in {unit_directives.CREDENTIAL_STORES[0]}, nor in systemd's other credential stores; give a path",
            )


def _examine_variables(app: App, path: str) -> None:
    """Report the lines of a file of variables that systemd ignores, and what makes it
    reject the file.
    """
    try:
        data = untrusted_files.read(path, atomic_files.UNTRUSTED_LIMIT + 1)
    except OSError:
        return  # missing, or unreadable for us
    if len(data) > atomic_files.UNTRUSTED_LIMIT:
        return  # truncated: the last line would be misread
    variables = env_files.parse(data.decode(errors="surrogateescape"))
    lines = [f"{path}:{line}: {what}" for line, what in variables.faults]
    (app.faults if variables.fatal else app.notes).extend(lines)


def _examine_writable(app: App, account: user_access.Account) -> None:
    """Check that each writable path exists, is safe for systemd to mount, and is the
    user's to write.
    """
    paths = [os.path.join(app.base, path) for path in app.config.writable]
    there = [path for path in paths if os.path.exists(path)]
    for path in set(paths) - set(there):
        app.fault("writable", f"{path} does not exist")  # systemd would not start the service
    for path in there:
        if link := path_ownership.foreign_link(path):
            app.fault(
                "writable",
                f"{path}: {link} is a symbolic link that another user can redirect: name the directory itself",
            )
        elif outer := next((other for other in there if path.startswith(f"{other}/")), ""):
            # The app could replace it with a link to any directory, which systemd would
            # follow as root at the next start.
            app.fault(
                "writable", f"{path} is in {outer}, which is writable already: remove this entry"
            )
    for path in user_access.inaccessible(account, [(path, os.W_OK) for path in there]):
        dynamic = "without `user` the app has no permanent account: set a user that may write there"
        app.fault(
            "writable",
            f"{path}: {f'{account.named} may not write there' if account.named else dynamic}",
        )
