"""Metrics of storage; generation/telemetry/prometheus.py has the list and the endpoint."""

from prometheus_client import Histogram

STORE = Histogram(
    "imagegenx_store_seconds",
    "Time that a picture takes into the store or the spool.",
    ["operation", "outcome"],
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
