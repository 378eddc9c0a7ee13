"""When a Master forks its first zygote before it reads the settings."""

import os

import pytest

from spyglass.master import beginning
from spyglass.master.beginning import may_fork_early


@pytest.fixture
def woken():
    return {"LISTEN_PID": str(os.getpid())}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "blog.toml"
    path.write_text('app = "blog"\n')
    return path


def test_it_does_when_it_was_woken(woken, file):
    assert may_fork_early(["serve", "blog"], woken)
    assert may_fork_early(["serve", "--config", str(file)], woken)
    assert may_fork_early(["serve", f"--config={file}"], woken)


@pytest.mark.parametrize("environ", [{}, {"LISTEN_PID": "1"}])
def test_it_does_not_at_a_prompt(environ):
    assert not may_fork_early(["serve", "blog"], environ)


@pytest.mark.parametrize(
    "words", [["--health", "/health"], ["--health=/health"], ["--help"], ["blog", "-h"]]
)
def test_command_line_that_may_need_no_zygote(woken, words):
    assert not may_fork_early(["serve", *words], woken)


def test_environment_that_may_need_no_zygote(woken):
    assert not may_fork_early(["serve"], woken | {"SPYGLASS_HEALTH": "/health"})


@pytest.mark.parametrize("form", ["--config {}", "--config={}"])
def test_file_that_may_need_no_zygote(woken, file, form):
    file.write_text('app = "blog"\nhealth = "/health"\n')
    assert not may_fork_early(["serve", *form.format(file).split()], woken)


def test_file_of_an_app(woken, monkeypatch):
    asked = []
    monkeypatch.setattr(beginning, "_content", lambda file: asked.append(file) or b"health")
    assert not may_fork_early(["serve", "--name", "blog"], woken)
    assert asked == ["/etc/spyglass/blog.toml"]


def test_file_that_cannot_be_read_is_explained_later(woken):
    assert may_fork_early(["serve", "--config", "/proc/nonexistent"], woken)
    assert may_fork_early(["serve", "--config"], woken)
    assert may_fork_early(["serve", "--config", "/etc"], woken) is False


def test_pipe_is_not_read_before_its_time(woken, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert not may_fork_early(["serve", "--config", str(pipe)], woken)
