"""What these tests may use."""

from fixtures.otlp_collector import collector
