"""Render metrics as text: as OpenMetrics 1.0, or in the older format of Prometheus
(0.0.4), which is all that node_exporter's textfile collector reads. Pure.

The two differ in little: the older one has no unit and no end, knows neither the type
"info", and has "_total" in the name of a counter's family.

Names, types and helps are ours. Label values may come from anywhere, so they are
escaped: no text can end its label or its line. What cannot be printed is replaced, and
if that makes two series equal, only the first is shown.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from spyglass.ops.output.untrusted_text import sanitize

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

OPENMETRICS = "openmetrics"
PROMETHEUS = "prometheus"
CONTENT_TYPES = {
    OPENMETRICS: "application/openmetrics-text; version=1.0.0; charset=utf-8",
    PROMETHEUS: "text/plain; version=0.0.4; charset=utf-8",
}

COUNTER, GAUGE, HISTOGRAM, INFO = "counter", "gauge", "histogram", "info"
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


@dataclass
class Family:
    """All that is known of one metric. `name` has no "_total" or "_info"; it ends in
    its `unit`, if it has one. `help` is one sentence.
    """

    name: str
    type: str
    help: str
    unit: str = ""
    samples: list[tuple[str, Mapping[str, str], float]] = field(default_factory=list)

    def add(self, labels: Mapping[str, str], value: float) -> None:
        """Add a sample of a gauge, a counter or (with the value 1) an info."""
        suffix = {COUNTER: "_total", INFO: "_info"}.get(self.type, "")
        self.samples.append((suffix, labels, value))

    def add_histogram(
        self,
        labels: Mapping[str, str],
        bounds: Sequence[float],
        counts: Sequence[int],
        total: float,
    ) -> None:
        """Add a histogram: `counts` (int) of the buckets, one more than `bounds`, each
        without those below it; `total` is the sum of what was counted.
        """
        so_far = 0
        for bound, count in zip((*map(float, bounds), "+Inf"), counts, strict=True):
            so_far += count
            self.samples.append(("_bucket", {**labels, "le": str(bound)}, so_far))
        self.samples.append(("_count", labels, so_far))
        self.samples.append(("_sum", labels, total))


def render(families: Iterable[Family], kind: str = OPENMETRICS) -> str:
    """Return the text of those `families` that have samples; `kind` is a key of
    CONTENT_TYPES.
    """
    lines = []
    for family in families:
        if not family.samples:
            continue
        name, type_ = family.name, family.type
        if kind == PROMETHEUS:
            name += {COUNTER: "_total", INFO: "_info"}.get(type_, "")
            type_ = GAUGE if type_ == INFO else type_
        lines.append(f"# HELP {name} {family.help.translate(_ESCAPES)}")
        lines.append(f"# TYPE {name} {type_}")
        if family.unit and kind == OPENMETRICS:
            lines.append(f"# UNIT {name} {family.unit}")
        # By series: a second sample of the same one would make all of the text invalid.
        series: dict[str, float] = {}
        for suffix, labels, value in family.samples:
            series.setdefault(f"{family.name}{suffix}{_labels(labels)}", value)
        lines += [f"{name} {value}" for name, value in series.items()]
    if kind == OPENMETRICS:
        lines.append("# EOF")
    return "\n".join([*lines, ""])


def _labels(labels: Mapping[str, str]) -> str:
    pairs = [f'{name}="{sanitize(value).translate(_ESCAPES)}"' for name, value in labels.items()]
    return f"{{{','.join(pairs)}}}" if pairs else ""
