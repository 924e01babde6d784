"""Dashboards as plain data, and the PromQL that most panels share."""

from dataclasses import dataclass

RATE = "$__rate_interval"


@dataclass(frozen=True)
class Query:
    """`rare`: may have no series in a healthy product that is hardly used."""

    expr: str
    legend: str = ""
    rare: bool = False


@dataclass(frozen=True)
class Panel:
    """`unit`: a Grafana unit (s, short, percentunit, bytes, reqps). `kind`: timeseries, stat or bargauge. `width`: of
    24 columns.
    """

    title: str
    queries: tuple[Query, ...]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 12
    about: str = ""


@dataclass(frozen=True)
class Dashboard:
    uid: str
    title: str
    about: str
    panels: tuple[Panel, ...]


def rate(metric: str, by: str = "", legend: str = "", *, rare: bool = False) -> Query:
    """Of a counter, a second, over all processes. `metric` with its matchers."""
    grouped = f" by ({by})" if by else ""
    return Query(f"sum{grouped} (rate({metric}[{RATE}]))", legend or _legend(by), rare)


def quantile(part: float, histogram: str, by: str = "", matchers: str = "", *, rare: bool = False) -> Query:
    """Of a histogram named without `_bucket`."""
    grouped = f"le, {by}" if by else "le"
    inner = f"sum by ({grouped}) (rate({histogram}_bucket{matchers}[{RATE}]))"
    name = f"p{100 * part:g}"
    return Query(f"histogram_quantile({part:g}, {inner})", f"{_legend(by)} {name}".strip(), rare)


def mean(histogram: str, by: str = "", *, rare: bool = False) -> Query:
    grouped = f" by ({by})" if by else ""
    total, count = (f"sum{grouped} (rate({histogram}_{part}[{RATE}]))" for part in ("sum", "count"))
    return Query(f"{total} / {count}", f"{_legend(by)} mean".strip(), rare)


def shared(gauge: str, by: str = "", legend: str = "", *, rare: bool = False) -> Query:
    """A gauge that every web process gives alike."""
    grouped = f" by ({by})" if by else ""
    return Query(f"max{grouped} ({gauge})", legend or _legend(by), rare)


def part(bad: str, all_of: str, by: str = "", *, rare: bool = False) -> Query:
    """A rate over a rate; nothing bad is 0, not a gap."""
    grouped = f" by ({by})" if by else ""
    total = f"sum{grouped} (rate({all_of}[{RATE}]))"
    return Query(f"(sum{grouped} (rate({bad}[{RATE}])) or {total} * 0) / {total}", _legend(by), rare)


def _legend(by: str) -> str:
    return " ".join(f"{{{{{label.strip()}}}}}" for label in by.split(",") if label)
