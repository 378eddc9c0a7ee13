"""Files that are not TOML, and what their authors are told: the line, what is wrong there
and what to write.
"""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spyglass.config import setting_text, toml_errors, value_hints
from spyglass.config.settings import SETTINGS, load
from spyglass.errors import ConfigError

# A file, the line that is named, and what is said.
REFUSED = [
    ("app = hello:app", 1, 'text needs quotes: app = "hello:app"'),
    ("app = hello:app  # comment", 1, 'text needs quotes: app = "hello:app"'),
    ("directory = /srv/hello", 1, 'text needs quotes: directory = "/srv/hello"'),
    ("workers 4", 1, "= is missing: workers = 4"),
    ("workers: 4", 1, "= instead of the colon: workers = 4"),
    ("app: hello:app", 1, '= instead of the colon: app = "hello:app"'),
    ("app:", 1, "= and a value, instead of the colon: app = VALUE"),
    ("workers", 1, "= and a value are missing: workers = VALUE"),
    ("workers =", 1, "workers has no value: delete the line, or write workers = VALUE"),
    ("workers = = 4", 1, "one = is enough: workers = 4"),
    ("workers = four", 1, "workers: expected a whole number, not four"),
    ("workers = 4 5", 1, "workers: expected a whole number, not 4 5"),
    ("workers = 4;", 1, "delete ';': only a comment may follow the value, and it begins with #"),
    ("memory_max = 2GB", 1, '2GB: write memory_max = "2G"'),
    ("max_body = 1.5G", 1, '1.5G: write max_body = "1536M"'),
    ("max_body = 10 MB", 1, '10 MB: write max_body = "10M"'),
    ("idle_timeout = 30s", 1, "30s: write idle_timeout = 30"),
    ("idle_timeout = 5m", 1, "5m: write idle_timeout = 300"),
    ("idle_timeout = 5 minutes", 1, "5 minutes: write idle_timeout = 300"),
    ("listen = localhost:8005", 1, 'localhost:8005: write listen = "127.0.0.1:8005"'),
    ("listen = 127.0.0.1:8005", 1, 'text needs quotes: listen = "127.0.0.1:8005"'),
    ("listen = :8000", 1, ":8000: write listen = 8000"),
    ("listen = [localhost:8005]", 1, 'localhost:8005: write "127.0.0.1:8005"'),
    (
        'listen = ["127.0.0.1:8001" "[::1]:8001"]',
        1,
        'a comma or a ] is missing before "[::1]:8001"]',
    ),
    ("listen = [127.0.0.1:8001, 127.0.0.1:8002]", 1, 'text needs quotes: "127.0.0.1:8001"'),
    (
        'listen = ["127.0.0.1:8001",\n"x"\nworkers = 4',
        1,
        "the list that begins here is not closed: a ] is missing, or a comma before line 3",
    ),
    (
        'listen = [\n  "127.0.0.1:8001",\n\nworkers = 4',
        1,
        "the list that begins here is not closed: a ] is missing, or a comma before line 4",
    ),
    ('listen = "a", "b"', 1, 'a list needs brackets: listen = ["a", "b"]'),
    ("preload = True", 1, "True: write preload = true"),
    ("preload = yes", 1, "yes: write preload = true"),
    ("preload = On", 1, "On: write preload = true"),
    ("preload = None", 1, "there is no value None: delete the line, and preload has its default"),
    ("access_log = True", 1, "True: write access_log = true"),
    ("app = \u201chello:app\u201d", 1, 'typographic quotes: write plain ones, app = "hello:app"'),
    ("app = \u2018hello:app\u2019", 1, 'typographic quotes: write plain ones, app = "hello:app"'),
    ("app = `hello:app`", 1, 'typographic quotes: write plain ones, app = "hello:app"'),
    ('app = "hello:app', 1, 'the quote " is not closed in this line'),
    ("app = 'hello:app", 1, "the quote ' is not closed"),
    ("app = \"hello:app'\nworkers = 4", 1, 'the quote " is not closed in this line'),
    ('app = "hello":app', 1, "one value is enough: delete what follows it, :app"),
    ('app = hello:app"', 1, 'hello:app": write app = "hello:app"'),
    ('app = """hello\nworkers = 4', 1, 'the quote """ is not closed'),
    ("app = '''hello\nworkers = 4", 1, "the quote ''' is not closed"),
    (
        "workers = 2\nworkers = 3",
        2,
        "workers is set twice, first in line 1: delete one of the lines",
    ),
    (
        '[environment]\nA = "1"\n[environment]\nB = "1"',
        3,
        "[environment] is there already, first in line 1: put all of it in one place",
    ),
    (
        'environment = { A = "1" }\n[environment]\nB = "1"',
        2,
        "[environment] is there already, first in line 1: put all of it in one place",
    ),
    (
        'environment = { A = "1" }\nenvironment.B = "1"',
        2,
        "[environment] is there already, first in line 1: put all of it in one place",
    ),
    ('environment = { A = "1", A = "2" }', 1, "A is set twice: delete one of the lines"),
    ('environment = { A: "1" }', 1, '= instead of the colon: A = "1"'),
    ('environment = { A = "1" B = "2" }', 1, 'a comma or a } is missing before B = "2" }'),
    (
        'environment = { A = "1",\n B = "2" }',
        1,
        "a table in { } ends in its line: write it in one line, or as [environment] at the end of the file, with one line for each entry",
    ),
    (
        'environment = {\n A = "1" }',
        1,
        "a table in { } ends in its line: write it in one line, or as [environment] at the end of the file, with one line for each entry",
    ),
    ("environment = { A = one }", 1, 'text needs quotes: A = "one"'),
    ('environment = { "A" = "1"', 1, "a } is missing at the end of the line"),
    ("[environment", 1, "the line must end with ]: [environment]"),
    ("[environment]]", 1, "delete what follows [environment]: ]"),
    ('[environment] A = "1"', 1, 'this must be in a line of its own: A = "1"'),
    ("[environment]\nA = hello world", 2, 'text needs quotes: A = "hello world"'),
    (
        '[environment]\nexport A="1"',
        2,
        "delete 'export': a line is NAME = VALUE, or begins with # if it is a comment",
    ),
    (
        "[environment]\nURL=http://example.org/a?b=c#d",
        2,
        'text needs quotes: URL = "http://example.org/a?b=c#d"',
    ),
    ("; comment", 1, "a comment begins with #: # comment"),
    ("// comment", 1, "a comment begins with #: # comment"),
    ("# ok\n/* x */", 2, "a comment begins with #: # x"),
    (
        "--- ",
        1,
        "this looks like YAML: delete it; a line is NAME = VALUE, or begins with # if it is a comment",
    ),
    ("- a", 1, 'a list is written in brackets: ["a", "b"]'),
    ("workers\xa0= 4", 1, "an invisible character (no-break space) in column 8: delete it"),
    (
        'app = "hello:app"\u200b',
        1,
        "an invisible character (zero width space) in column 18: delete it",
    ),
    ('\ufeffapp = "x"', 1, "the file begins with a byte order mark: save it as UTF-8 without BOM"),
    (
        'app = "C:\\users\\x"',
        1,
        "in \"...\" a \\ is written \\\\; or put the text in '...', which has no such rule",
    ),
    (
        'app = "\\x"',
        1,
        "in \"...\" a \\ is written \\\\; or put the text in '...', which has no such rule",
    ),
    ('app = "a\x01b"', 1, "a control character ('\\x01') in column 9: delete it"),
    (
        'app = "x"\rworkers = 4',
        1,
        "the line ends with a carriage return alone: save the file with Unix line ends",
    ),
    ("umask = 0027", 1, 'text needs quotes: umask = "0027"'),
    ("cpu_quota = 50%", 1, 'text needs quotes: cpu_quota = "50%"'),
    ("= 4", 1, "the name before = is missing"),
    (
        '{"app": "x"}',
        1,
        "a line is NAME = VALUE, or begins with # if it is a comment; this looks like JSON",
    ),
    ("listen = { path = /run/x.sock }", 1, 'text needs quotes: path = "/run/x.sock"'),
    ('listen = { path = "/run/x.sock", mode = 0660 }', 1, 'text needs quotes: mode = "0660"'),
    ("user = www-data", 1, 'text needs quotes: user = "www-data"'),
    ("credentials = { key = /etc/key }", 1, 'text needs quotes: key = "/etc/key"'),
    ("workers = 4, threads = 2", 1, "this must be in a line of its own: threads = 2"),
    (
        "request_timeout = 1:30",
        1,
        'request_timeout: expected a number of seconds, or "500ms", "5m", "1h", "never", not 1:30',
    ),
    ("start = 2020-13-01", 1, 'text needs quotes: start = "2020-13-01"'),
    ("http-socket = :8000", 1, 'text needs quotes: http-socket = ":8000"'),
    (
        "trusted_proxies = 10.0.0.0/8, 127.0.0.1",
        1,
        'text needs quotes: trusted_proxies = "10.0.0.0/8, 127.0.0.1"',
    ),
    ("a.b = 1\na = 2", 2, "a is set twice, first in line 1: delete one of the lines"),
    (
        "[workers]\nx = 1\n[workers]",
        3,
        "[workers] is there already, first in line 1: put all of it in one place",
    ),
    ("workers = 2\n[workers]", 2, "workers is set twice, first in line 1: delete one of the lines"),
    ("log_level = INFO", 1, 'INFO: write log_level = "info"'),
]


