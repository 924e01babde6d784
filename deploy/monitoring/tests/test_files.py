"""What is written for Prometheus, Alertmanager, Grafana, compose and Kubernetes is what those programs accept."""

import copy
import json
import re
import shutil
import subprocess
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from deploy import manifests
from deploy.commands import PROCESSES
from deploy.monitoring import alert_cases, alerts, dashboards
from deploy.monitoring.receivers import SEVERITIES, Receivers, alertmanager_file
from deploy.monitoring.tests.conftest import Run, program
from deploy.monitoring.tests.hook_receiver import HookReceiver, wait_for
from deploy.monitoring.thresholds import VARIABLES, Thresholds, field_of
from deploy.product import ROOT, answers
from deploy.services import free_port
from generation.telemetry import prometheus

RULES = alerts.rules(Thresholds())
METRIC = re.compile(r"imagegenx_\w+")
KUBERNETES = "1.34"


def listed_metrics() -> set[str]:
    """Those that the product says it has, with the series that Prometheus makes of a histogram."""
    doc = prometheus.__doc__ or ""
    named = set(METRIC.findall(doc)) | {f"imagegenx_spool_{rest}" for rest in ("bytes", "oldest_seconds", "full")}
    return named | {f"{name}_{part}" for name in named for part in ("bucket", "sum", "count")}


# ---- alerts ---------------------------------------------------------------------------------------------------------


def test_every_alert_fires_when_it_should_and_only_then(run: Run, written: Path) -> None:
    run("promtool", "check", "rules", written / "rules.yaml")
    bare = copy.deepcopy(yaml.safe_load((written / "rules.yaml").read_text()))
    for rule in bare["groups"][0]["rules"]:
        del rule["annotations"]  # promtool would compare sentences too
    (written / "bare.yaml").write_text(yaml.safe_dump(bare))
    (written / "test.yaml").write_text(yaml.safe_dump(alert_cases.test_file(RULES, "bare.yaml")))
    assert "SUCCESS" in run("promtool", "test", "rules", written / "test.yaml")


def test_every_alert_has_cases_a_page_and_metrics_that_exist() -> None:
    names = [rule.name for rule in RULES]
    assert len(names) == len(set(names))
    assert set(names) == set(alert_cases.CASES)
    page = (ROOT / alerts.RUNBOOK).read_text("utf-8")
    sections = re.split(r"^## ", page, flags=re.M)[1:]
    assert {section.split("\n", 1)[0] for section in sections} == set(names)
    for section in sections:
        assert [head for head in ("Means", "Look", "Do") if f"**{head}.**" not in section] == [], section[:40]
    for rule in RULES:
        assert set(METRIC.findall(rule.expr)) <= listed_metrics(), rule.name
        assert rule.severity in SEVERITIES


def test_thresholds_are_settings() -> None:
    given = Thresholds.from_environment({"ALERT_WAITING_S": "300", "OTHER": "x"})
    assert (given.waiting_s, given.failed_part) == (300, Thresholds.failed_part)
    assert 'class!="P0"}) > 300' in next(rule.expr for rule in alerts.rules(given) if rule.name == "TasksWait")
    assert {field_of(name) for name in VARIABLES} == {field.name for field in fields(Thresholds)}
    for wrong in ("soon", "0", "-1", "nan", "inf"):
        with pytest.raises(ValueError, match="ALERT_WAITING_S"):
            Thresholds.from_environment({"ALERT_WAITING_S": wrong})


# ---- who is called --------------------------------------------------------------------------------------------------


def test_alerts_go_to_the_receivers_of_their_severity(run: Run, written: Path) -> None:
    place = written / "alertmanager.yaml"
    run("amtool", "check-config", place)
    for severity in SEVERITIES:
        said = run("amtool", "config", "routes", "test", f"--config.file={place}", f"severity={severity}")
        assert severity in said.split()
    by_name = {one["name"]: one for one in yaml.safe_load(place.read_text())["receivers"]}
    assert [one["url"] for one in by_name["critical"]["webhook_configs"]] == [
        "http://127.0.0.1:9/phone",
        "http://127.0.0.1:9/chat",
    ]
    assert by_name["warning"]["email_configs"] == [{"to": "team@shop.example", "send_resolved": True}]


def test_receivers_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match="ALERT_SMTP"):
        Receivers.from_environment({"ALERT_CRITICAL_MAIL": "a@b.example"})
    with pytest.raises(ValueError, match="ALERT_WARNING_URLS"):
        Receivers.from_environment({"ALERT_WARNING_URLS": "chat.example"})
    nobody = alertmanager_file(Receivers.from_environment({}))
    assert nobody["receivers"] == [{"name": "critical"}, {"name": "warning"}]


# ---- Prometheus and Grafana -----------------------------------------------------------------------------------------


def test_prometheus_reads_its_configuration(run: Run, written: Path) -> None:
    run("promtool", "check", "config", written / "prometheus.yaml")
    jobs = yaml.safe_load((written / "prometheus.yaml").read_text())["scrape_configs"]
    asked = {"web", *(name for found in jobs[1]["dns_sd_configs"] for name in found["names"])}
    assert asked == set(PROCESSES) - {"flower", "backup"}


