"""The speed of every heavy stage: `python -m benchmarks --device cuda` (or cpu).

Random models of the paper's sizes (on CPUs a smaller language model) are made on the spot. Each stage's own path runs
by turns with the published procedure under PyTorch's default switches; the limit is its arithmetic at the rate of the
device's own matrix products. docs/speed.md says how to read the table and the JSON.
"""

import argparse
import gc
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

STAGES = {
    "expand_vocabulary": "language_models",
    "embed_vocabulary": "texts",
    "embed_images": "images",
    "filter_vocabulary": "texts",
    "train_tokenizer": "training",
    "extract_tokens": "images",
    "finetune_llm": "training",
    "evaluate_llm": "language_models",
    "reconstruct_images": "images",
    "score_predictions": "images",
}


def arguments_of(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=["cuda", "cpu"], required=True)
    parser.add_argument("--stages", nargs="+", choices=list(STAGES), default=list(STAGES))
    parser.add_argument("--seconds", type=float, help="least seconds of timed rounds a case (5)")
    parser.add_argument("--output", type=Path, help="file for the results as JSON")
    parser.add_argument("--quick", action="store_true", help="tiny models: whether it works, not how fast")
    parser.add_argument("--growth", action="store_true", help="time and memory an item at 1,000 and 20,000 instead")
    return parser.parse_args(given)


def main() -> None:
    arguments = arguments_of()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if arguments.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the stages take a GPU where they find one
    import torch

    if arguments.device == "cuda" and not torch.cuda.is_available():
        sys.exit("python -m benchmarks: torch finds no GPU here; use --device cpu")
    logging.disable(logging.INFO)
    report = growth(arguments) if arguments.growth else benchmark(arguments)
    if arguments.output:
        arguments.output.write_text(json.dumps(report, indent=1) + "\n")
    print(growth_table(report) if arguments.growth else table(report))


def benchmark(arguments: argparse.Namespace) -> dict[str, Any]:
    """The report: device, versions, rates, and each stage's figures by precision."""
    import torch

    from benchmarks.measuring import device_rates, measured
    from benchmarks.sizes import sizes_of

    where, sizes = torch.device(arguments.device), sizes_of(arguments.device, arguments.quick)
    seconds = arguments.seconds if arguments.seconds is not None else 0 if arguments.quick else 5
    started = time.monotonic()
    rates = device_rates(where, arguments.quick)
    report = described(where) | {"products": rates.products, "copy_bytes_per_second": rates.copy, "stages": {}}
    for stage in arguments.stages:
        with tempfile.TemporaryDirectory() as folder:
            try:
                for case in cases_of(stage)(sizes, where, Path(folder)):
                    found = measured(case, where, rates, seconds)
                    report["stages"].setdefault(case.stage, {})[case.precision] = found
                    print(
                        f"{case.stage}, {case.precision}: {found['items_per_second']:.4g} {case.unit}/s",
                        file=sys.stderr,
                    )
                    del case
            except torch.OutOfMemoryError as error:
                report.setdefault("errors", {})[stage] = str(error).splitlines()[0]
                print(f"{stage}: {error}", file=sys.stderr)
        gc.collect()
        if where.type == "cuda":
            torch.cuda.empty_cache()
    return report | {"seconds": round(time.monotonic() - started, 1)}


def cases_of(stage: str) -> Callable:
    """The function of `stage` that makes its cases."""
    from importlib import import_module

    return getattr(import_module(f"benchmarks.{STAGES[stage]}"), stage)


def described(where: Any) -> dict[str, Any]:
    """Device, versions and commit."""
    import platform

    import torch

    from v2l.io.provenance import commit

    name = torch.cuda.get_device_name() if where.type == "cuda" else platform.processor() or platform.machine()
    return {
        "device": name,
        "device_type": where.type,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "commit": commit(),
    }


def growth(arguments: argparse.Namespace) -> dict[str, Any]:
    """Seconds and bytes of filter_vocabulary's search, for 1,000 and for 20,000 images."""
    import statistics

    import torch

    from benchmarks.measuring import peak_during, processor_seconds
    from benchmarks.sizes import sizes_of
    from benchmarks.texts import filter_case

    where, sizes = torch.device(arguments.device), sizes_of(arguments.device, arguments.quick)
    few, many = 1000, 20_000
    cases = {images: filter_case(sizes, where, images, 1) for images in (few, many)}
    found: dict[int, dict[str, Any]] = {
        images: {"seconds": [], "peak_bytes": peak_during(case.own, where)} for images, case in cases.items()
    }
    for number in range(2 * many // few):
        for images, case in cases.items():
            if number % (images // few) == 0:
                found[images]["seconds"].append(processor_seconds(case.own, where) / images)
    for values in found.values():
        values["seconds_per_item"] = statistics.median(values["seconds"])
    return described(where) | {"growth": {"filter_vocabulary": found}}


def growth_table(report: dict[str, Any]) -> str:
    lines = ["| stage | items | µs an item | peak memory, MB |", "|---|---|---|---|"]
    for stage, found in report["growth"].items():
        for items, values in found.items():
            lines.append(
                f"| {stage} | {items:,} | {values['seconds_per_item'] * 1e6:.1f} | {values['peak_bytes'] / 1e6:.0f} |"
            )
    return "\n".join(lines)


def table(report: dict[str, Any]) -> str:
    """The report as a Markdown table."""
    products = ", ".join(f"{name} {rate / 1e12:.3g}" for name, rate in report["products"].items())
    lines = [
        f"{report['device']}, torch {report['torch']}, {report['seconds']:.0f} s; products in TFLOP/s: {products}",
        "",
        "| stage | precision | items/s | published | ratio | of the limit | TFLOP/s | peak memory, GB | agreement |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for stage, precisions in report["stages"].items():
        for precision, found in precisions.items():
            agreement = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in found["agreement"].items())
            cells = [
                stage,
                precision,
                f"{found['items_per_second']:.4g} {found['unit']}",
                f"{found['published_items_per_second']:.4g}",
                f"{found['ratio']:.2f}",
                f"{found['share_of_limit']:.1%}",
                f"{found['flops'] / 1e12:.3g}",
                f"{found['peak_bytes'] / 1e9:.2f}",
                agreement,
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
