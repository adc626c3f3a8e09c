"""`lnmt tune`: the finders and the search, on the processed data of a project."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lnmt.drive.environment import child_environment
from lnmt.errors import LnmtError
from lnmt.params import Params, load_params
from lnmt.plugins import load_plugins
from lnmt.progress import Progress
from lnmt.registry import Registry, log_trial
from lnmt.settings import Settings
from lnmt.stages import find_stage, stage_io

if TYPE_CHECKING:
    import torch

    from lnmt.training.precision import Precision
    from lnmt.training.prepare import TrainingData
    from lnmt.tuning.batch_size import BatchSizes
    from lnmt.tuning.learning_rate import Rates
    from lnmt.tuning.search import Found, Tried

WORKER = "LNMT_TUNE_WORKER"  # set in the processes that a search starts beside itself
STOP_S = 30.0  # for a worker to leave a checkpoint

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bench:
    """What all three need: the parameters, the tokenised data, the arithmetic."""

    params: Params
    data: TrainingData
    precision: Precision
    device: torch.device
    work: Path


def prepare(settings: Settings, progress: Progress) -> Bench:
    """Raises LnmtError where data/processed is not there yet."""
    if not (settings.project / "data/processed/manifest.json").is_file():
        raise LnmtError(
            "there are no processed data to learn from",
            where=settings.project / "data/processed",
            fix="make them: lnmt run process",
        )
    import torch

    from lnmt.training.precision import choose_precision
    from lnmt.training.prepare import prepare_model, probe_batches
    from lnmt.training.train import load_data

    params = load_params(settings.project / "params.yaml")
    load_plugins(params.plugins, settings.project)
    data = load_data(params, stage_io(find_stage("train"), params, settings, progress))
    work = settings.state_dir / "work" / "tune"
    work.mkdir(parents=True, exist_ok=True)
    options = params.train
    kept = work / f"precision-{data.train.digest.removeprefix('sha256:')[:16]}.json"
    model, probes = prepare_model(options, data), probe_batches(options, data)
    precision = choose_precision(options.precision, model, probes, kept).precision
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return Bench(params, data, precision, device, work)


def batch_size(settings: Settings, progress: Progress) -> BatchSizes:
    """Which batch sizes fit and which is fastest; also in reports/tuning/batch-size.json."""
    from dataclasses import asdict

    from lnmt.files import write_json
    from lnmt.tuning.batch_size import find_batch_size

    bench = prepare(settings, progress)
    found = find_batch_size(
        bench.params.train, bench.data, precision=bench.precision, device=bench.device, progress=progress
    )
    write_json(_reports(settings) / "batch-size.json", asdict(found))
    return found


def learning_rate(settings: Settings, progress: Progress) -> Rates:
    """The range test; also in reports/tuning/learning-rate.json and .svg."""
    from dataclasses import asdict

    from lnmt.files import write_json
    from lnmt.tuning.learning_rate import draw, find_learning_rate

    bench = prepare(settings, progress)
    found = find_learning_rate(
        bench.params.train, bench.data, precision=bench.precision, device=bench.device, progress=progress
    )
    write_json(_reports(settings) / "learning-rate.json", asdict(found))
    draw(found, _reports(settings) / "learning-rate.svg")
    return found


def search(settings: Settings, progress: Progress, *, workers: int = 1) -> Found:
    """Run the study of params.yaml: tune with so many processes; also as reports/tuning/search.

    Each process has its share of the cores. Ctrl-C leaves trials that the next call goes on with.
    """
    import torch

    from lnmt.tuning.report import write_report
    from lnmt.tuning.search import search as run

    torch.set_num_threads(max(1, torch.get_num_threads() // workers))
    bench = prepare(settings, progress)
    params = bench.params
    registry = Registry(settings.tracking_uri, settings.state_dir / "mlflow")

    def finished(tried: Tried) -> None:
        figures: dict[str, Any] = {"number": tried.number, "state": tried.state, "values": tried.values}
        try:
            log_trial(
                registry,
                name=params.name,
                study=f"{params.name} search",
                metric=params.train.metric,
                curve=tried.curve,
                score=tried.score,
                **figures,
            )
        except LnmtError as error:  # the study has it; MLflow is a comfort
            _LOG.warning("a trial did not reach MLflow: %s", error)

    with ExitStack() as stack:
        if WORKER not in os.environ:
            for number in range(1, workers):
                stack.callback(_join, _start(settings, number, workers))
        found = run(
            params.train,
            params.tune,
            bench.data,
            name=params.name,
            storage=settings.tuning_url,
            work=bench.work,
            progress=progress,
            plugins=tuple(params.plugins),
            finished=finished,
        )
    if WORKER not in os.environ:
        write_report(_reports(settings) / "search", found, params.tune)
    return found


def _start(settings: Settings, number: int, workers: int) -> subprocess.Popen[bytes]:
    log = settings.state_dir / "logs" / "tune"
    log.mkdir(parents=True, exist_ok=True)
    with (log / f"worker-{number}.log").open("wb") as sink:
        return subprocess.Popen(
            [sys.executable, "-m", "lnmt", "tune", "--workers", str(workers)],
            cwd=settings.project,
            env={**child_environment(settings), WORKER: str(number)},
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
        )


def _join(process: subprocess.Popen[bytes]) -> None:
    """Wait for a worker; where this process is being stopped, stop it too."""
    if sys.exc_info()[0] is not None:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


def _reports(settings: Settings) -> Path:
    target = settings.project / "reports" / "tuning"
    target.mkdir(parents=True, exist_ok=True)
    return target
