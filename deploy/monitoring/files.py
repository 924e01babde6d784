"""The files of one installation's monitoring, by their paths below a folder: `files`.

prometheus.yaml, rules.yaml, alertmanager.yaml, otel-collector.yaml
grafana/provisioning/, grafana/dashboards/
kubernetes/   PodMonitors, PrometheusRule and ConfigMaps with the dashboards, for the Prometheus operator
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from deploy.commands import PROCESSES
from deploy.monitoring import alerts, dashboards, grafana
from deploy.monitoring.receivers import Receivers, alertmanager_file
from deploy.monitoring.thresholds import Thresholds

CONFIG: Final = "/etc/imagegenx"  # where the containers of the compose file find them
METRICS_PORT: Final = 9100  # of the Dockerfile
_SCRAPED: Final = tuple(name for name in PROCESSES if name not in ("web", "flower", "backup"))


@dataclass(frozen=True)
class Monitored:
    """`web`: where the web process answers /metrics. `processes`: others, with an endpoint each; none where web adds
    all up (make run). `token_file`: METRICS_TOKEN. `runbook_base`: what stands before docs/ in alerts' links.
    """

    web: str = "web:8000"
    processes: tuple[str, ...] = _SCRAPED
    token_file: str = "/run/secrets/metrics_token"
    alertmanager: str = "alertmanager:9093"
    config: str = CONFIG
    runbook_base: str = ""
    limits: Thresholds = field(default_factory=Thresholds)


def files(monitored: Monitored, receivers: Receivers) -> dict[str, str]:
    """Path -> text."""
    rules = alerts.rule_file(monitored.limits, monitored.runbook_base)
    found: dict[str, Any] = {
        "prometheus.yaml": _prometheus(monitored),
        "rules.yaml": rules,
        "alertmanager.yaml": alertmanager_file(receivers),
        "otel-collector.yaml": _COLLECTOR,
        "grafana/provisioning/datasources/imagegenx.yaml": _DATA_SOURCES,
        "grafana/provisioning/dashboards/imagegenx.yaml": _provider(monitored),
        "kubernetes/pod-monitors.yaml": [_pod_monitor("web", "http", token=True), _pod_monitor("workers", "metrics")],
        "kubernetes/prometheus-rule.yaml": _named("PrometheusRule", "imagegenx", spec=rules),
        "kubernetes/dashboards.yaml": [_config_map(one) for one in dashboards.ALL],
    }
    texts = {path: _yaml(content) for path, content in found.items()}
    for dashboard in dashboards.ALL:
        texts[f"grafana/dashboards/{dashboard.uid}.json"] = _json(grafana.dashboard_json(dashboard))
    return texts


def _yaml(content: Any) -> str:
    documents = content if isinstance(content, list) else [content]
    return yaml.safe_dump_all(documents, sort_keys=False, width=120, allow_unicode=True)


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=1) + "\n"


def _prometheus(monitored: Monitored) -> dict[str, Any]:
    web: dict[str, Any] = {
        "job_name": "imagegenx",
        "static_configs": [{"targets": [monitored.web], "labels": {"process": "web"}}],
    }
    if monitored.token_file:
        web["authorization"] = {"credentials_file": monitored.token_file}
    jobs = [web]
    if monitored.processes:
        jobs.append(_worker_job(monitored.processes))
    return {
        "global": {"scrape_interval": "15s", "evaluation_interval": "15s"},
        "rule_files": [f"{monitored.config}/rules.yaml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [monitored.alertmanager]}]}]},
        "scrape_configs": jobs,
    }


def _worker_job(processes: tuple[str, ...]) -> dict[str, Any]:
    """Every container of these names: the containers' DNS answers with one address for each."""
    found = [{"names": [name], "type": "A", "port": METRICS_PORT} for name in processes]
    named = {"source_labels": ["__meta_dns_name"], "target_label": "process"}
    same_job = {"target_label": "job", "replacement": "imagegenx"}
    return {"job_name": "imagegenx-workers", "dns_sd_configs": found, "relabel_configs": [named, same_job]}


_COLLECTOR: Final = {
    "receivers": {"otlp": {"protocols": {"http": {"endpoint": "0.0.0.0:4318"}}}},
    "processors": {
        "memory_limiter": {"check_interval": "1s", "limit_mib": 256},
        "batch": {},
    },
    "exporters": {"otlp": {"endpoint": "jaeger:4317", "tls": {"insecure": True}}},
    "service": {
        "pipelines": {
            "traces": {"receivers": ["otlp"], "processors": ["memory_limiter", "batch"], "exporters": ["otlp"]}
        }
    },
}
_DATA_SOURCES: Final = {
    "apiVersion": 1,
    "datasources": [
        {
            "name": "Prometheus",
            "uid": "imagegenx-prometheus",
            "type": "prometheus",
            "url": "http://prometheus:9090",
            "isDefault": True,
            "jsonData": {"timeInterval": "15s"},
        },
        {"name": "Traces", "uid": "imagegenx-traces", "type": "jaeger", "url": "http://jaeger:16686"},
    ],
}


def _provider(monitored: Monitored) -> dict[str, Any]:
    place = {"path": f"{monitored.config}/grafana/dashboards"}
    return {
        "apiVersion": 1,
        "providers": [{"name": "imagegenx", "folder": "ImageGenX", "type": "file", "options": place}],
    }


def _named(kind: str, name: str, *, labels: Mapping[str, str] | None = None, **rest: Any) -> dict[str, Any]:
    version = "v1" if kind == "ConfigMap" else "monitoring.coreos.com/v1"
    metadata = {"name": name, "namespace": "imagegenx", "labels": {"app": "imagegenx", **(labels or {})}}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **rest}


def _pod_monitor(name: str, port: str, *, token: bool = False) -> dict[str, Any]:
    """Of all pods whose container has a port of that name (deploy/manifests.py)."""
    process = {"sourceLabels": ["__meta_kubernetes_pod_label_process"], "targetLabel": "process"}
    endpoint: dict[str, Any] = {
        "port": port,
        "path": "/metrics",
        "interval": "15s",
        "relabelings": [process, {"targetLabel": "job", "replacement": "imagegenx"}],
    }
    if token:
        endpoint["authorization"] = {"credentials": {"name": "imagegenx", "key": "METRICS_TOKEN"}}
    spec = {"selector": {"matchLabels": {"app": "imagegenx"}}, "podMetricsEndpoints": [endpoint]}
    return _named("PodMonitor", f"imagegenx-{name}", spec=spec)


def _config_map(dashboard: dashboards.Dashboard) -> dict[str, Any]:
    """As Grafana's sidecar finds it."""
    data = {f"{dashboard.uid}.json": _json(grafana.dashboard_json(dashboard))}
    return _named("ConfigMap", dashboard.uid, labels={"grafana_dashboard": "1"}, data=data)
