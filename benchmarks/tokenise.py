"""A million sentences tokenised and sharded, LNMT beside `datasets.map`, in turns: `python -m benchmarks.tokenise`.

The sentences are those of data/processed (where there is none, the stages up to `process` make it in a temporary
project from ./params.yaml), cut in two and joined anew until there are enough. Joining alone would bring no new
words, as new sentences do: so many words are changed that the number of distinct ones grows as it does over the
sentences themselves (Heaps' law, its exponent measured on them).

Both have the same tokenizer.json, read id, text and label from disk, write ids, labels, token ids and their number
to disk, and give the same token ids, which is checked. `datasets.map` gets its best: its table is loaded and in
Arrow before the clock starts, `batched`, int32 features, and what a trial on the first rows finds fastest of:
the tokenizer of transformers (no masks, no types) or the Rust one itself, batches of 1,000 or 10,000 rows, one
process a core or the tokenizer's own threads. LNMT reads Parquet, and makes and checks its checksums.
Prints a table and writes reports/bench-tokenise.json; exits 1 where the goal is missed.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import math
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from lnmt.data.batches import load_examples
from lnmt.data.tables import ROWS_PER_FILE, ShardWriter, read_batches, table_schema
from lnmt.files import write_json
from lnmt.hub import fetch, find_model
from lnmt.params import load_params
from lnmt.progress import Progress
from lnmt.settings import Settings
from lnmt.stages import run_stage
from lnmt.text.tokenizer import Tokenizer
from lnmt.types import TEXT

GOAL = 1.5  # times the rows/s of datasets.map
TRIAL_ROWS = 60_000
WORKERS = len(os.sched_getaffinity(0))
WAYS = [
    {"tokenizer": tokenizer, "batch_size": size, "processes": processes}
    for tokenizer, size, processes in itertools.product(("transformers", "rust"), (1_000, 10_000), (WORKERS, 1))
]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("reports/bench-tokenise.json"))
    parser.add_argument("--run", help=argparse.SUPPRESS)  # one measurement, in a process of its own
    options = parser.parse_args()
    if options.run:
        print(json.dumps(run(json.loads(options.run))))
        return 0
    with tempfile.TemporaryDirectory(prefix="lnmt-bench-") as directory:
        report = measure(Path(directory), options.rows, options.rounds)
    write_json(options.out, report)
    show(report)
    return 0 if report["ratio"]["median"] >= GOAL else 1


def measure(work: Path, rows: int, rounds: int) -> dict[str, Any]:
    """The report: the sentences, the way chosen for datasets, seconds and memory of each by round, their ratios."""
    project, tokenizer, max_tokens = prepare(work)
    found = [text for batch in read_batches(project / "train") for text in batch.column(TEXT).to_pylist()]
    shown = make_sentences(found, work / "train", rows)
    make_sentences(found, work / "trial", TRIAL_ROWS)
    common = {"tokenizer_json": str(tokenizer), "max_tokens": max_tokens}
    trials = [{**way, **spawn(work, "trial", "datasets", {**common, **way})} for way in WAYS]
    best = min(range(len(WAYS)), key=lambda place: float(trials[place]["seconds"]))
    measured: list[dict[str, Any]] = []
    for number in range(rounds):
        names = ("datasets", "lnmt") if number % 2 else ("lnmt", "datasets")
        measured.append({name: spawn(work, "train", name, {**common, **WAYS[best]}) for name in names})
    same = {one["digest"] for both in measured for one in both.values()}
    assert len(same) == 1, "the two gave different token ids"
    ratios = [both["datasets"]["seconds"] / both["lnmt"]["seconds"] for both in measured]
    return {
        "rows": rows,
        "workers": WORKERS,
        "sentences": shown,
        "trials": trials,
        "datasets": WAYS[best],
        "rounds": measured,
        "token_ids": same.pop(),
        "ratio": {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios), "goal": GOAL},
    }


def prepare(work: Path) -> tuple[Path, Path, int]:
    """This directory's data/processed, the tokenizer.json of its encoder, and the tokens of a row."""
    settings = Settings(project=Path.cwd())
    params = load_params(settings.project / "params.yaml")
    processed = settings.project / "data/processed"
    if not (processed / "manifest.json").is_file():
        processed = process(settings, work / "project")
    encoder = find_model(
        fetch(
            params.train.encoder,
            digest=params.train.digest,
            cache=settings.cache,
            progress=Progress(show=False),
            offline=settings.offline,
            root=settings.project,
        )
    )
    return processed, encoder / "tokenizer.json", params.train.max_tokens


