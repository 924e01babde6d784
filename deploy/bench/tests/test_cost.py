"""What a task costs in commands, transactions and bytes has not grown: figures that do not depend on the machine."""

from deploy.bench.cost.__main__ import short_counts
from deploy.bench.cost.report import compare_counts


def test_a_picture_costs_no_more_commands_and_bytes_than_before() -> None:
    assert compare_counts(short_counts(), keep=False) == 0, "see docs/benchmarks/cost.md; --short --keep after a reason"
