"""`python -m birdlab.infer`, and the single file of a bundle: predict, or measure the machine."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from birdlab.errors import BirdlabError, PredictError
from birdlab.infer.checksums import SUMS_FILE, verify_checksums
from birdlab.infer.jsontext import parse_json

BUNDLE_FILE = "bundle.json"
MODEL_FILE = "model.onnx"


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0, or 1 with the error in words on standard error; 2 for wrong usage, 130
    for Ctrl-C.

    Beside a SHA256SUMS, as in a bundle, every file is compared with it first.
    """
    options = _build_parser().parse_args(arguments)
    try:
        folder = _bundle_folder()
        if folder is not None:
            n_files = verify_checksums(folder)
            print(f"{n_files} files of {folder} are as they were bundled", file=sys.stderr)
        options.run(options, folder)
    except BirdlabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped: a prediction goes on with the same command", file=sys.stderr)
        return 130
    return 0


def _bundle_folder() -> Path | None:
    """The folder of the single file this runs from, when it has checksums; else None."""
    file = Path(__file__).parents[2]
    return file.parent if file.is_file() and (file.parent / SUMS_FILE).is_file() else None


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="predictor", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_predict(commands.add_parser("predict", help="write a submission from soundscapes"))
    _add_benchmark(commands.add_parser("benchmark", help="measure this machine with the model"))
    return parser


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, help="a model.onnx; default: that of the bundle")
    parser.add_argument("--variant", help="fp32, int8, ...; default: that of the bundle")


def _add_predict(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    parser.set_defaults(run=_predict)
    add("soundscapes", type=Path, help="a folder of soundscapes")
    add("--output", "-o", type=Path, default=Path("submission.csv"), help="the CSV to write")
    _add_model(parser)
    add("--sample", type=Path, help="a sample submission: its columns and rows give the order")
    add(
        "--rows",
        choices=("sample", "files"),
        default="sample",
        help="whose rows are written; the columns are the sample's",
    )
    add("--deadline", help="stop in time: 110m, 1h50m or 6600s")
    add("--post", type=Path, help="a JSON list of post-processing steps; default: the model's own")
    add("--no-post", action="store_true", help="no post-processing")
    add("--sessions", type=int, help="sessions at once; default: tried out")
    add("--threads", type=int, help="threads of a session; default: tried out")
    add(
        "--missing",
        choices=("fail", "prior", "zeros"),
        default="fail",
        help="rows of the sample that have no file",
    )
    add(
        "--on-bad-file",
        choices=("prior", "zeros", "fail"),
        default="prior",
        help="a file that cannot be decoded",
    )
    add(
        "--hop",
        type=float,
        metavar="SECONDS",
        help="windows so far apart, averaged; default: the model's",
    )
    add("--batch", type=int, default=8, help="windows a call of the network")
    add("--keep", action="store_true", help="keep the work folder")
    add("--no-windows", action="store_true", help="write no table of all windows")


def _add_benchmark(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_benchmark)
    _add_model(parser)
    parser.add_argument("--output", "-o", type=Path, default=Path("machine.json"))
    parser.add_argument("--cores", type=int, help="cores that work; default: all")
    parser.add_argument("--seconds", type=float, default=30.0, help="about how long to measure")


def _predict(options: argparse.Namespace, bundle: Path | None) -> None:
    from birdlab.infer.deadline import read_seconds
    from birdlab.infer.predict import PredictRequest, predict_to_file

    model, variant = _find_model(options, bundle)
    request = PredictRequest(
        model=model,
        soundscapes=options.soundscapes,
        output=options.output,
        sample=options.sample,
        variant=variant,
        force=bundle is not None,  # whoever made the bundle decided on the variant
        deadline_s=None if options.deadline is None else read_seconds(options.deadline),
        post=() if options.no_post else None if options.post is None else _steps(options.post),
        sessions=options.sessions,
        threads=options.threads,
        missing=options.missing,
        on_bad_file=options.on_bad_file,
        rows=options.rows,
        keep=options.keep,
        windows=not options.no_windows,
        hop_s=options.hop,
        batch=options.batch,
    )
    print(predict_to_file(request, stream=sys.stderr))


def _benchmark(options: argparse.Namespace, bundle: Path | None) -> None:
    from birdlab.infer.benchmark import measure_machine
    from birdlab.infer.passes import ModelChoice
    from birdlab.infer.submission import replace_whole

    model, variant = _find_model(options, bundle)
    machine = measure_machine(
        ModelChoice(model, variant, force=True),  # its times count, not its scores
        cores=options.cores,
        seconds=options.seconds,
        progress=lambda text: print(f"{text} ...", file=sys.stderr, flush=True),
    )
    with replace_whole(options.output) as temporary:
        temporary.write_text(json.dumps(machine, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {options.output}; where the lab is: birdlab budget --machine {options.output}")


def _find_model(options: argparse.Namespace, bundle: Path | None) -> tuple[Path, str | None]:
    """The model file and variant: what was asked for, else those of the bundle."""
    if options.model is not None:
        return options.model, options.variant
    if bundle is None:
        raise PredictError("say which model: --model model.onnx")
    said = _read_json(bundle / BUNDLE_FILE)
    if not isinstance(said, dict) or not isinstance(said.get("variant"), str):
        raise PredictError(
            "the bundle does not say its variant",
            where=str(bundle / BUNDLE_FILE),
            expected="the bundle.json that `birdlab bundle` wrote, unchanged",
        )
    return bundle / MODEL_FILE, options.variant or said["variant"]


def _steps(path: Path) -> tuple[Mapping[str, Any], ...]:
    steps = _read_json(path)
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise PredictError(
            "these are no post-processing steps",
            where=str(path),
            expected='a JSON list like [{"kind": "smooth", ...}]',
        )
    return tuple(steps)


def _read_json(path: Path) -> Any:
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PredictError(
            "a file cannot be read", where=str(path), got=error, expected="a JSON file"
        ) from None


if __name__ == "__main__":
    sys.exit(main())