def complaint(path, data):
    path.write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        load(str(path), {}, {}, units=True)
    return str(caught.value)


@pytest.mark.parametrize(("text", "line", "says"), REFUSED)
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_mistake_is_explained(tmp_path, text, line, says, ends):
    file = tmp_path / "blog.toml"
    data = f"{text}\n".replace("\n", ends).encode()
    assert complaint(file, data) == f"{file}:{line}: {says}"


@pytest.mark.parametrize(
    ("data", "line", "says"),
    [
        (
            b'# caf\xc3\xa9\napp = "caf\xe9"',
            2,
            "not UTF-8: byte 0xe9; if it is Latin-1: iconv -f LATIN1 -t UTF-8",
        ),
        ('app = "x"'.encode("utf-16"), 1, "it is UTF-16, not UTF-8: iconv -f UTF-16 -t UTF-8"),
        (b"app = 'x", 1, "the quote ' is not closed"),
        (b'app = "x', 1, 'the quote " is not closed'),
    ],
)
def test_file_in_another_encoding_or_cut_off_is_explained(tmp_path, data, line, says):
    file = tmp_path / "blog.toml"
    assert complaint(file, data) == f"{file}:{line}: {says}"


@pytest.mark.parametrize(
    "text",
    [
        "\tworkers\t=\t4\t# tabs",
        "workers = 4\r\nthreads = 2\r\n",
        'listen = [\n  "127.0.0.1:8001", # one\n  "[::1]:8001",\n]\n[environment]\nA = "x = y"\n',
        "app = 'C:\\blog:app'",
        '"app" = """hello:app"""',
        "workers = 0x4\nmax_body = 1_000\nidle_timeout = 1e1",
    ],
)
def test_what_tomllib_takes_is_taken(tmp_path, text):
    file = tmp_path / "blog.toml"
    file.write_bytes(text.encode())
    load(str(file), {}, {}, units=True)


