"""Dashboards as Grafana's JSON (schema version 39), for its provisioning from files: no id, no inputs, one data source
that the reader of the dashboard may choose.
"""

from typing import Any, Final

from deploy.monitoring.panels import Dashboard, Panel

_SOURCE: Final = {"type": "prometheus", "uid": "${source}"}
_HEIGHT: Final = {"stat": 4, "timeseries": 8, "bargauge": 12}
_COLUMNS: Final = 24


def dashboard_json(dashboard: Dashboard) -> dict[str, Any]:
    """The whole of one file."""
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.about,
        "tags": ["imagegenx"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "templating": {
            "list": [{"name": "source", "type": "datasource", "query": "prometheus", "label": "Prometheus"}]
        },
        "links": [
            {"type": "dashboards", "tags": ["imagegenx"], "title": "ImageGenX", "asDropdown": True, "keepTime": True}
        ],
        "annotations": {"list": []},
        "panels": _placed(dashboard.panels),
    }


def _placed(panels: tuple[Panel, ...]) -> list[dict[str, Any]]:
    """From left to right, a new line where one does not fit."""
    made, x, y, line = [], 0, 0, 0
    for number, panel in enumerate(panels, 1):
        height = _HEIGHT[panel.kind]
        if x + panel.width > _COLUMNS:
            x, y, line = 0, y + line, 0
        made.append(_panel(panel, number, {"x": x, "y": y, "w": panel.width, "h": height}))
        x, line = x + panel.width, max(line, height)
    return made


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "gridPos": place,
        "datasource": _SOURCE,
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": _SOURCE,
                "expr": query.expr,
                "legendFormat": query.legend or "__auto",
                "instant": panel.kind == "bargauge",
            }
            for index, query in enumerate(panel.queries)
        ],
        "fieldConfig": {"defaults": {"unit": panel.unit, **_style(panel.kind)}, "overrides": []},
        "options": _options(panel.kind),
    }


def _style(kind: str) -> dict[str, Any]:
    return {"custom": {"fillOpacity": 10, "showPoints": "never"}, "min": 0} if kind == "timeseries" else {"min": 0}


def _options(kind: str) -> dict[str, Any]:
    reduce = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    if kind == "timeseries":
        return {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}
    if kind == "stat":
        return {"reduceOptions": reduce, "colorMode": "none", "graphMode": "area", "textMode": "auto"}
    return {"reduceOptions": reduce, "orientation": "horizontal", "displayMode": "basic"}
