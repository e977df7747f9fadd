"""The tables of docs/bring-your-own.md that tell which language models are supported and which are refused.

`python -m tests.families.documented` prints them.
"""

from tests.families.architectures import QUANTISED, REFUSED, SUPPORTED, UNPADDED


def supported() -> list[str]:
    lines = ["| Family | Class in transformers | Tokenizer in the test | Batches |", "| --- | --- | --- | --- |"]
    for name, family in SUPPORTED.items():
        batches = "of one length" if name in UNPADDED else "of any lengths"
        lines.append(f"| {name} | `{family.network}` | {family.tokenizer} | {batches} |")
    return lines


def refused() -> list[str]:
    lines = ["| What | Message |", "| --- | --- |"]
    lines += [f"| {name} (`{family.network}`) | ... {message} ... |" for name, (family, message) in REFUSED.items()]
    return lines + [f"| {name} | ... quantised ({message}) ... |" for name, (_, message) in QUANTISED.items()]


if __name__ == "__main__":
    print("\n".join([*supported(), "", *refused()]))
