"""Find secrets of an app that every user of this machine can read, and lines of its
variables that systemd ignores.

Whether a variable is a secret shows in its name or its value: a wrong guess costs the
administrator a look. No finding contains a value.
"""

from __future__ import annotations

import os
import re
import shlex
from typing import TYPE_CHECKING

from spyglass.config.setting_errors import place_in
from spyglass.ops.app import apps, env_files
from spyglass.ops.files import atomic_files, path_ownership
from spyglass.ops.output.finding import Finding, not_inspected
from spyglass.ops.units import unit_directives
from spyglass.runtime import untrusted_files

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from spyglass.ops.app.apps import App

_NAMES = re.compile(
    r"SECRET|PASSWORD|PASSWD|PASSPHRASE|TOKEN|CREDENTIAL|API_?KEY|PRIVATE_?KEY|ACCESS_?KEY|"
    r"(^|_)(KEY|PASS|PWD|DSN)$",
    re.IGNORECASE,
)
_PASSWORD = re.compile(r"^[a-z][a-z0-9+.-]*://[^/@\s:]*:[^/@\s]+@", re.IGNORECASE)  # in a URL
_READ = "every user of this machine can read it"
_ONLY_ROOT = "only root can read it"


def examine(name: str, app: App | None) -> list[Finding]:
    """Return the findings about the app `name`; `app` is its settings file, None if
    there is none.
    """
    own = apps.variables_file(name)
    findings = [*_file(name, own)]
    if app is None:
        return [*_ignored_lines(name, own), *findings]
    if app.faults:
        return findings
    for path in app.config.environment_file:
        findings += _file(name, os.path.join(app.base, path))
    findings += _settings(app, own)
    for each, path in app.config.credentials.items():
        source = path or unit_directives.in_store(each)
        if source and is_public(source):
            what = f"{source}, the credential {each}, is readable by all users"
            findings.append(Finding(name, what, _READ, [_close(source)]))
    return findings


def secret_names(variables: Iterable[tuple[str, str]]) -> list[str]:
    """Return the names of those variables that are probably secrets, in order."""
    found = (
        name
        for name, value in variables
        if value and (_NAMES.search(name) or _PASSWORD.match(value))
    )
    return list(dict.fromkeys(found))


def is_public(path: str) -> bool:
    """Return True if every user can read the file `path`: its mode lets them, and each
    directory on the way to it.
    """
    path = os.path.realpath(path)
    try:
        if not os.stat(path).st_mode & 0o004:
            return False
        while path != "/":
            path = os.path.dirname(path)
            if not os.stat(path).st_mode & 0o001:
                return False
    except OSError:
        return False  # it does not exist, or is not even accessible to this user
    return True


def _close(path: str) -> str:
    # No g=: a group may have been given access on purpose.
    return shlex.join(["chmod", "o=", path])


def _file(name: str, path: str) -> Iterator[Finding]:
    """Find secrets in a file of variables that is public, or that cannot be read."""
    text = _text(path)
    if text is None:
        yield not_inspected(name, path, _ONLY_ROOT)
    elif is_public(path) and (found := secret_names(env_files.parse(text).found)):
        what = f"{path} is readable by all users, and {_listed(found)}"
        yield Finding(name, what, _READ, [_close(path)])


def _text(path: str) -> str | None:
    """Return the text of a file of variables, "" if there is none that systemd could
    trust, None if this user may not read it.
    """
    try:
        if path_ownership.weakness(path):
            return ""  # another finding, and not to be opened
        data = untrusted_files.read(path, atomic_files.UNTRUSTED_LIMIT, links=True)
        return data.decode(errors="surrogateescape")
    except PermissionError:
        return None
    except OSError:
        return ""


def _settings(app: App, variables: str) -> Iterator[Finding]:
    """Find secrets in `environment` of the settings file. systemd shows those to every
    user, whatever the mode of the file is.
    """
    found = secret_names(app.config.environment.items())
    if not found:
        return
    text = atomic_files.read_untrusted_or_empty(app.file)
    what = f"{place_in(app.file, text, 'environment')}: environment: {_listed(found)}"
    why = f"{_READ} ('systemctl show'): move it to {variables} (mode 0600), which only systemd reads, or pass it in `credentials`"
    new = shlex.quote(variables)
    cure = [
        f"touch {new} && chmod 0600 {new}",
        f"${{EDITOR:-nano}} {shlex.quote(app.file)} {new}",
        shlex.join(["spyglass", "apply", app.name]),
    ]
    yield Finding(app.name, what, why, cure)


def _listed(names: list[str], most: int = 3) -> str:
    """Return "A, B look like secrets", with `most` names at most."""
    more = f" (and {len(names) - most} more)" if len(names) > most else ""
    like = "looks like a secret" if len(names) == 1 else "look like secrets"
    return f"{', '.join(names[:most])}{more} {like}"


def _ignored_lines(name: str, path: str) -> Iterator[Finding]:
    """Find the lines that systemd ignores, for an app without a settings file: with
    one, apps.examine() does.
    """
    why = "the variable is missing from the app's environment, or has another value than intended"
    for line, what in env_files.parse(_text(path) or "").faults:
        cure = [f"${{EDITOR:-nano}} {shlex.quote(path)}"]
        yield Finding(name, f"{path}:{line}: {what}", why, cure, grave=False)
