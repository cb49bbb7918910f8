"""The alert rules and the dashboard: each asks for metrics that there are, and of each rule the docs say what to do."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from page.test_modules import node
from prometheus_client.metrics import MetricWrapperBase
from ruamel.yaml import YAML

from longwick import metrics
from longwick.kinds import RunKind, RunStatus

ROOT = Path(__file__).parents[1]
OF_PROMETHEUS = {"job", "instance"}


def rules() -> list[dict[str, Any]]:
    found = YAML(typ="safe").load(ROOT / "deploy" / "alerts.yml")
    return [rule for group in found["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((ROOT / "deploy" / "grafana.json").read_text())["panels"]
    return found


def expressions() -> dict[str, str]:
    """Every expression of both, by the name of what it is for."""
    of_panels = {panel["title"]: target["expr"] for panel in panels() for target in panel["targets"]}
    return {**{rule["alert"]: rule["expr"] for rule in rules()}, **of_panels}


@pytest.fixture(scope="module")
def asked() -> dict[str, Any]:
    """What each expression asks for, as Prometheus's own grammar reads it."""
    named = expressions()
    command = [node(), str(ROOT / "tests" / "promql.js")]
    said = json.dumps(list(named.values()))
    done = subprocess.run(command, input=said, capture_output=True, text=True, timeout=30, check=True)
    return dict(zip(named, json.loads(done.stdout), strict=True))


def samples() -> dict[str, set[str]]:
    """The samples that our metrics give, each with its labels."""
    found = {}
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            (family,) = metric.describe()
            labels = set(metric._labelnames)
            match family.type:
                case "counter":
                    found[f"{family.name}_total"] = labels
                case "histogram":
                    found |= {f"{family.name}_{part}": labels for part in ("sum", "count")}
                    found[f"{family.name}_bucket"] = labels | {"le"}
                case _:
                    found[family.name] = labels
    return found


def values() -> dict[str, set[str]]:
    """The words of those labels that have few."""
    table = (ROOT / "docs" / "http-api.md").read_text().partition("## Why a run failed")[2]
    codes = {path: path.read_text() for path in (ROOT / "longwick").glob("*.py")}
    return {
        "code": set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)),
        "outcome": {"ok", "failed", *re.findall(r'code ?= ?"(\w+)"', "\n".join(codes.values()))},
        "status": {*RunStatus, "unreachable", "refused"},
        "kind": {*RunKind},
        "part": {"record", "redis", "mcp"},
    }


@pytest.mark.parametrize("name", expressions())
def test_it_asks_for_metrics_and_labels_that_there_are(asked: dict[str, Any], name: str) -> None:
    found, there, words = asked[name], samples(), values()
    assert found["errors"] == 0
    assert found["selectors"]
    known: set[str] = set()
    for selector in found["selectors"]:
        assert selector["name"] in there
        known |= there[selector["name"]]
        for label, value in selector["labels"]:
            assert label in there[selector["name"]]
            # A gateway's status may be one of HTTP.
            assert {word for word in value.split("|") if not word.isdecimal()} <= words[label]
    assert set(found["groupings"]) <= known | OF_PROMETHEUS


def test_what_is_wrong_is_found(asked: dict[str, Any]) -> None:
    """The grammar reads what it is given: an expression that is none is told."""
    command = [node(), str(ROOT / "tests" / "promql.js")]
    done = subprocess.run(command, input='["sum((a)", "a{b=\\"c\\"}"]', capture_output=True, text=True, timeout=30)
    broken, whole = json.loads(done.stdout)
    assert broken["errors"] == 1
    assert whole == {"errors": 0, "selectors": [{"name": "a", "labels": [["b", "c"]]}], "groupings": []}


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_a_rule_says_what_is_wrong_and_how_much_it_matters(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("page", "warn", "info")
    assert rule["annotations"]["summary"].endswith(".")


def test_the_docs_say_what_to_do_about_each_and_no_other() -> None:
    section = (ROOT / "docs" / "operations.md").read_text().partition("## Alerts\n")[2].partition("\n## ")[0]
    documented = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert documented == [rule["alert"] for rule in rules()]


def test_what_is_shown_names_only_labels_that_are_left() -> None:
    for panel in panels():
        for target in panel["targets"]:
            kept = set(re.findall(r"by \(([\w, ]+)\)", target["expr"])[:1])
            shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert shown <= {label for labels in kept for label in labels.split(", ")}
