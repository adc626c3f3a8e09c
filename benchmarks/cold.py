"""Cold starts: a fresh process opens a bundle and answers its first text: `python -m benchmarks.cold`.

A process each time, once without and then with the engine's cache, in turns; medians. The demo's classifier (MiniLM:
6 layers, 384 wide) with random weights and a WordPiece tokenizer of 30,522 pieces, or the torch bundle that --bundle
names. Counted from before the process is started; where the time goes is told by phase. Files are warm in the page
cache, as on a machine that restarts a service. Prints a table and writes reports/bench-cold.json.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the processes that are timed run this file too: what is imported here would be on their bill
    from lnmt.bundles import Bundle

ENGINES = ("openvino-fp32", "openvino-bf16", "onnxruntime-fp32", "torch-fp32", "torchscript-fp32")
PHASES = ("interpreter", "imports", "open", "load", "warm_up", "first answer")
TEXT = "What a good film, and not dull at all!"
SEED, VOCABULARY, MAX_TOKENS = 7, 30_522, 64


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--engines", nargs="+", default=list(ENGINES), help="engine-precision; torch_compile-bf16 too")
    parser.add_argument("--bundle", type=Path, help="a torch bundle; default the demo's shape with random weights")
    parser.add_argument("--out", type=Path, default=Path("reports/bench-cold.json"))
    parser.add_argument("--child", nargs=2, metavar=("BUNDLE", "CACHE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        answer_once(Path(options.child[0]), Path(options.child[1]) if options.child[1] else None)
        return
    from lnmt.files import write_json

    with tempfile.TemporaryDirectory() as work:
        report = measure(Path(work), options)
    write_json(options.out, report)
    show(report)


def answer_once(path: Path, cache: Path | None) -> None:
    """In the fresh process: one answer, and the seconds of each phase."""
    times = [time.time()]
    from lnmt.bundles import Bundle
    from lnmt.runtime import ENGINES as TABLE
    from lnmt.runtime.predictor import Predictor

    times.append(time.time())
    bundle = Bundle.open(path)
    times.append(time.time())
    engine = TABLE.get(bundle.manifest.engine)()
    engine.load(bundle, threads=None, cache=cache)
    times.append(time.time())
    engine.warm_up()
    times.append(time.time())
    [found] = Predictor(bundle, engine).predict([TEXT])
    times.append(time.time())
    print(json.dumps({"times": times, "answer": str(found)}), flush=True)


def measure(work: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The report: seconds by engine, with and without the cache, and by phase."""
    from lnmt.bundles import Bundle
    from lnmt.runtime.capabilities import capabilities

    machine = capabilities()
    reference = Bundle.open(options.bundle) if options.bundle else demo_bundle(work / "reference")
    bundles: dict[str, Path] = {}
    absent = {}
    for name in options.engines:
        engine, _, precision = name.rpartition("-")
        reason = machine.why_not(engine, precision)
        if reason is None:
            bundles[name] = build(reference, name, work)
        else:
            absent[name] = reason
    runs: dict[str, dict[str, list[list[float]]]] = {name: {"without": [], "with": []} for name in bundles}
    for name, path in bundles.items():
        start(path, work / "cache")  # fills the cache, and the page cache
        for _ in range(options.runs):
            runs[name]["without"].append(start(path, None))
            runs[name]["with"].append(start(path, work / "cache"))
    return {
        "machine": {"hardware": machine.hardware, "cpu": machine.cpu, "libraries": dict(machine.libraries)},
        "runs": options.runs,
        "engines": {
            name: {
                which: {
                    "median_s": round(statistics.median(map(sum, found)), 3),
                    "worst_s": round(max(map(sum, found)), 3),
                    "phases_s": {
                        phase: round(statistics.median(column), 3)
                        for phase, column in zip(PHASES, zip(*found, strict=True), strict=True)
                    },
                }
                for which, found in by_cache.items()
            }
            for name, by_cache in runs.items()
        },
        "absent": absent,
    }


def start(path: Path, cache: Path | None) -> list[float]:
    """Seconds of each phase of one fresh process; they add up to the whole."""
    command = [sys.executable, str(Path(__file__).resolve()), "--child", str(path), str(cache or "")]
    begun = time.time()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{path}: {done.stderr.strip()}")
    times = [begun, *json.loads(done.stdout.splitlines()[-1])["times"]]
    return [after - before for before, after in pairwise(times)]


def build(reference: Bundle, name: str, work: Path) -> Path:
    """The reference for one engine and precision."""
    from lnmt.bundles import Draft, new_bundle
    from lnmt.optimization.backends import BACKENDS, Source
    from lnmt.optimization.candidate import Candidate

    engine, _, precision = name.rpartition("-")
    candidate = Candidate(engine, precision)  # type: ignore[arg-type]
    draft = {field: getattr(reference.manifest, field) for field in Draft.model_fields}
    with new_bundle(work / name, Draft(**{**draft, "engine": engine, "precision": precision})) as directory:
        shutil.copyfile(reference.file("tokenizer.json"), directory / "tokenizer.json")
        BACKENDS.get(engine)().build(candidate, Source(reference, work), directory)
    return work / name


def demo_bundle(target: Path) -> Bundle:
    """The demo's architecture with seeded random weights."""
    import torch
    from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
    from tokenizers.models import WordPiece

    from benchmarks.engine_bench.models import LABELS, write_bundle
    from lnmt.models.classifier import EncoderClassifier

    letters = "abcdefghijklmnopqrstuvwxyz"
    known = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{letter}" for letter in letters), *"0123456789.,!?'-"]
    pieces = [*known, *(f"word{number}" for number in range(VOCABULARY - len(known)))]
    tokenizer = Tokenizer(WordPiece({piece: place for place, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    config = {
        "vocab_size": VOCABULARY,
        "hidden_size": 384,
        "num_hidden_layers": 6,
        "num_attention_heads": 12,
        "intermediate_size": 1536,
        "max_position_embeddings": 512,
        "model_type": "bert",
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = EncoderClassifier({"task": "text-classification", "labels": 3, "config": config, "dropout": 0.0})
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.04)
            else:
                torch.nn.init.constant_(parameter, 1.0 if name.endswith("LayerNorm.weight") else 0.0)
    tokenizer.save(str(target.with_suffix(".json")))
    return write_bundle(model, "encoder_classifier", LABELS, MAX_TOKENS, target.with_suffix(".json"), target)


def show(report: dict[str, Any]) -> None:
    """The table."""
    print(f"{report['machine']['hardware']}; seconds, medians of {report['runs']} fresh processes")
    print(f"{'engine':<18}{'cache':<9}{'total':>7}{'worst':>7}  {'  '.join(PHASES)}")
    for name, by_cache in report["engines"].items():
        for which, found in by_cache.items():
            phases = "  ".join(
                f"{seconds:>{len(phase)}.2f}" for phase, seconds in zip(PHASES, found["phases_s"].values(), strict=True)
            )
            print(f"{name:<18}{which:<9}{found['median_s']:>7.2f}{found['worst_s']:>7.2f}  {phases}")
    for name, reason in report["absent"].items():
        print(f"{name:<18}{reason}")


if __name__ == "__main__":
    main()