def test_dashboards_ask_for_metrics_that_exist(written: Path) -> None:
    assert len(dashboards.ALL) == 7
    for board in dashboards.ALL:
        made = json.loads((written / f"grafana/dashboards/{board.uid}.json").read_text())
        assert len({panel["id"] for panel in made["panels"]}) == len(board.panels)
        places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in made["panels"]]
        assert len(places) == len(set(places))
        for panel in made["panels"]:
            for target in panel["targets"]:
                named = set(METRIC.findall(target["expr"]))
                assert named <= listed_metrics(), (board.title, panel["title"], named - listed_metrics())


# ---- containers -----------------------------------------------------------------------------------------------------


def test_compose_takes_the_files(run: Run, tmp_path: Path) -> None:
    example = (ROOT / "deploy/containers/env.example").read_text()
    (tmp_path / ".env").write_text(re.sub(r"^([A-Z_]+)=$", r"\1=x", example, flags=re.M))
    compose = ROOT / "deploy" / "containers" / "compose.yaml"
    gpu = compose.with_name("compose.gpu.yaml")
    for more in ([], ["-f", gpu]):
        said = run("docker-compose", "--project-directory", tmp_path, "-f", compose, *more, "--profile", "*", "config")
        services = yaml.safe_load(said)["services"]
        assert {"prometheus", "alertmanager", "grafana", "otel-collector", "jaeger"} <= services.keys()
        for name in ("prometheus", "alertmanager", "grafana", "otel-collector", "jaeger"):
            assert services[name]["profiles"] == ["monitoring"]


def test_the_image_is_built_as_hadolint_wants_it(run: Run) -> None:
    assert run("hadolint", ROOT / "deploy" / "containers" / "Dockerfile") == ""


def test_kubernetes_takes_the_manifests(run: Run, written: Path, tmp_path: Path) -> None:
    """Strictly, so that a misspelt field is refused. Of the operator's kinds only what we use is checked, below."""
    places = sorted(manifests.BASE.glob("*.yaml"))
    places.remove(manifests.BASE / "kustomization.yaml")
    said = run("kubernetes-validate", "-k", KUBERNETES, "--strict", *places, written / "kubernetes/dashboards.yaml")
    assert said.count("passed") >= 15
    if shutil.which("kubectl"):
        made = run("kubectl", "kustomize", ROOT / "deploy/kubernetes/overlays/gpu")
        (tmp_path / "gpu.yaml").write_text(made)
        run("kubernetes-validate", "-k", KUBERNETES, "--strict", tmp_path / "gpu.yaml")


def test_pod_monitors_name_ports_that_the_pods_have(written: Path) -> None:
    made = list(yaml.safe_load_all((written / "kubernetes/pod-monitors.yaml").read_text()))
    pods: list[dict[str, Any]] = [
        document
        for name in manifests.rendered()
        for document in yaml.safe_load_all((manifests.BASE / name).read_text())
        if document["kind"] == "Deployment"
    ]
    ports = {port["name"] for pod in pods for port in pod["spec"]["template"]["spec"]["containers"][0]["ports"]}
    assert {monitor["spec"]["podMetricsEndpoints"][0]["port"] for monitor in made} == ports == {"http", "metrics"}
    for monitor in made:
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        assert all(wanted <= pod["spec"]["template"]["metadata"]["labels"].items() for pod in pods)
    rule = yaml.safe_load((written / "kubernetes/prometheus-rule.yaml").read_text())
    assert len(rule["spec"]["groups"][0]["rules"]) == len(RULES)


# ---- a real Alertmanager --------------------------------------------------------------------------------------------


def test_each_receiver_gets_what_is_meant_for_it(tmp_path: Path) -> None:
    """And a warning that follows from something critical is not sent beside it."""
    phone, chat = HookReceiver(), HookReceiver()
    env = {"ALERT_CRITICAL_URLS": phone.url, "ALERT_WARNING_URLS": chat.url}
    config = alertmanager_file(Receivers.from_environment(env))
    for route in (config["route"], *config["route"]["routes"]):
        route["group_wait"] = "1s"
    place = tmp_path / "alertmanager.yaml"
    place.write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    command = [program("prometheus-alertmanager"), f"--config.file={place}", f"--storage.path={tmp_path}"]
    command += [f"--web.listen-address={address}", "--cluster.listen-address="]
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            wait_for(lambda: answers(f"http://{address}/-/ready"), 20, "Alertmanager")
            sent = [("NoGpuWorker", "critical"), ("TasksWait", "warning"), ("ModelFallsBack", "warning")]
            labels = [{"labels": {"alertname": name, "severity": severity}} for name, severity in sent]
            assert httpx.post(f"http://{address}/api/v2/alerts", json=labels).status_code == 200
            wait_for(lambda: phone.bodies and chat.bodies, 20, "both receivers")
            time.sleep(1)
        finally:
            process.terminate()
    assert _names(phone) == ["NoGpuWorker"]
    assert _names(chat) == ["ModelFallsBack"]


def _names(receiver: HookReceiver) -> list[str]:
    return [alert["labels"]["alertname"] for body in receiver.bodies for alert in body["alerts"]]
