"""A search over parameters of `train` with Optuna (Akiba et al., 2019): resumable, parallel, pruned."""

from __future__ import annotations

import logging
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lnmt.errors import LnmtError
from lnmt.files import canonical_json, sha256_bytes
from lnmt.params import TrainParams, TuneParams
from lnmt.progress import Progress
from lnmt.training.callbacks.callback import Callback, Run
from lnmt.training.fit import Fitted, fit
from lnmt.training.metrics import higher_is_better
from lnmt.training.prepare import TrainingData
from lnmt.tuning.space import check_space, grid, shown, suggest, with_values

if TYPE_CHECKING:
    import optuna

HEARTBEAT_S = 30  # a trial without one for twice as long was killed; the next worker takes it up again
RETRIES = 3  # of a trial that was killed

Finished = Callable[["Tried"], None]


@dataclass(frozen=True)
class Tried:
    """One finished trial."""

    number: int
    state: str  # complete, pruned, or fail: it was cut off, and run again as another trial
    values: dict[str, Any]  # dotted names below train
    score: float | None  # the metric at its best evaluation; of a pruned one at its last
    seconds: float
    curve: tuple[tuple[int, float], ...]  # step, metric


@dataclass(frozen=True)
class Found:
    """What a study has found so far, over all workers and earlier calls."""

    study: str
    metric: str
    trials: list[Tried]
    best: Tried | None


def search(
    options: TrainParams,
    tune: TuneParams,
    data: TrainingData,
    *,
    name: str,
    storage: str,
    work: Path,
    progress: Progress,
    plugins: tuple[str, ...] = (),
    finished: Finished = lambda tried: None,
) -> Found:
    """Run trials until the study `name` has `tune.trials` of them, or the time is over.

    Several processes may call it with the same `name` and `storage` (an SQLAlchemy URL): they share the
    study. A trial that was killed is run again with the same values, and goes on from its checkpoint in `work`.
    Raises UnknownName or LnmtError where the space does not fit `train`.
    """
    check_space(options, tune)
    with open_database(storage) as database:
        study = open_study(options, tune, data, name, database)
        _run_trials(study, options, tune, data, work / study.study_name, progress, plugins, finished)
        return found(study, tune, options.metric)


