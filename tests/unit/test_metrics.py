"""`spyglass metrics`: what it makes of the states of apps, judged by the parsers of
Prometheus' own client, by promtool, and by the page that explains each metric.
"""

import re
import subprocess
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as prometheus

from spyglass.master.counter_record import Record, parse
from spyglass.ops import command_table
from spyglass.ops.output.openmetrics import COUNTER, GAUGE, PROMETHEUS, Family, render
from spyglass.ops.status import all_apps, app_metrics, app_status
from spyglass.ops.status.app_status import ASLEEP, AWAKE, FAILING, OFF, AppStatus

ROOT = Path(__file__).parents[2]
HOSTILE = ['a"b', "a\\", 'a\n# EOF\nb{x="', "\x1b[31m", "a\r\nb", "\u2028", "a}", "\ud800", "", " "]


def an_app(name, state=ASLEEP, record=None, **facts):
    running = {"MainPID": "12"} if state in (AWAKE, FAILING) else {}
    app = AppStatus(name, {"UnitFileState": "enabled"}, running, state=state, record=record)
    for fact, value in facts.items():
        setattr(app, fact, value)
    return app


def a_record(**facts):
    record = Record()
    record.since = record.woke = 1_700_000_000.0
    record.wakes, record.written = 3, 1_700_000_100.5
    record.codes.update({"2xx": 40, "5xx": 2, "cut": 1})
    record.restarts["hung"] = 2
    record.exits["idle"] = 3
    for seconds in (0.0004, 0.001, 0.0011, 3.0, 60.0):
        record.requests_took.add(seconds)
    record.wakes_took.add(0.2)
    for fact, value in facts.items():
        setattr(record, fact, value)
    return record


SOME = [
    an_app("blog", record=a_record(), woke=1_700_000_000.0, left=1_700_000_100.0),
    an_app("shop", AWAKE, a_record(awake=1), memory=12 << 20, woke=1_700_000_000.0),
    an_app("wiki", FAILING, memory=5),
    an_app("new"),
    an_app("off", OFF),
    an_app("hidden", unread="/var/lib/spyglass/hidden: Permission denied"),
    *(an_app(name, record=a_record()) for name in HOSTILE),
]


def samples(found, parser=openmetrics, **how):
    """{(name, labels): value} of what is exposed of the apps `found`."""
    text = render(app_metrics.families(found), **how)
    made = {}
    for family in parser(text):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in made
            made[key] = sample.value
    return made


def of(made, name, **labels):
    return made.get((name, frozenset(labels.items())))


# The formats


def test_both_formats_say_the_same():
    old = samples(SOME, prometheus, kind=PROMETHEUS)
    assert samples(SOME) == old
    assert len(old) > 500


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_can_end_its_label_or_its_line(name):
    [family] = [Family("some", GAUGE, 'A \\ and a "\n.')]
    family.add({"app": name, "z": "last"}, 1)
    text = render([family])
    text.encode()
    assert text.isprintable() or set(re.sub(r"[ -~\ufffd]", "", text)) == {"\n"}
    [parsed] = openmetrics(text)
    [sample] = parsed.samples
    assert set(sample.labels) == {"app", "z"}
    assert sample.labels["z"] == "last"
    assert text.splitlines()[-1] == "# EOF"
    [parsed] = prometheus(render([family], PROMETHEUS))
    assert parsed.samples[0].labels == sample.labels


def test_series_that_escaping_makes_equal_are_one():
    [family] = [Family("some", GAUGE, "Some.")]
    for number, name in enumerate(["a\x1b", "b", "a\x1c"]):
        family.add({"app": name}, number)
    [parsed] = openmetrics(render([family]))
    assert [sample.value for sample in parsed.samples] == [0, 1]


def test_a_family_without_samples_is_left_out():
    assert render([Family("some", COUNTER, "Some.")]) == "# EOF\n"
    assert render([Family("some", COUNTER, "Some.")], PROMETHEUS) == ""


def test_the_old_format_has_no_words_that_it_does_not_know():
    text = render(app_metrics.families(SOME), PROMETHEUS)
    kinds = {line.split(" ")[1] for line in text.splitlines() if line.startswith("#")}
    types = {line.split(" ")[3] for line in text.splitlines() if line.startswith("# TYPE")}
    assert (kinds, types) == ({"HELP", "TYPE"}, {"counter", "gauge", "histogram"})


def test_promtool_finds_nothing_to_complain_of():
    text = render(app_metrics.families(SOME), PROMETHEUS)
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# What is told of an app


