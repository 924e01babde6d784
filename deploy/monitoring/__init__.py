"""What watches the product: alert rules, dashboards, and the configuration of Prometheus, Alertmanager, Grafana and an
OpenTelemetry collector, all made from code: `python -m deploy.monitoring --to DIR` writes them, `make test-ops` tries
them with the real programs.
"""
