"""Drop-ins: the directives for each setting, and how an edited drop-in is
recognized.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spyglass.config.settings import SETTINGS, Config, Unit
from spyglass.errors import ConfigError
from spyglass.ops.app import apps
from spyglass.ops.commands import new
from spyglass.ops.units import unit_directives

SOCKET = "/etc/systemd/system/spyglass@blog.socket.d/10-spyglass.conf"
SERVICE = "/etc/systemd/system/spyglass@blog.service.d/10-spyglass.conf"


def config(**given):
    names = ("app", "directory", "venv")
    return Config(
        {
            name: value if name in names else SETTINGS[name].check(value)
            for name, value in given.items()
        }
    )


FREE = [
    "# An address may come late at a boot, or be on another machine for now. Without this the socket would fail then,",
    "# and with it all other addresses of the app.",
    "FreeBind=yes",
]


@pytest.mark.parametrize(
    ("listen", "lines"),
    [
        (8001, ["ListenStream=8001", "BindIPv6Only=both"]),
        (
            ["127.0.0.1:8001", "127.1.2.3:8001"],
            ["ListenStream=127.0.0.1:8001", "ListenStream=127.1.2.3:8001"],
        ),
        # A machine may have no IPv6, not even this.
        (
            ["127.0.0.1:8001", "[::1]:8001"],
            ["ListenStream=127.0.0.1:8001", "ListenStream=[::1]:8001", *FREE],
        ),
        (
            ["10.0.0.5:80", 81],
            ["ListenStream=10.0.0.5:80", "ListenStream=81", "BindIPv6Only=both", *FREE],
        ),
        (
            ["[::]:80", "10.0.0.5:80"],
            ["ListenStream=[::]:80", "ListenStream=10.0.0.5:80", "BindIPv6Only=ipv6-only", *FREE],
        ),
        (
            ["0.0.0.0:80", "[::]:80"],
            ["ListenStream=0.0.0.0:80", "ListenStream=[::]:80", "BindIPv6Only=ipv6-only"],
        ),
        ("[::]:80", ["ListenStream=[::]:80"]),
        ("/run/100%.sock", ["ListenStream=/run/100%%.sock"]),
        (
            {"path": "/run/a.sock", "group": "caddy", "mode": "0600"},
            ["ListenStream=/run/a.sock", "SocketGroup=caddy", "SocketMode=0600"],
        ),
        (
            ["/run/a", {"path": "/run/b", "mode": 0o660}],
            ["ListenStream=/run/a", "ListenStream=/run/b", "SocketMode=0660"],
        ),
    ],
)
def test_socket_lines(listen, lines):
    made = unit_directives.drop_ins("blog", config(listen=listen))
    assert made[SERVICE] == ""
    assert made[SOCKET].partition("\n\n")[2].splitlines() == ["[Socket]", "ListenStream=", *lines]


# No RemoveIPC=: other programs of that user have shared memory, too.
NAMED = [
    "ProtectSystem=strict",
    "ProtectHome=read-only",
    "PrivateTmp=yes",
    "NoNewPrivileges=yes",
    "RestrictSUIDSGID=yes",
]


@pytest.mark.parametrize(
    ("given", "lines"),
    [
        ({"user": "www-data"}, ["DynamicUser=no", "User=www-data", *NAMED]),
        (
            {"group": "www-data", "umask": "0027"},
            ["Group=www-data", "UMask=0027", "CacheDirectoryMode=0700"],
        ),
        ({"umask": "0002"}, ["UMask=0002", "CacheDirectoryMode=0700"]),
        ({"environment": {"A": "b", "N": 2}}, ['Environment="A=b"', 'Environment="N=2"']),
        (
            {"environment": {"A": 'a "b"\n\\n\t50% $HOME é'}},
            ['Environment="A=a \\"b\\"\\n\\\\n\\t50%% $HOME é"'],
        ),
        (
            {"environment_file": [".env", "/etc/a.env"]},
            ["EnvironmentFile=/srv/blog/.env", "EnvironmentFile=/etc/a.env"],
        ),
        (
            {"credentials": {"db": "/etc/db%", "key": ""}},
            ["LoadCredential=db:/etc/db%%", "LoadCredential=key"],
        ),
        (
            {"memory_high": "256M", "memory_max": 1 << 30, "cpu_quota": "50%"},
            ["MemoryHigh=268435456", "MemoryMax=1073741824", "CPUQuota=50%"],
        ),
        (
            {"writable": ["media", "/srv/my files"]},
            ['ReadWritePaths="/srv/blog/media"', 'ReadWritePaths="/srv/my files"'],
        ),
        (
            {"network": False, "allow_jit": True},
            ["PrivateNetwork=yes", "MemoryDenyWriteExecute=no"],
        ),
    ],
)
def test_service_lines(given, lines):
    made = unit_directives.drop_ins("blog", config(directory="/srv/blog", **given))
    assert made[SOCKET] == ""
    assert made[SERVICE].partition("\n\n")[2].splitlines() == ["[Service]", *lines]


@pytest.mark.parametrize(
    ("says", "allowed"), [("0\n", False), ("1\n", True), ("96365\n", True), ("", True)]
)
def test_machine_without_user_namespaces(tmp_path, monkeypatch, says, allowed):
    (tmp_path / "max").write_text(says)
    monkeypatch.setattr(unit_directives, "_USER_NAMESPACES", str(tmp_path / "max"))
    assert unit_directives.has_user_namespaces() is allowed
    assert ("PrivateUsers=no" in unit_directives.service_lines(Config(), "/")) is not allowed
    monkeypatch.setattr(unit_directives, "_KIND", "/proc/none")  # a kernel without them
    assert not unit_directives.has_user_namespaces()


EXAMPLES = {
    **dict(
        enabled=False,
        listen=8001,
        user="blog",
        group="blog",
        umask="0027",
        environment={"A": "b"},
        environment_file=".env",
        credentials=["a"],
        writable=["media"],
    ),
    **dict(memory_high="1G", memory_max="1G", cpu_quota="50%", network=False, allow_jit=True),
}


@pytest.mark.parametrize(
    "name", [name for name, setting in SETTINGS.items() if isinstance(setting, Unit)]
)
def test_every_unit_setting_has_an_effect(name):
    assert any(unit_directives.drop_ins("blog", config(**{name: EXAMPLES[name]})).values())


def test_default_app_has_no_drop_ins():
    assert unit_directives.drop_ins("blog", Config()) == {SOCKET: "", SERVICE: ""}


@pytest.mark.parametrize(
    ("venv", "word"),
    [
        ("/srv/blog/venv", "/srv/blog/venv/bin/spyglass"),
        ("/srv/my blog/venv", '"/srv/my blog/venv/bin/spyglass"'),
    ],
)
def test_spyglass_of_a_virtualenv(venv, word):
    text = unit_directives.drop_ins("blog", Config(), f"{venv}/bin/spyglass")[SERVICE]
    assert text.splitlines()[-4:] == [
        "ExecStart=",
        f"ExecStart={word} serve --name %i",
        "ExecReload=",
        f"ExecReload={word} reload",
    ]


def test_relative_paths_begin_at_the_working_directory():
    assert (
        "EnvironmentFile=/var/lib/spyglass/blog/env"
        in unit_directives.drop_ins("blog", config(environment_file="env"))[SERVICE]
    )


def test_encrypted_credential(tmp_path, monkeypatch):
    monkeypatch.setattr(unit_directives, "CREDENTIAL_STORES", (str(tmp_path / "credstore"),))
    for store, name in (("credstore", "plain"), ("credstore.encrypted", "secret")):
        (tmp_path / store).mkdir()
        (tmp_path / store / name).touch()
    lines = unit_directives.service_lines(config(credentials=["plain", "secret"]), "/")
    assert lines == ["LoadCredential=plain", "LoadCredentialEncrypted=secret"]


# Recognizing an edited drop-in


def test_header_names_the_source_and_the_override():
    head = unit_directives.drop_ins("blog", config(listen=8001))[SOCKET].splitlines()[:2]
    assert head == [
        "# Made by `spyglass apply` from /etc/spyglass/blog.toml: change it there, and apply again.",
        "# What has no setting there goes into a drop-in of your own, which counts for more: systemctl edit spyglass@blog.socket",
    ]


TEXT = unit_directives.drop_ins("blog", config(listen=[8001, "/run/é.sock"]))[SOCKET]


def test_untouched_drop_ins():
    assert unit_directives.is_untouched(TEXT)
    assert unit_directives.is_ours(TEXT)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("8001", "8002"),
        ("\n\n", "\n"),
        ("\n\n", "\n# mine\n"),
        ("change it there", "or not"),
        ("# digest: ", "# digest: 0"),
        ("# digest", "# was"),
        (TEXT, ""),
    ],
)
def test_edited_drop_ins(old, new):
    assert not unit_directives.is_untouched(TEXT.replace(old, new))
    assert not unit_directives.is_untouched(TEXT + "ListenStream=8003\n")


def test_foreign_drop_ins():
    for text in ("[Socket]\nListenStream=8001\n", "", "# Mine, not made by `spyglass apply`\n"):
        assert not unit_directives.is_ours(text)
        assert not unit_directives.is_untouched(text)


@given(
    st.dictionaries(
        st.from_regex(r"\A[A-Z_]{1,3}\Z"),
        st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("\n\t%\"'\\")),
        min_size=1,
    )
)
def test_value_of_a_variable_stays_on_its_line(variables):
    text = unit_directives.drop_ins("blog", config(environment=variables))[SERVICE]
    assert len(text.partition("\n\n")[2].split("\n")) == 1 + len(variables) + 1
    assert unit_directives.is_untouched(text)


# Values that would be something else in a unit file

HOSTILE = [
    "\n",
    "\nExecStartPre=+/bin/sh",
    "\r",
    "\0",
    "\x0b",
    "\x1b[31m",
    "\x7f",
    "\x85",
    "\u2028X=y",
    "\u2029",
    '"',
    "'",
    "\\",
    "\\\n",
    "\\x0a",
    " ",
    "\t",
]
PATHS = {
    "listen": lambda path: path,
    "environment_file": lambda path: path,
    "credentials": lambda path: {"db": path},
    "writable": lambda path: path,
}


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("setting", PATHS)
def test_path_cannot_add_directives(setting, hostile):
    with pytest.raises(ValueError, match=r".*"):
        SETTINGS[setting].check(PATHS[setting](f"/srv/a{hostile}"))


@pytest.mark.parametrize("hostile", HOSTILE)
def test_directory_and_venv_cannot_add_directives(hostile, tmp_path, monkeypatch):
    monkeypatch.setattr("spyglass.config.settings.DIRECTORY", str(tmp_path))
    for setting in ("directory", "venv"):
        value = new.toml(f"/srv/a{hostile}")
        (tmp_path / "a.toml").write_text(f"workers = 1\n{setting} = {value}\nwritable = 'media'\n")
        app = apps.read("a")
        assert len(app.faults) == 1
        assert app.faults[0].startswith(f"{tmp_path}/a.toml:2: {setting}: ")
    for settings in (
        config(directory=f"/srv/a{hostile}", writable="media"),
        config(directory=f"/srv{hostile}/a", environment_file=".env"),
    ):
        if hostile.strip(" "):
            with pytest.raises(ConfigError):
                unit_directives.drop_ins("a", settings)
    if hostile.strip(" "):
        with pytest.raises(ConfigError):
            unit_directives.drop_ins("a", Config(), f"/srv/a{hostile}/bin/spyglass")


@pytest.mark.parametrize(
    "setting", [name for name, entry in SETTINGS.items() if isinstance(entry, Unit)]
)
@pytest.mark.parametrize("hostile", HOSTILE)
def test_no_setting_adds_a_line(setting, hostile):
    """Any accepted value stays on its line, and no line ends in a continuation."""
    plain = len(
        unit_directives.drop_ins("blog", config(**{setting: EXAMPLES[setting]}))[
            SERVICE if setting not in ("listen", "enabled") else SOCKET
        ].split("\n")
    )
    for value in (
        f"a{hostile}",
        f"/a{hostile}b",
        [f"/a{hostile}b"],
        {"A": f"/a{hostile}b"},
        {f"A{hostile}": "/b"},
        {"path": "/a", "group": f"a{hostile}"},
    ):
        try:
            made = unit_directives.drop_ins("blog", config(**{setting: value}))
        except ValueError:
            continue
        text = made[SOCKET] or made[SERVICE]
        assert len(text.split("\n")) <= plain + 1
        assert not any(line.endswith("\\") for line in text.split("\n"))
        assert not any(mark in text for mark in "\r\0\x0b\x1b\x7f\x85")
