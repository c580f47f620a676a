"""The process metrics of several workers, which prometheus_client has for one process alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from prometheus_client import ProcessCollector
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

# Processor time, memory and open files add up; these do not.
NOT_ADDED: dict[str, Callable[[Iterable[float]], float]] = {
    "process_start_time_seconds": min,
    "process_max_fds": min,
}


class WorkerProcesses(Collector):
    """The process metrics of all workers that count in one directory of prometheus_client's, as if they were one."""

    def __init__(self, directory: str) -> None:
        self._directory = Path(directory)

    def collect(self) -> Iterator[Metric]:
        together: dict[str, Metric] = {}
        values: dict[str, list[float]] = {}
        for pid in self._pids():
            for metric in ProcessCollector(pid=lambda pid=pid: pid, registry=None).collect():  # type: ignore[misc]
                for sample in metric.samples:
                    together.setdefault(sample.name, metric)
                    values.setdefault(sample.name, []).append(sample.value)
        for name, metric in together.items():
            metric.samples = [metric.samples[0]._replace(value=NOT_ADDED.get(name, sum)(values[name]))]
            yield metric

    def _pids(self) -> set[str]:
        # Each worker has files of its own, and those of its gauges are taken away when it dies.
        return {path.stem.rpartition("_")[2] for path in self._directory.glob("gauge_live*_*.db")}
