"""The alert rules and the dashboard of packaging/monitoring, judged by promtool: asleep
is not down, and each query is one, of metrics that exist.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from spyglass.ops.status import app_metrics

ROOT = Path(__file__).parents[2]
RULES = ROOT / "packaging" / "monitoring" / "spyglass-alerts.yml"
DASHBOARD = ROOT / "packaging" / "monitoring" / "spyglass-grafana.json"
SUFFIXES = {"counter": ["_total"], "info": ["_info"], "histogram": ["_bucket", "_count", "_sum"]}
# What Grafana replaces.
VARIABLES = {"$__rate_interval": "5m", "$__interval": "5m", "$__range": "1d"}


def promtool(*words, directory):
    done = subprocess.run(["promtool", *words], cwd=directory, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def queries():
    """(title, query) of the dashboard's panels."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [(panel["title"], each["expr"]) for panel in panels for each in panel["targets"]]


def test_rules_are_rules(tmp_path):
    assert "SUCCESS: 9 rules found" in promtool("check", "rules", str(RULES), directory=tmp_path)


def test_sleep_is_no_alarm_and_failure_is_one(tmp_path):
    shutil.copy(RULES, tmp_path)
    shutil.copy(Path(__file__).parent / "monitoring" / "alerts_test.yml", tmp_path)
    assert "SUCCESS" in promtool("test", "rules", "alerts_test.yml", directory=tmp_path)


def test_queries_of_the_dashboard_are_queries(tmp_path):
    rules = []
    for number, (_, query) in enumerate(queries()):
        for variable, value in VARIABLES.items():
            query = query.replace(variable, value)
        rules.append({"record": f"query:{number}", "expr": query})
    # YAML takes JSON as it is.
    groups = {"groups": [{"name": "dashboard", "rules": rules}]}
    (tmp_path / "rules.yml").write_text(json.dumps(groups))
    promtool("check", "rules", "rules.yml", directory=tmp_path)


@pytest.mark.parametrize("text", [RULES.read_text(), *(query for _, query in queries())])
def test_what_is_asked_for_exists(text):
    there = {
        f"{family.name}{suffix}"
        for family in app_metrics.families([])
        for suffix in SUFFIXES.get(family.type, [""])
    }
    asked = set(re.findall(r"\bspyglass_\w+", text))
    assert asked
    assert asked <= there


def test_panels_have_a_title_and_a_sentence_and_do_not_overlap():
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["title"] for panel in panels}) == len(panels)
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = set()
    for panel in panels:
        assert panel["description"].endswith(".")
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken
        assert at["x"] + at["w"] <= 24
        taken |= cells


def test_each_alert_is_explained():
    told = re.findall(r"^\| `(Spyglass\w+)` \|", (ROOT / "docs" / "metrics.md").read_text(), re.M)
    assert told == re.findall(r"alert: (\w+)", RULES.read_text())