def test_sleep_is_a_state_and_its_app_uses_nothing():
    made = samples(SOME)
    for state in app_metrics.STATES:
        value = of(made, "spyglass_app_state", app="blog", state=state)
        assert value == (state == ASLEEP)
    for name in ("workers", "connections", "memory_bytes"):
        assert of(made, f"spyglass_app_{name}", app="blog") == 0
    assert of(made, "spyglass_app_last_wake_timestamp_seconds", app="blog") == 1_700_000_000
    assert of(made, "spyglass_app_last_exit_timestamp_seconds", app="blog") == 1_700_000_100
    assert of(made, "spyglass_app_wakes_total", app="blog") == 3


def test_requests_are_counted_by_class_and_by_duration():
    made = samples(SOME)
    name = "spyglass_app_requests_total"
    assert [of(made, name, app="blog", code=code) for code in ("2xx", "3xx", "cut")] == [40, 0, 1]
    name = "spyglass_app_request_duration_seconds"
    buckets = [of(made, f"{name}_bucket", app="blog", le=le) for le in ("0.001", "0.005", "2.5")]
    assert buckets == [2, 3, 3]
    assert of(made, f"{name}_bucket", app="blog", le="5.0") == 4
    assert of(made, f"{name}_bucket", app="blog", le="+Inf") == 5
    assert of(made, f"{name}_count", app="blog") == 5
    assert of(made, f"{name}_sum", app="blog") == pytest.approx(63.0025)


def test_an_app_that_was_never_awake_counts_from_zero():
    made = samples(SOME)
    assert of(made, "spyglass_app_requests_total", app="new", code="2xx") == 0
    assert of(made, "spyglass_app_last_wake_timestamp_seconds", app="new") is None
    assert of(made, "spyglass_app_counters_timestamp_seconds", app="new") is None
    assert of(made, "spyglass_app_counters_readable", app="new") == 1


def test_what_cannot_be_read_is_absent_and_said_to_be():
    made = samples(SOME)
    assert of(made, "spyglass_app_counters_readable", app="hidden") == 0
    assert of(made, "spyglass_app_state", app="hidden", state=ASLEEP) == 1
    told = {name for name, labels in made if ("app", "hidden") in labels}
    assert told == {
        f"spyglass_app_{name}"
        for name in (
            "state",
            "enabled",
            "counters_readable",
            "workers",
            "connections",
            "memory_bytes",
        )
    }


def test_connections_of_a_master_that_was_killed_are_none():
    record = parse(a_record(awake=1).text().replace("by \n", "worker 7 3 0 5\nby \n"))
    asleep, awake = an_app("a", ASLEEP, record), an_app("b", AWAKE, record)
    made = samples([asleep, awake])
    assert [of(made, "spyglass_app_connections", app=app) for app in "ab"] == [0, 5]


# The command


@pytest.fixture
def machine(monkeypatch):
    monkeypatch.setattr(all_apps, "query", lambda: SOME[:3])
    monkeypatch.setattr(app_status, "resolve", lambda word: word)
    by_name = {app.name: app for app in SOME}
    monkeypatch.setattr(app_status, "query", lambda names: [by_name[name] for name in names])


@pytest.mark.parametrize(
    ("words", "names"), [([], {"blog", "shop", "wiki"}), (["blog", "blog"], {"blog"})]
)
def test_metrics_are_of_all_apps_or_of_those_that_are_named(machine, capsys, words, names):
    assert command_table.run(["metrics", *words]) == 0
    said = capsys.readouterr()
    assert set(re.findall(r'app="(.*?)"', said.out)) == names
    assert said.out.endswith("# EOF\n")
    assert said.err == ""


def test_the_older_format_is_for_the_textfile_collector(machine, capsys):
    assert command_table.run(["metrics", "--format", "prometheus"]) == 0
    assert "# EOF" not in capsys.readouterr().out


def test_it_says_whose_counters_it_could_not_read(machine, capsys, monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert command_table.run(["metrics", "hidden"]) == 0
    assert "only root can read the counters" in capsys.readouterr().err


# What is written of it


def test_each_metric_is_explained():
    page = (ROOT / "docs" / "metrics.md").read_text()
    told = dict(re.findall(r"^\| `(spyglass_\w+)` \| (\w+) \|", page, re.M))
    suffixes = {"counter": "_total", "info": "_info"}
    made = {
        family.name + suffixes.get(family.type, ""): family.type
        for family in app_metrics.families([])
    }
    assert told == made


def test_units_and_helps_are_as_the_specification_wants():
    for family in app_metrics.families([]):
        assert not family.name.endswith(("_total", "_info"))
        assert family.name.endswith(f"_{family.unit}") or not family.unit
        assert family.help.endswith(".")
