"""The workflows for a forge, as far as they can be checked where no forge runs them:
what they call exists, and they may do no more than they must.
"""

import re
import shlex
import subprocess
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(path.name for path in (ROOT / ".github/workflows").glob("*"))
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))


def read(name):
    return yaml.safe_load((ROOT / ".github/workflows" / name).read_text())


def jobs():
    return [
        pytest.param(name, job, id=f"{name}-{key}")
        for name in NAMES
        for key, job in read(name)["jobs"].items()
    ]


def steps(job):
    return job.get("steps", [])


def test_there_is_one_for_changes_and_one_for_releases():
    assert NAMES == ["ci.yml", "release.yml"]
    # YAML 1.1 reads the key "on" as true.
    assert {"push", "pull_request", "workflow_call"} == set(read("ci.yml")[True])
    assert read("release.yml")[True] == {"push": {"tags": ["v*"]}}


@pytest.mark.parametrize("name", NAMES)
def test_a_workflow_may_only_read(name):
    assert read(name)["permissions"] == {"contents": "read"}


@pytest.mark.parametrize(("name", "job"), jobs())
def test_a_job_has_the_least_permissions(name, job):
    """The one that attaches files may write, and runs nothing of the repository's."""
    if job.get("permissions", {}) == {}:
        return
    assert job["permissions"] == {"contents": "write"}
    assert name == "release.yml"
    assert not any("checkout" in step.get("uses", "") for step in steps(job))
    assert not any("make" in step.get("run", "").split() for step in steps(job))


@pytest.mark.parametrize(("name", "job"), jobs())
def test_every_action_is_pinned(name, job):
    for step in steps(job):
        if uses := step.get("uses"):
            assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", uses), uses
        if "checkout" in step.get("uses", ""):
            assert step["with"]["persist-credentials"] is False
    if called := job.get("uses"):
        assert (ROOT / called).is_file()


@pytest.mark.parametrize(("name", "job"), jobs())
def test_what_a_job_runs_exists(name, job):
    ran = "\n".join(step.get("run", "") for step in steps(job))
    for target in re.findall(r"^\s*make ([a-z-]+)", ran, re.M):
        assert target in TARGETS
    for script in re.findall(r"^(\.\w[\w/]*)", ran, re.M):
        assert (ROOT / script).is_file()


@pytest.mark.parametrize(("name", "job"), jobs())
def test_no_text_from_outside_becomes_a_command(name, job):
    """The name of a branch can contain any command."""
    assert not any("${{" in step.get("run", "") for step in steps(job))


@pytest.mark.parametrize(("name", "job"), jobs())
def test_a_job_ends(name, job):
    assert "uses" in job or job["timeout-minutes"] <= 120


def test_the_key_reaches_only_the_step_that_signs():
    text = (ROOT / ".github/workflows/release.yml").read_text()
    assert text.count("secrets.") == 1
    build = read("release.yml")["jobs"]["build"]
    assert build["environment"] == "release"
    assert build["needs"] == "test"
    [signing] = [step for step in steps(build) if "SIGNING_KEY" in step.get("env", {})]
    assert "make release" in signing["run"]


_LOADER = SourceFileLoader("rehearse", str(ROOT / "packaging/rehearse"))
REHEARSE = module_from_spec(spec_from_loader("rehearse", _LOADER))
_LOADER.exec_module(REHEARSE)


def contained():
    return [each for each in jobs() if "container" in each.values[1]]


@pytest.mark.parametrize(("name", "job"), contained())
def test_a_rehearsal_has_the_steps_in_their_order(name, job, monkeypatch):
    monkeypatch.setattr(REHEARSE, "_python", lambda version: "/opt/python")
    image = REHEARSE.image_of(job, "3.13")
    assert "${{" not in image
    script = "\n".join(REHEARSE.script_of(job, image, {"REPOSITORY_URL": "https://x"}, None))
    subprocess.run(["sh", "-n"], input=script, text=True, check=True)
    at = 0
    for step in steps(job):
        if "run" in step:
            at = script.index(shlex.quote(step["run"]), at)
        elif "checkout" in step["uses"]:
            at = script.index("git clone ", at)
    # A tag is found by what builds a release only if it is there.
    assert ("--depth 1" in script) == (name == "ci.yml")
    assert ("REPOSITORY_URL=https://x" in script) == (name == "release.yml")
