"""Traces of tasks for OpenTelemetry: spans.py is what the product calls, exporter.py what knows OpenTelemetry."""
