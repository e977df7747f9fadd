"""A picture's words on the command line: `python -m v2l.tokenize picture.png --weights FOLDER`.

The folder is one that `V2LTokenizer.save_pretrained` wrote; `--from-experiment` makes it of the pipeline's own results.
"""

import argparse
import json
import logging
import sys
from pathlib import Path
from typing import Any

from PIL import Image

from v2l.data.images import open_image
from v2l.errors import UserError, printable
from v2l.io.atomic import atomic_path


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m v2l.tokenize", description="Prints the words of pictures.")
    made.add_argument("pictures", nargs="+", type=Path, metavar="PICTURE")
    made.add_argument("--weights", required=True, type=Path, metavar="FOLDER", help="what save_pretrained wrote")
    made.add_argument("--output", type=Path, metavar="PNG", help="write the reconstruction of one picture")
    made.add_argument("--json", action="store_true", help="print words and ids as JSON, a line for each picture")
    made.add_argument("--fit", choices=("crop", "pad"), help="how pictures are made square; default: as in training")
    made.add_argument(
        "--from-experiment",
        nargs=2,
        metavar=("EXPERIMENT", "TOKENIZER"),
        help="first write FOLDER, which must not exist, from this experiment of the working directory",
    )
    return made


def run(arguments: argparse.Namespace) -> None:
    """Print words, and write the reconstruction if asked for. Bad pictures are refused before the model loads."""
    if arguments.output and len(arguments.pictures) > 1:
        raise UserError(f"--output is one file, for {len(arguments.pictures)} pictures", "one picture", "name one")
    if arguments.output and arguments.output.suffix.lower() != ".png":
        raise UserError(f"--output is {arguments.output}", "the name of a .png file", "change its ending")
    pictures = [opened(path) for path in arguments.pictures]
    tokenizer = _tokenizer(arguments)
    codes = tokenizer.encode(pictures, fit=arguments.fit)
    worded = codes.tokenizer["worded_ids"] is not None
    for place, path in enumerate(arguments.pictures):
        words = codes.words[place] if worded else []
        if arguments.json:
            shared = None if codes.global_ids is None else codes.global_ids[place].tolist()
            local = codes.local_ids[place].tolist()
            print(json.dumps({"picture": str(path), "words": words, "global_ids": shared, "local_ids": local}))
        else:
            text = ", ".join(word.strip() for word in words) if worded else "(its codes stand for no words)"
            print(f"{printable(str(path))}: {printable(text)}")
    if arguments.output:
        with atomic_path(arguments.output) as temporary:
            Image.fromarray(tokenizer.decode(codes)[0]).save(temporary, format="png")


def opened(path: Path) -> Image.Image:
    """The RGB picture at `path`. Raises UserError if there is none."""
    if not path.exists():
        raise UserError(f"{printable(str(path))} does not exist", "a picture", "correct the path")
    try:
        return open_image(path)
    except OSError as error:
        problem = f"{printable(str(path))} cannot be read as a picture ({error})"
        raise UserError(
            problem,
            "PNG, JPEG, WebP or another of the formats that are read (docs/bring-your-own.md)",
            "name such a file",
        ) from None


def _tokenizer(arguments: argparse.Namespace) -> Any:
    from v2l import V2LTokenizer  # seconds to import, which messages about pictures can spare

    if not arguments.from_experiment:
        if not arguments.weights.exists():
            raise UserError(
                f"--weights: {printable(str(arguments.weights))} does not exist",
                "a folder that V2LTokenizer.save_pretrained wrote",
                "correct the path, or add `--from-experiment demo v2l`, which makes it",
            )
        return V2LTokenizer.from_pretrained(arguments.weights)
    if arguments.weights.exists():
        raise UserError(f"{arguments.weights} exists", "a new folder", "leave --from-experiment out, or name another")
    experiment, name = arguments.from_experiment
    tokenizer = V2LTokenizer.from_experiment(name, experiment)
    tokenizer.save_pretrained(arguments.weights)
    return tokenizer


def main() -> None:
    """Parse the command line and run; a UserError becomes one line and exit status 1."""
    logging.basicConfig(level=logging.WARNING, format="tokenize: %(message)s")
    try:
        run(parser().parse_args())
    except UserError as error:
        logging.error("error: %s", error)
        sys.exit(1)


if __name__ == "__main__":
    main()
