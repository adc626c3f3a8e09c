"""A look at where the time of a few steps goes: a trace for a viewer and a table for people."""

from __future__ import annotations

from typing import Any

from lnmt.training.callbacks.callback import Callback, Run, StepResult

WARM_UP_STEPS = 3
ROWS = 40  # of the table


class ProfileSteps(Callback):
    """Profiles `steps` steps after a warm-up.

    Leaves `trace.json` (for Perfetto or chrome://tracing) and `table.txt` in the directory `profile` of the logs.
    """

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._profiler: Any = None

    def start(self, run: Run) -> None:
        from torch.profiler import ProfilerActivity, profile, schedule

        activities = [ProfilerActivity.CPU]
        if run.execution.device.type == "cuda":
            activities.append(ProfilerActivity.CUDA)
        plan = schedule(wait=0, warmup=WARM_UP_STEPS, active=self._steps, repeat=1)
        self._run = run
        self._profiler = profile(activities=activities, schedule=plan, on_trace_ready=self._write, record_shapes=True)
        self._profiler.start()

    def after_step(self, run: Run, step: StepResult) -> None:
        self._profiler.step()

    def finish(self, run: Run) -> None:
        if self._profiler is not None:
            self._profiler.stop()

    def _write(self, profiler: Any) -> None:
        target = self._run.logs / "profile"
        target.mkdir(parents=True, exist_ok=True)
        profiler.export_chrome_trace(str(target / "trace.json"))
        order = "self_cuda_time_total" if self._run.execution.device.type == "cuda" else "self_cpu_time_total"
        table = profiler.key_averages().table(sort_by=order, row_limit=ROWS)
        (target / "table.txt").write_text(table, encoding="utf-8")
        self._run.progress.note(f"profiled {self._steps} steps: {target / 'table.txt'}, and trace.json beside it")
