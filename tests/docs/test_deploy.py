"""Files for operators name only what exists: metrics, settings, commands, and fields of their formats."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import kubernetes_validate  # type: ignore[import-untyped]  # it ships no types
import promql_parser
import pytest
import yaml

from api.test_metrics import all_metrics
from examples import ROOT
from fleek.cli import run

DEPLOY: Final = ROOT / "deploy"
ALERTS: Final = DEPLOY / "prometheus/alerts.yaml"
DASHBOARD: Final = DEPLOY / "grafana/fleek.json"
MANIFESTS: Final = DEPLOY / "kubernetes/fleek.yaml"
UNITS: Final = sorted((DEPLOY / "systemd").glob("*.service"))
KUBERNETES: Final = ("1.31.0", "1.37.0")  # the oldest and the newest version that is supported
FOREIGN: Final = {"up", "process_resident_memory_bytes"}  # of Prometheus and its library
SET_BY_PROMETHEUS: Final = {"job", "instance"}
SELECTOR: Final = re.compile(r"\b([a-z][a-z0-9_]*)\{([^}]*)\}|\b(fleek_[a-z0-9_]+)")
VARIABLES: Final = {"$__rate_interval": "5m", "$job": "fleek"}


def rules() -> list[dict[str, Any]]:
    """Return all alert rules."""
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    """Return all panels of the dashboard."""
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return found


def expressions() -> Iterator[str]:
    """Yield every expression of an operator's file, as Prometheus gets it."""
    for rule in rules():
        yield rule["expr"]
    for panel in panels():
        for target in panel["targets"]:
            text = target["expr"]
            for name, value in VARIABLES.items():
                text = text.replace(name, value)
            yield text


def exposed() -> dict[str, set[str]]:
    """Return the labels of each series in the answer of `/metrics`."""
    series: dict[str, set[str]] = {}
    for family in all_metrics():
        for sample in family.samples:
            series.setdefault(sample.name, set()).update(sample.labels)
    return series


def test_every_metric_and_label_exists() -> None:
    """An alert on a metric that does not exist never fires."""
    known = exposed() | {name: set[str]() for name in FOREIGN}
    unknown = set()
    for expression in expressions():
        for selected, matchers, bare in SELECTOR.findall(expression):
            name = selected or bare
            labels = set(re.findall(r"([a-z_]+)\s*(?:=|!)", matchers)) - SET_BY_PROMETHEUS
            if name not in known or not labels <= known[name]:
                unknown.add((name, *labels))

    assert unknown == set()
    assert len(list(expressions())) > 35


@pytest.mark.parametrize("expression", sorted(set(expressions())))
def test_every_expression_is_promql(expression: str) -> None:
    """It is read by a parser of the language."""
    promql_parser.parse(expression)


def test_a_wrong_expression_is_refused() -> None:
    """Otherwise the test above would prove nothing."""
    with pytest.raises(ValueError, match=r".+"):
        promql_parser.parse("sum by (code (rate(fleek_jobs[5m]))")


def test_promtool_accepts_the_rules_where_it_is_installed() -> None:
    """It checks what the tests around check by other means, so that nothing depends on it."""
    promtool = shutil.which("promtool")
    if promtool is not None:
        subprocess.run([promtool, "check", "rules", str(ALERTS)], check=True)  # noqa: S603 - found above


def test_every_alert_says_what_to_do() -> None:
    """It wakes somebody."""
    names = [rule["alert"] for rule in rules()]

    assert len(set(names)) == len(names)
    for rule in rules():
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert set(rule["annotations"]) == {"summary", "action"}


def test_panels_do_not_overlap() -> None:
    """Grafana would move them."""
    places = [panel["gridPos"] for panel in panels()]
    cells = [
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]

    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in panels()}) == len(places)


@pytest.mark.parametrize("version", KUBERNETES)
def test_manifests_are_valid(version: str) -> None:
    """Every field is one of the schema of this version of Kubernetes."""
    documents = list(yaml.safe_load_all(MANIFESTS.read_text()))

    for document in documents:
        kubernetes_validate.validate(document, version, strict=True)

    assert [each["kind"] for each in documents] == [
        *("ConfigMap", "Deployment", "Deployment", "Service", "PodDisruptionBudget")
    ]


def test_a_wrong_manifest_is_refused() -> None:
    """Otherwise the test above would prove nothing."""
    first, *_ = yaml.safe_load_all(MANIFESTS.read_text())

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(first | {"replicas": 2}, KUBERNETES[0], strict=True)


def commands() -> Iterator[list[str]]:
    """Yield every command of `fleek` that a unit or a container starts."""
    for unit in UNITS:
        (line,) = re.findall(
            r"^ExecStart=/opt/fleek/bin/fleek (.+)$", unit.read_text(), re.MULTILINE
        )
        yield line.split()
    for document in yaml.safe_load_all(MANIFESTS.read_text()):
        spec = document.get("spec", {}).get("template", {}).get("spec", {})
        for container in (*spec.get("containers", ()), *spec.get("initContainers", ())):
            program, *command = container["command"]
            assert program == "fleek"
            yield command


@pytest.mark.parametrize("line", sorted({" ".join(command) for command in commands()}))
def test_every_command_exists(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With its options."""
    command = line.split()
    code = run([*command, "--help"])

    shown = capsys.readouterr().out
    assert code == 0
    for option in command[1:]:
        assert option.removeprefix("--no-") in shown


def test_settings_of_the_manifest_exist() -> None:
    """A setting of another name would have no effect."""
    config, *_ = yaml.safe_load_all(MANIFESTS.read_text())
    page = (ROOT / "docs/reference/settings.md").read_text()

    assert [name for name in config["data"] if f"`{name}`" not in page] == []


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_units_have_only_known_directives(unit: Path, tmp_path: Path) -> None:
    """Systemd ignores what it does not know, and only logs it."""
    lines = [line for line in unit.read_text().splitlines() if line and line[0] not in "#["]
    assert [line for line in lines if not re.fullmatch(r"[A-Z][A-Za-z]+=.*", line)] == []
    analyze = shutil.which("systemd-analyze")
    if analyze is not None:
        name = unit.name.replace("@", "@1")
        text = unit.read_text().replace("/opt/fleek/bin/fleek", "/bin/true")
        (tmp_path / name).write_text(re.sub(r"^(User|Group)=.*$", "", text, flags=re.MULTILINE))
        done = subprocess.run(  # noqa: S603 - found above
            [analyze, "verify", "--man=no", str(tmp_path / name)],
            capture_output=True,
            text=True,
            check=False,
        )
        ours = [line for line in done.stderr.splitlines() if name in line]
        assert (done.returncode, ours) == (0, []), done.stderr