def process(settings: Settings, project: Path) -> Path:
    """data/processed of a copy of the project that holds its params.yaml and incoming files alone."""
    project.mkdir(parents=True)
    shutil.copyfile(settings.project / "params.yaml", project / "params.yaml")
    if (settings.project / "data/incoming").is_dir():
        shutil.copytree(settings.project / "data/incoming", project / "data/incoming")
    for name in ("ingest", "validate", "process"):
        run_stage(name, Settings(project=project, state=project / ".lnmt", cache=settings.cache))
    return project / "data/processed"


def make_sentences(found: Sequence[str], target: Path, rows: int) -> dict[str, Any]:
    """Write a table of `rows` sentences; what they are like."""
    random = np.random.default_rng(0)
    found = [found[place] for place in random.permutation(len(found))]  # of all domains in both halves
    halves = [split_words(text) for text in found]
    words = [word for text in found for word in text.split(" ")]
    vocabulary = sorted(set(words))
    exponent = math.log2(len(vocabulary) / len(set(words[: len(words) // 2])))
    wanted = len(vocabulary) * (rows / len(found)) ** exponent
    share = max(wanted - len(vocabulary), 0) / rows  # of the sentences that get a new word
    schema = table_schema(())
    count, distinct = 0, set(vocabulary)
    with ShardWriter(target, schema, ROWS_PER_FILE) as writer:
        for start in range(0, rows, ROWS_PER_FILE):
            number = min(ROWS_PER_FILE, rows - start)
            first, second, one, two = random.integers(0, len(found), (4, number)).tolist()
            changed = (random.random(number) < share).tolist()
            texts = []
            for place in range(number):
                text = [*halves[first[place]][0], *halves[second[place]][1]]
                if changed[place]:
                    head, tail = vocabulary[one[place] % len(vocabulary)], vocabulary[two[place] % len(vocabulary)]
                    text[place % len(text)] = head[: len(head) // 2 + 1] + tail[len(tail) // 2 :]
                    distinct.add(text[place % len(text)])
                count += len(text)
                texts.append(" ".join(text))
            ids = [f"r{place}" for place in range(start, start + number)]
            labels = pa.array(np.array(["a", "b"])[np.arange(number) % 2], pa.string())
            writer.write(pa.record_batch([pa.array(ids), pa.array(texts), labels], schema=schema))
    return {"words": round(count / rows, 2), "distinct_words": len(distinct), "heaps_exponent": round(exponent, 3)}


def split_words(text: str) -> tuple[list[str], list[str]]:
    """The two halves of a sentence, at least one word in the first."""
    words = text.split(" ")
    half = (len(words) + 1) // 2
    return words[:half], words[half:]


def spawn(work: Path, table: str, name: str, options: dict[str, Any]) -> dict[str, Any]:
    """One measurement in a process of its own, into a directory of its own."""
    with tempfile.TemporaryDirectory(dir=work) as out:
        task = {"name": name, "table": str(work / table), "out": out, **options}
        threads = "true" if name == "datasets" and options["processes"] == 1 else "false"
        environment = {**os.environ, "TOKENIZERS_PARALLELISM": threads, "HF_HUB_OFFLINE": "1", "HF_HOME": out}
        done = subprocess.run(
            [sys.executable, __file__, "--run", json.dumps(task)],
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
            check=True,
        )
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        print(f"{name} {Path(table).name}: {found['seconds']:.2f} s", file=sys.stderr)
        return found


def run(task: dict[str, Any]) -> dict[str, Any]:
    """One measurement: seconds, peak memory in MB of this process and of the largest worker, digest of the tokens."""
    give = with_lnmt if task["name"] == "lnmt" else with_datasets
    seconds, tokens = give(task)
    peak = {
        "main_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "worker_mb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
    }
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss counts what the parent held when it started this process
        peak["main_mb"] = (
            next(int(x.split()[1]) for x in status.read_text().splitlines() if x.startswith("VmHWM")) / 1024
        )
    digest, total = hashlib.sha256(), 0
    for part in tokens:
        digest.update(np.ascontiguousarray(part, dtype=np.int32).tobytes())
        total += part.size
    return {
        "seconds": seconds,
        "tokens": total,
        "digest": digest.hexdigest(),
        **{key: round(value, 1) for key, value in peak.items()},
    }


def with_lnmt(task: dict[str, Any]) -> tuple[float, Iterator[Any]]:
    """Seconds until the split stands on disk and is mapped; its tokens, then its lengths."""
    progress = Progress(show=False)
    start = time.perf_counter()
    tokenizer = Tokenizer(Path(task["tokenizer_json"]), task["max_tokens"])
    examples = load_examples(
        Path(task["table"]), "text-classification", ("a", "b"), tokenizer, progress,
        cache=Path(task["out"]), processes=WORKERS,
    )  # fmt: skip
    seconds = time.perf_counter() - start
    return seconds, (give() for give in (lambda: examples.tokens, lambda: examples.lengths))


def with_datasets(task: dict[str, Any]) -> tuple[float, Iterator[Any]]:
    """Seconds of `map` alone; its tokens, then its lengths."""
    import datasets

    datasets.disable_progress_bars()
    files = sorted(str(path) for path in Path(task["table"]).glob("*.parquet"))
    table = datasets.Dataset.from_parquet(files, cache_dir=task["out"])
    rust = Tokenizer(Path(task["tokenizer_json"]), task["max_tokens"]).rust
    plain = task["tokenizer"] == "rust"
    if not plain:
        from transformers import PreTrainedTokenizerFast

        wrapper = PreTrainedTokenizerFast(tokenizer_file=task["tokenizer_json"])  # type: ignore[no-untyped-call]

    def encode(batch: dict[str, list[str]]) -> dict[str, Any]:
        if plain:
            ids = [encoding.ids for encoding in rust.encode_batch_fast(batch["text"])]
        else:
            ids = wrapper(
                batch["text"],
                truncation=True,
                max_length=task["max_tokens"],
                return_attention_mask=False,
                return_token_type_ids=False,
            )["input_ids"]
        return {"input_ids": ids, "length": [len(row) for row in ids]}

    features = datasets.Features(
        {
            "id": datasets.Value("string"),
            "label": datasets.Value("string"),
            "input_ids": datasets.List(datasets.Value("int32")),
            "length": datasets.Value("int32"),
        }
    )
    start = time.perf_counter()
    done = table.map(
        encode,
        batched=True,
        batch_size=task["batch_size"],
        writer_batch_size=task["batch_size"],
        num_proc=task["processes"] if task["processes"] > 1 else None,
        remove_columns=["text"],
        features=features,
        keep_in_memory=False,
        load_from_cache_file=False,
        cache_file_name=str(Path(task["out"]) / "mapped.arrow"),
    )
    seconds = time.perf_counter() - start
    tokens = (chunk.flatten().to_numpy() for chunk in done.data.column("input_ids").chunks)
    lengths = (chunk.to_numpy() for chunk in done.data.column("length").chunks)
    return seconds, itertools.chain(tokens, lengths)


def show(report: dict[str, Any]) -> None:
    """The report as a table."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=max(Console().width, 110))
    sentences, way, ratio = report["sentences"], report["datasets"], report["ratio"]
    title = (
        f"{report['rows']:,} sentences of {sentences['words']} words, {sentences['distinct_words']:,} distinct ones; "
        f"{report['workers']} workers, {len(report['rounds'])} rounds in turns"
    )
    table = Table(title=title, title_justify="left")
    for column in ("", "seconds, median", "min … max", "rows/s", "× datasets", "peak MB: main", "a worker"):
        table.add_column(column, justify="left" if not column else "right", no_wrap=True)
    for name in ("datasets", "lnmt"):
        found = [both[name] for both in report["rounds"]]
        seconds = [one["seconds"] for one in found]
        median = statistics.median(seconds)
        table.add_row(
            "datasets.map" if name == "datasets" else "lnmt",
            f"{median:.2f}",
            f"{min(seconds):.2f} … {max(seconds):.2f}",
            f"{report['rows'] / median:,.0f}",
            "1" if name == "datasets" else f"{ratio['median']:.2f} ({ratio['min']:.2f} … {ratio['max']:.2f})",
            f"{max(one['main_mb'] for one in found):.0f}",
            f"{max(one['worker_mb'] for one in found):.0f}",
        )
    console.print(table)
    console.print(f"datasets.map as the trial chose: {way}; the same token ids: {report['token_ids'][:16]}")
    console.print(f"goal {GOAL} × datasets.map: {'reached' if ratio['median'] >= GOAL else 'missed'}")


if __name__ == "__main__":
    sys.exit(main())
