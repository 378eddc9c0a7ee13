"""What `spyglass apply` and `lookout` tell people to open, or to try."""

import pytest

from spyglass.config.settings import Config
from spyglass.ops.addresses import how_to_reach

SOCKET = "try curl --unix-socket /run/spyglass/a.sock http://localhost/"


@pytest.mark.parametrize(
    ("streams", "said"),
    [
        (["8001"], "open http://localhost:8001/"),
        (["0.0.0.0:8001"], "open http://localhost:8001/"),
        (["[::]:8001"], "open http://localhost:8001/"),
        (["127.0.0.1:80", "[::1]:80"], "open http://127.0.0.1:80/ and http://[::1]:80/"),
        (["/run/spyglass/a.sock"], SOCKET),
        (["/run/spyglass/a.sock", "8001"], f"open http://localhost:8001/ or {SOCKET}"),
        (["/srv/a b:80"], "try curl --unix-socket '/srv/a b:80' http://localhost/"),
        (["a.sock"], "try curl --unix-socket a.sock http://localhost/"),
    ],
)
def test_a_browser_cannot_open_a_unix_socket(streams, said):
    assert how_to_reach.sentence(streams, Config()) == said


def test_an_app_below_a_path_answers_there_only():
    config = Config({"script_name": "/blog"})
    assert how_to_reach.sentence(["8001"], config) == "open http://localhost:8001/blog/"
    said = "try curl --unix-socket /x http://localhost/blog/"
    assert how_to_reach.sentence(["/x"], config) == said


def test_a_browser_does_not_speak_the_proxy_protocol():
    config = Config({"proxy_protocol": True})
    said = "try curl --haproxy-protocol http://localhost:8001/"
    assert how_to_reach.sentence(["8001"], config) == said


def test_what_a_web_server_in_front_needs():
    assert how_to_reach.in_front("/run/spyglass/a.sock") == [
        "nginx: proxy_pass http://unix:/run/spyglass/a.sock;",
        "Caddy: reverse_proxy unix//run/spyglass/a.sock",
    ]
