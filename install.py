"""Sets up .venv with the pinned packages, by uv, or by pip where there is no uv: ``make install`` calls it.

    python3 install.py [cpu]

``cpu`` takes PyTorch without CUDA from PyTorch's own index.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
LOCK = ROOT / "requirements.lock"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "installed"
"""Holds which PyTorch was chosen: ``cpu``, or nothing for the package index's."""

# What pip is configured with, as uv's variables.
_VARIABLES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "client-cert": "SSL_CLIENT_CERT",
    "proxy": "HTTPS_PROXY",
}
_TORCH = ("torch", "torchvision")
# What only PyTorch with CUDA needs.
_CUDA = ("nvidia-", "cuda-", "triton")


_PIP = [str(PYTHON), "-m", "pip", "--disable-pip-version-check"]


def main(torch: str = "") -> None:
    """Installs what is missing; ends the process with a sentence where that can't be."""
    if torch not in ("", "cpu"):
        sys.exit(f"TORCH={torch}: cpu is the only choice; leave it out for PyTorch with CUDA")
    before = STAMP.read_text(encoding="utf-8").strip() if STAMP.is_file() else None
    if torch and before == "":
        sys.exit(".venv holds PyTorch with CUDA already: `make clean`, and then again")
    torch, start = torch or before or "", time.monotonic()
    print(
        f"Installing the pinned packages into .venv ({'without CUDA' if torch else 'about 7 GB with torch'})",
        flush=True,
    )
    _require(subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=False).returncode == 0)
    uv = find_uv()
    if torch:
        install_for_cpu(uv)
    elif not (uv and _install_by_uv(uv, "--require-hashes", "-r", str(LOCK))):
        print("uv could not install them: pip does, which takes longer", flush=True)
        _require(_install_by_pip("--require-hashes", "-r", str(LOCK)))
    _require(_install_by_pip("--quiet", "--no-deps", "--no-build-isolation", "-e", str(ROOT)))
    STAMP.write_text(torch, encoding="utf-8")
    print(f"Installed in {time.monotonic() - start:.0f} s")


def find_uv() -> str | None:
    """Finds the user's uv, or brings the pinned one into .venv by pip; None where that fails."""
    if found := shutil.which("uv"):
        return found
    with tempfile.TemporaryDirectory() as folder:
        pinned = Path(folder) / "requirements.txt"
        pinned.write_text(split_lock(LOCK.read_text(encoding="utf-8"))["uv"], encoding="utf-8")
        done = _install_by_pip("--quiet", "--no-deps", "--require-hashes", "-r", str(pinned))
    return str(PYTHON.with_name("uv")) if done else None


def install_for_cpu(uv: str | None) -> None:
    """Installs PyTorch from its own index, which gives no hashes, and all else by its hash."""
    if uv is None:
        sys.exit("TORCH=cpu needs uv, which can't be had here; `make install` without it takes PyTorch with CUDA")
    blocks = split_lock(LOCK.read_text(encoding="utf-8"))
    pins = [blocks[name].split()[0] for name in _TORCH]
    if not _install_by_uv(uv, "--no-deps", "--torch-backend", "cpu", *pins):
        sys.exit(
            f"{' and '.join(pins)} can't be had from PyTorch's own index (see above): is it reachable from here? "
            "`make install` without TORCH=cpu takes PyTorch with CUDA from the package index"
        )
    rest = [text for name, text in blocks.items() if name not in _TORCH and not name.startswith(_CUDA)]
    with tempfile.TemporaryDirectory() as folder:
        lock = Path(folder) / "requirements.txt"
        lock.write_text("".join(rest), encoding="utf-8")
        _require(_install_by_uv(uv, "--no-deps", "--require-hashes", "-r", str(lock)))


def split_lock(text: str) -> dict[str, str]:
    """Splits a lock file into its packages' lines, by name.

    Where a package has a version for each of several Pythons, they stay together.
    """
    blocks: dict[str, str] = {}
    for block in re.findall(r"^[\w.-]+==.*\n(?:[ #].*\n)*", text, re.MULTILINE):
        name = block.partition("==")[0]
        blocks[name] = blocks.get(name, "") + block
    return blocks


def translate(configuration: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Returns the environment in which uv takes the index that pip is configured with.

    Args:
        configuration: what ``pip config list`` prints.
        environment: this process's; uv's own variables win.
    """
    found: dict[str, str] = {}
    for section in ("global", "install", ":env:"):
        for name, value in re.findall(rf"^{re.escape(section)}\.([\w-]+)=(.*)$", configuration, re.MULTILINE):
            if name in _VARIABLES:
                separator = "," if name == "find-links" else " "
                found[_VARIABLES[name]] = separator.join(str(ast.literal_eval(value)).split())
    # Like pip, which looks into every index; hashes decide what is taken.
    return {"UV_INDEX_STRATEGY": "unsafe-best-match", **found, **environment}


def _install_by_uv(uv: str, *arguments: str) -> bool:
    listed = subprocess.run([*_PIP, "config", "list"], capture_output=True, text=True, check=False).stdout
    command = [uv, "pip", "install", "--python", str(PYTHON), *arguments]
    return subprocess.run(command, env=translate(listed, os.environ), check=False).returncode == 0


def _install_by_pip(*arguments: str) -> bool:
    return subprocess.run([*_PIP, "install", *arguments], check=False).returncode == 0


def _require(done: bool) -> None:
    if not done:
        sys.exit("the installation failed, see above; `make install` goes on with it")


if __name__ == "__main__":
    main(*sys.argv[1:])
