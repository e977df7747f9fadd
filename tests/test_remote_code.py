"""Model folders that bring Python code of their own: no way of loading them runs it, and nobody is asked whether to."""

import ast
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers.utils import is_kernels_available

from tests.conftest import Project
from v2l.configuration.model_entries import LLM
from v2l.encoders.sentence_encoder import load_sentence_encoder
from v2l.errors import UserError
from v2l.llm.language_model import load_llm
from v2l.models.masked_lm import FrozenMaskedLM
from v2l.pipeline.job_commands import job_environment

ROOT = Path(__file__).parents[1]
LOADERS = {"from_pretrained", "from_config"}
# Classes whose loaders know no `trust_remote_code`: of one architecture each, or of no files at all.
OF_ONE_KIND = {
    *("nn.Embedding", "PeftModel", "V2LTokenizer", "super()"),  # the last, huggingface_hub's mixin, reads config.json
    *("RobertaForMaskedLM", "BertModel", "BertTokenizerFast", "LlamaTokenizer"),
}


def loading_calls(source: str) -> Iterator[ast.Call]:
    """Calls that load, or build, what a folder describes, but for classes that take no code from one."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Attribute(value, attr)) if attr in LOADERS and ast.unparse(value) not in OF_ONE_KIND:
                yield node


def says_no(call: ast.Call) -> bool:
    given = [word.value for word in call.keywords if word.arg == "trust_remote_code"]
    return [ast.unparse(value) for value in given] == ["False"]


def test_every_load_in_the_source_refuses_code():
    calls = {}
    for folder in ("v2l", "tools", "benchmarks", "tests", "workflow", "slurm"):
        for path in [*(ROOT / folder).rglob("*.py")]:
            for call in loading_calls(path.read_text()):
                calls[f"{path.relative_to(ROOT)}:{call.lineno}"] = says_no(call)
    assert sum(place.startswith("v2l/") for place in calls) > 10
    assert [place for place, refused in calls.items() if not refused] == []


@pytest.mark.parametrize(
    "source", ["AutoModel.from_pretrained(x)", "kind.from_config(c, trust_remote_code=None)", "a.b.from_config(**o)"]
)
def test_the_walk_sees_loads_that_do_not(source):
    (call,) = loading_calls(source)
    assert not says_no(call)


def test_attention_kernels_of_a_hub_cannot_be_named():
    """`_attn_implementation` of a config.json may name a repository of code for the package `kernels`."""
    assert not is_kernels_available()


@pytest.fixture
def marker(tmp_path) -> Path:
    """The file that the folders' code would make."""
    return tmp_path / "executed"


def with_code(source: Path, folder: Path, marker: Path, model_type: str | None) -> Path:
    """A copy of a model folder whose config and tokenizer name classes in a module of the folder."""
    shutil.copytree(source, folder)
    (folder / "evil.py").write_text(f"open({str(marker)!r}, 'w')\n")
    auto = ["AutoConfig", "AutoModel", "AutoModelForCausalLM", "AutoModelForMaskedLM"]
    changes = {
        "config.json": {"auto_map": {name: "evil.Evil" for name in auto}},
        "tokenizer_config.json": {
            "auto_map": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]},
            "tokenizer_class": "Evil",
        },
    }
    if model_type:
        changes["config.json"]["model_type"] = model_type
    for name, added in changes.items():
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | added))
    return folder


CPU = torch.device("cpu")
LOADS = {
    "language model": ("llama", lambda folder: load_llm("evil", LLM(path=str(folder)), CPU)),
    "masked language model": ("roberta", FrozenMaskedLM.load),
    "sentence encoder": ("roberta", lambda folder: load_sentence_encoder(folder, CPU)),
}


@pytest.mark.parametrize("model_type", [None, "unknown-kind"])
@pytest.mark.parametrize("what", LOADS)
def test_no_loader_runs_the_code_of_a_folder(tiny_folder, tmp_path, marker, monkeypatch, what, model_type):
    source, load = LOADS[what]
    folder = with_code(tiny_folder / source, tmp_path / "model", marker, model_type)
    monkeypatch.setattr("builtins.input", lambda *_: "yes")
    if model_type:
        with pytest.raises(UserError, match=str(folder)):
            load(folder)
    else:
        try:
            load(folder)
        except UserError as error:
            assert str(folder) in str(error)
    assert not marker.exists()


def test_a_description_in_a_weights_file_runs_no_code(tiny_folder, tmp_path, marker, monkeypatch):
    """Tokenizers of method lqae carry the config.json of their language model in their own files."""
    monkeypatch.setattr("builtins.input", lambda *_: "yes")
    folder = with_code(tiny_folder / "roberta", tmp_path / "model", marker, None)
    config = json.loads((folder / "config.json").read_text()) | {"_name_or_path": str(folder)}
    rebuilt = FrozenMaskedLM.rebuild({"config": config, "has_head": True, "mask_id": 0})
    assert type(rebuilt.model).__name__ == "RobertaForMaskedLM" and not marker.exists()


def test_a_job_reads_nothing_from_standard_input(tmp_path):
    command = job_environment(Path(sys.executable).parent, {}).format() + "python -c 'print(repr(input()))'"
    result = subprocess.run(["bash", "-c", command], input="yes\n", capture_output=True, text=True)
    assert result.returncode and "EOFError" in result.stderr and "yes" not in result.stdout


def test_a_pipe_of_yes_runs_no_code_of_a_language_model(tmp_path, tiny_folder, marker):
    """In a folder whose name a shell would execute."""
    folder = tmp_path / f"my $(touch {marker.name}) `touch {marker.name}` it's; project"
    tiny = folder / "tiny"
    tiny.mkdir(parents=True)
    for path in tiny_folder.iterdir():
        if path.name != "llama":
            (tiny / path.name).symlink_to(path)
    with_code(tiny_folder / "llama", tiny / "llama", marker, "unknown-kind")
    project = Project(folder)
    target = "results/tiny/expand_vocabulary/vocabulary.parquet"
    command = f"yes | {sys.executable} -m snakemake --cores 1 {target} --config experiment=tiny"
    result = subprocess.run(["bash", "-c", command], cwd=project.folder, capture_output=True, text=True, timeout=600)
    said = result.stdout + result.stderr
    assert result.returncode and "Traceback" not in said and "y/N" not in said
    assert "expand_vocabulary: error: " in said and "tiny/llama" in said
    assert not list(tmp_path.rglob(marker.name))
