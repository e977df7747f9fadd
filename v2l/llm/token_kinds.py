"""Which ids of a vocabulary are words, and for every other id the reason why it is none."""

import re
import unicodedata

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

UNNAMED = "id without a token"
SPECIAL = "special token"
MARKUP = "added token that is markup"
FORM = "control form"
EMPTY = "no text"
PART = "part of a character"
BYTE = "byte that the tokenizer does not decode"
UNPRINTABLE = "control character"
CONTROL = (UNNAMED, SPECIAL, MARKUP, FORM)  # never part of an answer, nor a continuation

# Exactly these forms are control tokens even where the tokenizer does not say so. Pieces of HTML that byte-pair
# encoding finds by itself ("</", "<div") are words.
FORMS = re.compile(
    r"""<\|[^|<>]+\|> | <｜[^｜<>]+｜>
    | [<\[]\|? (?i:unused|reserved) [^>\]]* [>\]]
    | [<\[] (?i:control|extra_id|special|special_token|sentinel|dummy|placeholder) [ _-]?\d+ [>\]]
    | < (?:start|end|begin)_of_\w+ > | <fim_\w+>
    | </?(?:s|unk|pad|bos|eos|mask|cls|sep|eop|sop)>
    | \[(?:PAD|UNK|CLS|SEP|MASK|BOS|EOS|[gs]MASK|PREFIX|SUFFIX|MIDDLE|TOOL_CALLS|TOOL_RESULTS|AVAILABLE_TOOLS)\]
    | \[/?(?:INST|SYS|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_RESULTS)\] | <</?SYS>> | \[IMG(?:_BREAK|_END)?\]""",
    re.VERBOSE,
)
BRACKETED = re.compile(r"<[^<>]*\w[^<>]*>|\[[^\[\]]*\w[^\[\]]*\]")
BYTE_FORM = re.compile(r"<0x[0-9A-F]{2}>")


def control_reason(token: str | None, special: bool, added: bool) -> str | None:
    """Why a token is a control token, by its name and what the tokenizer says of it; None: it is none."""
    if token is None:
        return UNNAMED
    if special:
        return SPECIAL
    if FORMS.fullmatch(token):
        return FORM
    return MARKUP if added and BRACKETED.fullmatch(token) else None


def text_reason(token: str, text: str) -> str | None:
    """Why a token that is no control token is no word, by the text that it adds; None: it is a word."""
    if not text:
        return EMPTY
    if BYTE_FORM.fullmatch(token) and text.strip() == token:
        return BYTE
    if REPLACEMENT in text:
        return PART
    if any(not character.isspace() and unicodedata.category(character) in ("Cc", "Cs") for character in text):
        return UNPRINTABLE
    return None
