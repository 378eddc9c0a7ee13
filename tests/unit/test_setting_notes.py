"""What is valid in a settings file, but may not be meant."""

import pytest

from spyglass.config import setting_notes
from spyglass.config.settings import load
from spyglass.ops.check import check_installed_app

PORT = (
    'listen: port 8001 is open to the network; "127.0.0.1:8001" for this machine only, '
    '"[::]:8001" if you mean it'
)


@pytest.fixture
def notes(tmp_path):
    def notes(text):
        file = tmp_path / "blog.toml"
        file.write_text(text)
        config = load(str(file), {}, {}, units=True)
        found = [*setting_notes.misplaced(config, text), *setting_notes.open_ports(config, text)]
        return [line.removeprefix(f"{file}:") for line in found]

    return notes


MEANT = "is only a variable of the app here; if the setting is meant, move it"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("[environment]\nA = 1\nWORKERS = 1\n", []),
        (
            "app = 'a'\n[environment]\nA = 1\nworkers = 4\n",
            [f"4: environment: workers {MEANT} above [environment]"],
        ),
        (
            "workers = 2\n[environment]\nworkers = 4\ndebug = 'x'\n",
            [
                f"3: environment: workers {MEANT} above [environment]",
                f"4: environment: debug {MEANT} above [environment]",
            ],
        ),
        (
            'environment = { workers = "4" }\n',
            [f"1: environment: workers {MEANT} out of `environment`"],
        ),
        ('environment.workers = "4"', [f"1: environment: workers {MEANT} out of `environment`"]),
    ],
)
def test_variable_with_the_name_of_a_setting_is_noticed(notes, text, lines):
    assert notes(text) == lines


@pytest.mark.parametrize(
    ("value", "lines"),
    [
        ("8001", [PORT]),
        ('"8001"', [PORT]),
        ('["127.0.0.1:8000", 8001]', [PORT]),
        ('["127.0.0.1:8001", "[::1]:8001", "/run/x.sock"]', []),
        ('["0.0.0.0:8001", "[::]:8001"]', []),
        ('"192.0.2.1:8001"', []),
    ],
)
def test_bare_port_is_said_to_be_open_to_the_network(notes, value, lines):
    assert notes(f"app = 'a'\nlisten = {value}\n") == [f"2: {line}" for line in lines]


def test_check_prints_them_once(tmp_path, capsys, monkeypatch):
    file = tmp_path / "blog.toml"
    file.write_text("listen = 8001\n[environment]\nworkers = 4\n")
    config = load(str(file), {}, {}, units=True)
    check_installed_app.print_remarks(config)
    said = [line for line in capsys.readouterr().out.splitlines() if not line.startswith(" ")]
    assert len(said) == 2
    assert all(line.startswith("warning:") for line in said)
    monkeypatch.setattr(check_installed_app, "sandboxed", lambda: True)
    check_installed_app.print_remarks(config)
    assert capsys.readouterr().out == ""
