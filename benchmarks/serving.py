"""LNMT's service beside its peers in one run: `python -m benchmarks.serving`.

BentoML, LitServe, Ray Serve, MLServer, TorchServe, FastAPI with the engine and with PyTorch eager, each in a virtual
environment of its own (made once, below LNMT's cache), each tuned by its own documents (the pages are named in
benchmarks/serving_bench/servers). All answer the demo's sentences, one text a request, with one classifier: the same
tokenizer, truncation and model files (static int8 of OpenVINO and ONNX Runtime, bf16 where the machine has it; each
server gets those that are fastest for what it does), label and scores as JSON. Nothing is cached.

A round starts each server in turn, in another order every time; one is up at a time. It must answer 200 texts as the
model does, 16 at once; then wrk, a load generator in C, sends random texts, 1, 8 and 64 requests at once, after two
seconds of warming up at each. wrk shares the cores with the server, for all alike. A run in which a request is not
answered fails. Figures are medians over rounds with their range, ratios are taken within a round.

The same rounds measure tokenise + engine without a server, and the service with an engine that sleeps for as long as
the real one takes (serving_bench/stand_in.py): what CPU time its processes use then, less that of tokenising, is
neither tokeniser nor engine. Subtracting the engine's own time from the whole instead would leave the noise of a
figure ten times as large. What this counts is on the safe side: padding, scores, events, polling and supervision too.

Writes reports/bench-serving.json. Exits 1 where a goal is missed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.serving_bench.alone import Alone, Task, measure_alone
from benchmarks.serving_bench.check import CHECKED, expect_answers, tolerance
from benchmarks.serving_bench.choose import Choice, choose
from benchmarks.serving_bench.corpus import Corpus, make_corpus
from benchmarks.serving_bench.environments import installed, open_environment
from benchmarks.serving_bench.goals import LNMT, MANY, ONE, SOME, judge
from benchmarks.serving_bench.hosting import Hosted, hosted_lnmt, hosted_peer
from benchmarks.serving_bench.load import find_wrk, wrk_version
from benchmarks.serving_bench.peers import PREDICT, Face, Peer, peers
from benchmarks.serving_bench.projects import make_project, make_stand_in_project
from benchmarks.serving_bench.results import Results
from benchmarks.serving_bench.rounds import STEP, WARM_UP_S, Contender, Run, measure, plan
from benchmarks.serving_bench.show import show
from lnmt.bundles import Bundle
from lnmt.errors import LnmtError
from lnmt.files import write_json
from lnmt.progress import Progress
from lnmt.runtime.capabilities import Capabilities, capabilities
from lnmt.settings import Settings

SEED = 7
ALONE, STAND_IN = "tokenise + engine", "LNMT with an engine that sleeps"


@dataclass
class Measured:
    """What the rounds gave."""

    runs: list[Run] = field(default_factory=list)
    stand_in: list[Run] = field(default_factory=list)
    alone: list[Alone] = field(default_factory=list)
    differences: dict[str, float] = field(default_factory=dict)  # server → largest difference of a score

    def rest_ms(self) -> dict[int, list[float]]:
        """CPU time of a request that is neither tokeniser nor engine, by concurrency, in ms."""
        tokenise_ms = statistics.median(one.tokenise_ms for one in self.alone)
        found: dict[int, list[float]] = {}
        for run in self.stand_in:
            found.setdefault(run.concurrency, []).append(run.cpu_ms - tokenise_ms)
        return found


def main() -> int:
    """Measure, print, write; the exit code."""
    known = peers()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", nargs="*", default=[*known], choices=[*known], metavar="PEER", help=", ".join(known))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=6, help="of each server at each concurrency in a round")
    parser.add_argument("--concurrency", nargs="+", type=int, default=[ONE, SOME, MANY], help="requests at once")
    parser.add_argument("--out", type=Path, default=Path("reports/bench-serving.json"))
    options = parser.parse_args()
    start, settings, machine, progress = time.monotonic(), Settings(project=Path.cwd()), capabilities(), Progress()
    chosen = [known[name] for name in options.peers]
    wrk = find_wrk()
    pythons, absent = open_environments(chosen, settings.cache / "benchmarks" / "serving", progress)
    with tempfile.TemporaryDirectory(prefix="lnmt-bench-") as directory:
        bench = prepare(Path(directory), chosen, pythons, settings, machine, progress)
        found = run_rounds(bench, wrk, options, progress)
    results, rest_ms = Results(found.runs), found.rest_ms()
    goals = judge(results, [peer.name for peer in chosen], [one.p50_ms for one in found.alone], rest_ms)
    seconds = time.monotonic() - start
    report = {
        "machine": {"hardware": machine.hardware, "cpu": machine.cpu, "libraries": dict(machine.libraries)},
        "settings": {"rounds": options.rounds, "seconds": options.seconds, "warm_up_s": WARM_UP_S, "seed": SEED},
        "wrk": wrk_version(wrk),
        "seconds": round(seconds, 1),
        "environments": {name: installed(python) for name, python in pythons.items()},
        "absent": absent,
        "engines": bench.choice.as_json(),
        "runs": [run.as_json() for run in found.runs],
        "figures": figures(results),
        "largest_difference_of_a_score": found.differences,
        "alone": [asdict(one) for one in found.alone],
        "stand_in": {"runs": [run.as_json() for run in found.stand_in], "rest_ms": rest_ms},
        "goals": [goal.as_json() for goal in goals],
    }
    write_json(options.out, report)
    titles = {LNMT: "LNMT", **{peer.name: peer.title for peer in chosen}}
    show(results, titles, bench.engines, absent, goals, footer(found, results, machine, seconds))
    return int(not all(goal.met for goal in goals))


def open_environments(chosen: Sequence[Peer], root: Path, progress: Progress) -> tuple[dict[str, Path], dict[str, str]]:
    """The Python of each peer; and the peers that are absent, with why: only abandoned ones may be."""
    pythons, absent = {}, {}
    with progress.bar("environments", len(chosen), "peers") as bar:
        for peer in chosen:
            try:
                pythons[peer.name] = open_environment(peer, root)
            except LnmtError as error:
                if not peer.abandoned:
                    raise
                absent[peer.name] = f"{error.what}: {error.value}"
            bar.advance()
    return pythons, absent


@dataclass(frozen=True)
class Bench:
    """Everything that a round needs."""

    corpus: Corpus
    choice: Choice
    contenders: dict[str, Contender]  # by name; the stand-in among them
    alone: Task
    engines: dict[str, str]  # of each server, for the table


def prepare(
    scratch: Path,
    chosen: Sequence[Peer],
    pythons: dict[str, Path],
    settings: Settings,
    machine: Capabilities,
    progress: Progress,
) -> Bench:
    """Sentences, bundles, projects, expected answers."""
    threads, params = machine.cores, settings.project / "params.yaml"
    corpus = make_corpus(scratch / "corpus", machine, threads, SEED, progress)
    texts = scratch / "texts.json"
    write_json(texts, list(corpus.texts))
    choice = choose(corpus, texts, threads, progress)
    ours = corpus.tuned[choice.ours]
    checked = corpus.texts[:CHECKED]
    expected = {
        bundle.digest: expect_answers(bundle, checked, threads)
        for bundle in (corpus.reference, ours, *corpus.plain.values())
    }

    def contender(
        name: str, host: Callable[[], AbstractContextManager[Hosted]], face: Face, bundle: Bundle
    ) -> Contender:
        bodies = corpus.bodies(face, scratch / f"{name}.bodies")
        return Contender(name, host, bodies, expected[bundle.digest], tolerance(bundle))

    project = make_project(scratch / "project", params, ours)
    found = {LNMT: contender(LNMT, partial(hosted_lnmt, project, settings.cache), PREDICT, ours)}
    engines = {LNMT: _short(choice.ours)}
    for peer in chosen:
        if peer.name not in pythons:
            continue
        files = choice.batched if peer.batches else choice.single
        bundle = corpus.reference if peer.eager else corpus.plain[files]
        host = partial(fresh, peer, pythons[peer.name], bundle, threads, scratch / "work")
        found[peer.name] = contender(peer.name, host, peer.face, bundle)
        engines[peer.name] = "torch fp32" if peer.eager else _short(files)
    width = int(corpus.reference.manifest.model["config"]["hidden_size"])
    project = make_stand_in_project(scratch / "stand-in", params, ours, choice.cost, width)
    asleep = partial(hosted_lnmt, project, settings.cache)
    found[STAND_IN] = Contender(STAND_IN, asleep, found[LNMT].bodies, None, 0.0)
    return Bench(corpus, choice, found, Task("lnmt", str(ours.path), str(texts), 1, 0, 0.0, threads), engines)


def _short(name: str) -> str:
    """For the table: `openvino-bf16+static_int8` as `openvino bf16 int8`."""
    return name.replace("-fp32", "").replace("+static_int8", " int8").replace("-", " ")


def fresh(peer: Peer, python: Path, bundle: Bundle, threads: int, work: Path) -> AbstractContextManager[Hosted]:
    """The peer with a new directory below `work`."""
    work.mkdir(exist_ok=True)
    return hosted_peer(peer, python, bundle, threads, Path(tempfile.mkdtemp(dir=work)) / "run")


def run_rounds(bench: Bench, wrk: Path, options: argparse.Namespace, progress: Progress) -> Measured:
    """Every contender in every round."""
    found = Measured()
    rounds = plan([*bench.contenders, ALONE], options.rounds, SEED)
    with progress.bar("rounds", sum(map(len, rounds)), "servers") as bar:
        for number, names in enumerate(rounds):
            for name in names:
                if name == ALONE:
                    task = {**asdict(bench.alone), "start": number * STEP, "seconds": options.seconds}
                    found.alone.append(measure_alone(Task(**task)))
                else:
                    one = bench.contenders[name]
                    levels, texts = sorted(options.concurrency), bench.corpus.texts
                    runs, difference = measure(one, texts, wrk, number, levels, options.seconds)
                    (found.stand_in if name == STAND_IN else found.runs).extend(runs)
                    if difference is not None:
                        found.differences[name] = max(difference, found.differences.get(name, 0.0))
                bar.advance()
    return found


def figures(results: Results) -> dict[str, Any]:
    """Server → concurrency → value → median and range."""
    return {
        server: {
            str(level): {
                value: asdict(results.figure(server, level, value))
                for value in ("requests_per_s", "p50_ms", "p90_ms", "p99_ms", "max_ms", "cpu_ms")
            }
            for level in results.concurrency
        }
        for server in results.servers
    }


def footer(found: Measured, results: Results, machine: Capabilities, seconds: float) -> str:
    """What stands below the tables."""
    alone = statistics.median(one.p50_ms for one in found.alone)
    lines = [f"tokenise + engine alone, a text a call: p50 {alone:.2f} ms"]
    for level, values in found.rest_ms().items():
        rest, whole = statistics.median(values), results.figure(LNMT, level, "cpu_ms").median
        lines.append(
            f"{level} at once: of {whole:.2f} ms CPU a request {rest:.2f} ms are neither tokeniser nor engine "
            f"({rest / whole:.0%})"
        )
    lines.append(f"{machine.cpu}, {machine.hardware}; wrk takes its part of the cores; {seconds / 60:.1f} min")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
