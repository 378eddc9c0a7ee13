"""The path below which an app is reached: which text can be one, and which requests are
below it.
"""

from urllib.parse import quote, unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spyglass.config.settings import load
from spyglass.errors import ConfigError
from spyglass.policy import url_prefix


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("", ""),
        ("/", ""),
        ("/blog", "/blog"),
        ("/blog/", "/blog"),
        ("/a/b-._~!$&'()*+,;=:@", "/a/b-._~!$&'()*+,;=:@"),
        ("/my%20blog", "/my blog"),
        ("/caf%c3%A9", "/caf\xc3\xa9"),
        ("/a%25", "/a%"),
        ("/...", "/..."),
    ],
)
def test_path_is_decoded(text, name):
    assert url_prefix.parse(text) == name


@pytest.mark.parametrize(
    "text",
    [
        *("blog", "//", "//blog", "/a//b", "/blog//", "/.", "/..", "/a/../b", "/%2e", "/%2E./a"),
        *(
            "/a b",
            "/a?b",
            "/a#b",
            "/a\\b",
            "/a%5cb",
            "/a%2Fb",
            "/a%00",
            "/a%1f",
            "/a%7f",
            "/%",
            "/%4",
        ),
        *("/%zz", "/é", "/\xff", "/<", '/"', "http://a/b", "/a\n", "\n", "/[a]", "/a^", "/a|b"),
    ],
)
def test_other_text_is_refused(text):
    with pytest.raises(ValueError, match="expected a path"):
        url_prefix.parse(text)
    with pytest.raises(ConfigError, match="^--script-name: script_name: expected a path such as"):
        load(None, {}, {"script_name": text})


def test_value_of_the_setting_is_kept_without_its_last_slash():
    assert load(None, {}, {"script_name": "/caf%C3%A9/"}).script_name == "/caf%C3%A9"
    assert load(None, {}, {"script_name": "/"}).script_name == ""
    with pytest.raises(ConfigError, match="not 'blog'; write /blog$"):
        load(None, {}, {"script_name": "blog"})


@pytest.mark.parametrize(
    ("path", "prefix", "rest"),
    [
        ("/blog", "/blog", ""),
        ("/blog/", "/blog", "/"),
        ("/blog/a%20b", "/blog", "/a%20b"),
        ("/%62log/a", "/blog", "/a"),
        ("/a/b/c", "/a/b", "/c"),
        ("/my%20blog/", "/my blog", "/"),
        ("/caf%c3%a9", "/caf\xc3\xa9", ""),
        ("/blogs", "/blog", None),
        ("/Blog", "/blog", None),
        ("/a", "/a/b", None),
        ("/a/bc", "/a/b", None),
        ("/a%2Fb", "/a/b", None),
        ("//blog", "/blog", None),
        ("/", "/blog", None),
        ("/blog%zz", "/blog", None),
    ],
)
def test_rest_of_a_path(path, prefix, rest):
    assert url_prefix.split(path, prefix) == rest


SEGMENTS = st.text(st.sampled_from("ab.%20/\\?é;"), min_size=1, max_size=4)


@given(st.lists(SEGMENTS, min_size=1, max_size=3), SEGMENTS)
def test_name_and_rest_are_the_whole_path(segments, rest):
    text = "".join(f"/{quote(segment, safe='')}" for segment in segments)
    try:
        prefix = url_prefix.parse(text)
    except ValueError:
        return
    path = f"{text}/{quote(rest, safe='')}"
    found = url_prefix.split(path, prefix)
    assert found is not None
    decoded = unquote_to_bytes(path).decode("latin-1")
    assert prefix + unquote_to_bytes(found).decode("latin-1") == decoded
    assert url_prefix.split(text + "x", prefix) is None