def test_words_of_tomllib_remain_where_there_are_no_better_ones():
    assert toml_errors.explain("a = 1\n", "Something new (at line 1, column 3)", SETTINGS) == (
        1,
        "not TOML: Something new",
    )


LINES = st.lists(
    st.sampled_from(
        [line for text, _, _ in REFUSED for line in text.split("\n")]
        + ["[environment]", "listen = [", "]", "}", '"""', "'''", "# x", "workers = 2", ""]
    ),
    max_size=6,
)


@given(
    LINES
    | LINES.flatmap(lambda lines: st.sampled_from(["\n".join(lines)[:-n] for n in range(1, 9)]))
)
def test_any_refused_text_is_explained_in_one_printable_line(lines):
    text = lines if isinstance(lines, str) else "\n".join(lines)
    try:
        tomllib.loads(text)
    except ValueError as error:
        line, why = toml_errors.explain(text, str(error), SETTINGS)
        assert 1 <= line <= text.count("\n") + 1
        assert why.isprintable()
        assert not why.startswith("not TOML")


# Values of the right syntax


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [
        ("memory_max", "2GB", "2G"),
        ("memory_max", "512 MiB", "512M"),
        ("max_body", "1.5G", "1536M"),
        ("max_body", "1T", "1024G"),
        ("max_body", "100 bytes", 100),
        ("max_body", "30s", None),
        ("idle_timeout", "30 s", 30),
        ("idle_timeout", "5 minutes", 300),
        ("idle_timeout", "1d", 86400),
        ("idle_timeout", "1.5 hours", 5400),
        ("idle_timeout", "250 ms", 0.25),
        ("idle_timeout", "2G", None),
        ("idle_timeout", "none", "never"),
        ("listen", "localhost:8005", "127.0.0.1:8005"),
        ("listen", "http://localhost:8005/", "127.0.0.1:8005"),
        ("listen", ":8005", 8005),
        ("listen", "*:8005", 8005),
        ("listen", "example.org:80", None),
        ("listen", "localhost:99999", None),
        ("workers", "4", 4),
        ("workers", 4.0, 4),
        ("workers", "four", None),
        ("workers", [4], 4),
        ("workers", "999", None),
        ("app", ["hello:app"], "hello:app"),
        ("app", ["a", "b"], None),
        ("debug", "Yes", True),
        ("debug", 0, False),
        ("debug", 2, None),
        ("log_level", "WARN", "warning"),
        ("cpu_quota", 50, "50%"),
        ("cpu_quota", "50 %", "50%"),
        ("user", "root", None),
    ],
)
def test_meant_value_is_found(name, value, meant):
    found = value_hints.closest(SETTINGS[name], value)
    assert (found, type(found)) == (meant, type(meant))


@given(st.sampled_from(sorted(SETTINGS)), st.text() | st.integers() | st.floats() | st.booleans())
def test_only_valid_values_are_suggested(name, value):
    found = value_hints.closest(SETTINGS[name], value)
    if found is not None:
        SETTINGS[name].check(found)
        assert tomllib.loads(f"x = {setting_text.toml(found)}") == {"x": found}


def test_places_outside_the_file_have_no_quotes():
    for source in ({"environ": {"SPYGLASS_MAX_BODY": "2GB"}}, {"options": {"max_body": "2GB"}}):
        with pytest.raises(ConfigError, match="not '2GB'; write 2G$"):
            load(None, **{"environ": {}, "options": {}, **source})
    with pytest.raises(ConfigError, match="not 'ye'$"):
        load(None, {"SPYGLASS_DEBUG": "ye"}, {})