def _run_trials(
    study: optuna.Study,
    options: TrainParams,
    tune: TuneParams,
    data: TrainingData,
    work: Path,
    progress: Progress,
    plugins: tuple[str, ...],
    finished: Finished,
) -> None:
    from optuna import TrialPruned

    def objective(trial: optuna.Trial) -> float:
        values = suggest(trial, tune)
        trial.set_user_attr("values", values)
        directory = work / sha256_bytes(canonical_json(values)).removeprefix("sha256:")[:16]
        progress.note(f"trial {trial.number}: {told(values)}", trial=trial.number)
        reporter = ReportEvaluations(trial, options.metric)
        try:
            fitted = fit(
                with_values(options, values),
                data,
                work=directory,
                logs=directory / "logs",
                progress=progress,
                plugins=plugins,
                callbacks={"report": reporter},
            )
        except (KeyboardInterrupt, SystemExit):
            study.enqueue_trial(trial.params)  # the next call goes on with it, from its checkpoint
            raise
        except TrialPruned:
            shutil.rmtree(directory, ignore_errors=True)
            raise
        shutil.rmtree(directory, ignore_errors=True)
        return _score(fitted, options.metric)

    def after(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        finished(_tried(tune, trial))
        if _done(study) >= tune.trials:
            study.stop()

    left = tune.trials - _done(study)
    if left > 0:
        study.optimize(objective, n_trials=left, timeout=tune.timeout_s, callbacks=[after], gc_after_trial=True)


@contextmanager
def open_database(url: str) -> Iterator[optuna.storages.RDBStorage]:
    """The studies' database; its connections are closed afterwards. Raises LnmtError where it cannot be used."""
    import optuna
    from optuna.exceptions import ExperimentalWarning
    from sqlalchemy.exc import SQLAlchemyError

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            database = optuna.storages.RDBStorage(
                url,
                heartbeat_interval=HEARTBEAT_S,
                heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(max_retry=RETRIES),
            )
    except (optuna.exceptions.StorageInternalError, SQLAlchemyError, ImportError) as error:
        raise LnmtError(
            f"the studies' database cannot be used: {str(error).splitlines()[0]}",
            where="LNMT_TUNING",
            value=url.partition("@")[2] or url,  # no password
            allowed="an SQLAlchemy URL of SQLite or PostgreSQL",
            fix="start the database, or leave LNMT_TUNING out",
        ) from error
    try:
        yield database
    finally:
        database.remove_session()
        database.engine.dispose()


def open_study(
    options: TrainParams, tune: TuneParams, data: TrainingData, name: str, database: optuna.storages.RDBStorage
) -> optuna.Study:
    """The study of these data and parameters; another search space or data set is another study."""
    import optuna
    from optuna.exceptions import ExperimentalWarning

    identity = {
        "train": options.model_dump(mode="json"),
        "space": tune.model_dump(mode="json")["space"],
        "sampler": tune.sampler,
        "data": [data.train.digest, data.validation.digest],
    }
    full = f"{name}-{sha256_bytes(canonical_json(identity)).removeprefix('sha256:')[:12]}"
    samplers: dict[str, Callable[[], optuna.samplers.BaseSampler]] = {
        "tpe": lambda: optuna.samplers.TPESampler(seed=tune.seed, multivariate=True, constant_liar=True),
        "random": lambda: optuna.samplers.RandomSampler(seed=tune.seed),
        "grid": lambda: optuna.samplers.GridSampler(grid(tune), seed=tune.seed),
    }
    pruners: dict[str, Callable[[], optuna.pruners.BasePruner]] = {
        "median": lambda: optuna.pruners.MedianPruner(n_startup_trials=4),
        "hyperband": optuna.pruners.HyperbandPruner,
        "none": optuna.pruners.NopPruner,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return optuna.create_study(
            study_name=full,
            storage=database,
            sampler=samplers[tune.sampler](),
            pruner=pruners[tune.pruner](),
            direction="maximize" if higher_is_better(options.metric) else "minimize",
            load_if_exists=True,
        )


class ReportEvaluations(Callback):
    """Tells the study each evaluation, and ends a trial that lags behind the others."""

    def __init__(self, trial: optuna.Trial, metric: str) -> None:
        self._trial = trial
        self._metric = metric

    def start(self, run: Run) -> None:
        for point in run.state.validation:  # a trial that goes on from its checkpoint tells again what it had told
            self._trial.report(point[self._metric], int(point["step"]))

    def after_evaluation(self, run: Run, metrics: dict[str, float]) -> None:
        from optuna import TrialPruned

        self._trial.report(metrics[self._metric], run.state.step)
        if run.state.step < run.plan.steps and self._trial.should_prune():
            raise TrialPruned


def found(study: optuna.Study, tune: TuneParams, metric: str) -> Found:
    """All trials that ended, and the best of the complete ones."""
    from optuna.trial import TrialState

    ended = [_tried(tune, trial) for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    best = _tried(tune, study.best_trial) if complete else None
    return Found(study.study_name, metric, ended, best)


def told(values: dict[str, Any]) -> str:
    """Values for people."""
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items()
    )


def _done(study: optuna.Study) -> int:
    from optuna.trial import TrialState

    return len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)))


def _score(fitted: Fitted, metric: str) -> float:
    assert fitted.state.best is not None, "a run that ends was evaluated"
    return fitted.state.best[metric]


def _tried(tune: TuneParams, trial: optuna.trial.FrozenTrial) -> Tried:
    seconds = trial.duration.total_seconds() if trial.duration is not None else 0.0
    curve = tuple(sorted(trial.intermediate_values.items()))
    score = trial.value if trial.value is not None else (curve[-1][1] if curve else None)
    return Tried(trial.number, trial.state.name.lower(), shown(tune, trial.params), score, round(seconds, 1), curve)
