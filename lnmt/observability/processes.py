"""CPU, memory and open files of the service's workers, looked up when they are asked for.

prometheus_client's own collector tells of the process that answers, which with several workers is any of them.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from lnmt.observability.workers import worker_pids


class WorkerFigures:
    """A collector for prometheus_client."""

    def collect(self) -> Iterable[Metric]:
        """The three series, a sample for each living worker."""
        import psutil

        cpu = CounterMetricFamily(
            "lnmt_process_cpu_seconds", "CPU seconds of a worker, user and system", labels=["pid"]
        )
        resident = GaugeMetricFamily("lnmt_process_resident_memory_bytes", "Resident bytes of a worker", labels=["pid"])
        files = GaugeMetricFamily("lnmt_process_open_fds", "Open file descriptors of a worker", labels=["pid"])
        for pid in worker_pids():
            try:
                process = psutil.Process(pid)
                times, memory, opened = process.cpu_times(), process.memory_info(), process.num_fds()
            except psutil.Error:  # it has just ended
                continue
            cpu.add_metric([str(pid)], times.user + times.system)
            resident.add_metric([str(pid)], memory.rss)
            files.add_metric([str(pid)], opened)
        return [cpu, resident, files]
