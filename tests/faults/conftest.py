"""A finished tiny run whose jobs can be run again one by one. `pytest -m faults` tries each fault more often."""

import contextlib
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Project, is_thorough
from tests.faults.jobs import Ended, Job, JobServer, list_jobs
from v2l.io.file_hashes import file_hash

DECODED = "results/tiny/decode_images/imagenet.32px-via-40.npy"
ASSET = "assets/tiny-archive/asset.json"
REPORT = "results/tiny/make_report/report.html"
WHOLE_RUNS = ("test_hostile_names", "test_other_machine")  # take longest, so they begin first
FURTHER = (DECODED, ASSET, REPORT)  # what `all` does not ask for here
OF_STAGE = {  # an output of one job of every stage
    "fetch_assets": ASSET,
    "index_images": "results/tiny/index_images/imagenet.parquet",
    "expand_vocabulary": "results/tiny/expand_vocabulary/vocabulary.parquet",
    "embed_vocabulary": "results/tiny/embed_vocabulary/embedding.safetensors",
    "embed_images": "results/tiny/embed_images/imagenet.safetensors",
    "decode_images": DECODED,
    "filter_vocabulary": "results/tiny/filter_vocabulary/codebook.safetensors",
    "train_tokenizer": "results/tiny/train_tokenizer/v2l.safetensors",
    "extract_tokens": "results/tiny/extract_tokens/v2l/restoration.parquet",
    "finetune_llm": "results/tiny/finetune_llm/v2l/tiny-llama/adapter_model.safetensors",
    "reconstruct_images": "results/tiny/reconstruct_images/v2l/restoration.tokenizer-oracle.parquet",
    "evaluate_llm": "results/tiny/evaluate_llm/v2l/tiny-llama/classification.parquet",
    "score_predictions": "results/tiny/score_predictions/v2l/restoration.tokenizer-oracle.parquet",
    "make_tables": "results/tiny/make_tables/table4_restoration.csv",
    "make_figures": "results/tiny/make_figures/restoration.png",
    "make_report": REPORT,
}


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.stem not in WHOLE_RUNS)
    for item in items:
        if Path(__file__).parent in Path(item.fspath).parents:
            item.add_marker(pytest.mark.faults)
            item.add_marker(pytest.mark.pipeline)


@pytest.fixture(scope="session")
def thorough(pytestconfig) -> bool:
    """Whether to try each fault often."""
    return is_thorough(pytestconfig)


def forget(folder: Path, job: Job) -> None:
    """Remove what a job of the project in `folder` made."""
    for name in job.outputs:
        (folder / name).unlink(missing_ok=True)
    if job.stage == "fetch_assets":  # it keeps a second record, and would find nothing to do
        shutil.rmtree(folder / Path(ASSET).parent, ignore_errors=True)


class Scene:
    """A finished run of `project`, its jobs, and what their files hold when nothing disturbs them."""

    def __init__(self, project: Project, server: JobServer, jobs: list[Job]):
        self.project, self.folder, self.server, self.jobs = project, project.folder, server, jobs
        self.undisturbed = {path: path.read_bytes() for path in self.made_files()}

    def made_files(self) -> list[Path]:
        """Every file below results/ and assets/ that is not hidden."""
        paths = [path for name in ("results", "assets") for path in (self.folder / name).rglob("*") if path.is_file()]
        return sorted(path for path in paths if "/." not in str(path.relative_to(self.folder)))

    def job(self, output: str) -> Job:
        """The job that makes `output`."""
        return next(job for job in self.jobs if output in job.outputs)

    def forget(self, job: Job) -> None:
        """Remove what a job made, as Snakemake does before it starts it again."""
        forget(self.folder, job)

    def run(self, job: Job, **limits: int) -> Ended:
        """Run a job to its end, its outputs removed before."""
        self.forget(job)
        return self.server.run(job, limits)

    def changed(self) -> list[str]:
        """Files that are not as the undisturbed run left them, or that it did not leave."""
        found = {path: path.read_bytes() for path in self.made_files()}
        paths = found.keys() | self.undisturbed.keys()
        return sorted(str(path) for path in paths if found.get(path) != self.undisturbed.get(path))

    def restore(self) -> None:
        """Put every file back, and forget what unfinished runs left."""
        for path in self.made_files():
            if path not in self.undisturbed:
                path.unlink()
        for path, content in self.undisturbed.items():
            if not path.exists() or path.read_bytes() != content:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.unlink(missing_ok=True)
                path.write_bytes(content)
        for folder in (self.folder / "results", self.folder / "assets"):
            for path in sorted(folder.rglob(".*"), reverse=True):
                if path.name != ".asset.json":
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
        for name in ("train_tokenizer", "finetune_llm", "evaluate_llm", "claims"):
            shutil.rmtree(self.folder / "work/tiny" / name, ignore_errors=True)
            shutil.rmtree(self.folder / "work" / name, ignore_errors=True)


@pytest.fixture(scope="session")
def finished_scene(tiny_run, tmp_path_factory) -> Iterator[Scene]:
    """The tiny run, with a copy of its own, and the jobs of all sixteen stages."""
    project = tiny_run.copy(tmp_path_factory.mktemp("faults"))
    folder = project.folder
    archive = folder / "tiny-archive.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for number in range(200):
            file.writestr(f"weights/{number}.bin", bytes([number]) * 5_000)
    entry = {"kind": "url", "url": archive.as_uri(), "sha256": file_hash(archive), "size": archive.stat().st_size}
    fields = entry | {"version": "1", "licence": "MIT", "unpack": True, "folder": ".", "members": ["weights/*"]}
    lines = [f"  {key}: {value!r}" for key, value in fields.items()]
    with open(folder / "config/assets.lock", "a") as lock:
        lock.write("\n".join(["", "tiny-archive:", *lines, ""]))
    more = list_jobs(folder, *FURTHER)
    jobs = [*list_jobs(folder), *(job for job in more if set(FURTHER) & set(job.outputs))]
    with JobServer(folder, tmp_path_factory.mktemp("said")) as server:
        for output in FURTHER:
            ended = server.run(next(job for job in jobs if output in job.outputs))
            assert ended.status == 0, ended.output
        yield Scene(project, server, jobs)


@pytest.fixture
def scene(finished_scene) -> Iterator[Scene]:
    """The finished run; whatever a test did to it is undone after it."""
    yield finished_scene
    with contextlib.suppress(FileNotFoundError):
        finished_scene.restore()
