"""Sets up .venv with the pinned packages: ``make install`` calls it, by the system's Python.

    python3 .ci/install.py [cpu]

uv does it (the user's, else the pinned one), and pip where uv can't. ``cpu`` takes PyTorch without CUDA from PyTorch's
own index.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "installed"
"""Holds which PyTorch was chosen: ``cpu``, or nothing for the package index's."""

_PIP = (str(PYTHON), "-m", "pip", "--disable-pip-version-check")
_HASHED = ("--no-deps", "--require-hashes", "-r")
_STDIN = "/dev/stdin"
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


def main(torch: str = "") -> None:
    """Installs what is missing; ends the process with a sentence where that can't be."""
    if torch not in ("", "cpu"):
        sys.exit(f"TORCH={torch}: cpu is the only choice; leave it out for PyTorch with CUDA")
    before = STAMP.read_text(encoding="utf-8").strip() if STAMP.is_file() else None
    if torch and before == "":
        sys.exit(".venv holds PyTorch with CUDA already: `make clean`, and then again")
    torch = torch or before or ""
    size = "without CUDA" if torch else "about 7 GB with torch"
    print(f"Installing the pinned packages into .venv ({size})", flush=True)
    _require(_run(sys.executable, "-m", "venv", str(VENV)))
    lock = LOCK.read_text(encoding="utf-8")
    uv = find_uv(lock)
    if torch:
        install_for_cpu(uv, lock)
    elif not (uv and _uv(uv, *_HASHED, str(LOCK))):
        print("uv could not install them: pip does, which takes longer", flush=True)
        _require(_pip(*_HASHED, str(LOCK)))
    _require(_pip("--quiet", "--no-deps", "--no-build-isolation", "-e", str(ROOT)))
    STAMP.write_text(torch, encoding="utf-8")


def find_uv(lock: str) -> str | None:
    """Finds the user's uv, or brings the pinned one into .venv by pip; None where that fails."""
    if found := shutil.which("uv"):
        return found
    return str(PYTHON.with_name("uv")) if _pip("--quiet", *_HASHED, _STDIN, text=take("uv", lock)[0]) else None


def install_for_cpu(uv: str | None, lock: str) -> None:
    """Installs PyTorch from its own index, which gives no hashes, and all else by its hash."""
    if uv is None:
        sys.exit("TORCH=cpu needs uv, which can't be had here; `make install` without it takes PyTorch with CUDA")
    torch, rest = take(r"torch|torchvision", lock)
    pins = re.findall(r"^\S+==\S+", torch, re.MULTILINE)
    if not _uv(uv, "--no-deps", "--torch-backend", "cpu", *pins):
        sys.exit(
            f"{' and '.join(pins)} can't be had from PyTorch's own index (see above): is it reachable from here? "
            "`make install` without TORCH=cpu takes PyTorch with CUDA from the package index"
        )
    _, rest = take(r"(?:nvidia|cuda)-.*|triton", rest)  # what only PyTorch with CUDA needs
    _require(_uv(uv, *_HASHED, _STDIN, text=rest))


def take(names: str, lock: str) -> tuple[str, str]:
    """Returns a lock file's lines of the packages whose names match, and all other lines."""
    block = re.compile(rf"^(?:{names})==.*\n(?:[ #].*\n)*", re.MULTILINE)
    return "".join(block.findall(lock)), block.sub("", lock)


def translate(configuration: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Returns the environment in which uv takes the index that pip is configured with.

    Args:
        configuration: what ``pip config list`` prints.
        environment: this process's; uv's own variables win.
    """
    # Like pip, which looks into every index; hashes decide what is taken.
    found = {"UV_INDEX_STRATEGY": "unsafe-best-match"}
    for section in ("global", "install", ":env:"):
        for name, value in re.findall(rf"^{section}\.([\w-]+)=(.*)$", configuration, re.MULTILINE):
            if name in _VARIABLES:
                separator = "," if name == "find-links" else " "
                found[_VARIABLES[name]] = separator.join(str(ast.literal_eval(value)).split())
    return {**found, **environment}


def _uv(uv: str, *arguments: str, text: str = "") -> bool:
    listed = subprocess.run([*_PIP, "config", "list"], capture_output=True, text=True, check=False).stdout
    command = [uv, "pip", "install", "--python", str(PYTHON), *arguments]
    return _run(*command, text=text, env=translate(listed, os.environ))


def _pip(*arguments: str, text: str = "") -> bool:
    return _run(*_PIP, "install", *arguments, text=text)


def _run(*command: str, text: str = "", env: Mapping[str, str] | None = None) -> bool:
    return subprocess.run(command, input=text or None, env=env, text=True, check=False).returncode == 0


def _require(done: bool) -> None:
    if not done:
        sys.exit("the installation failed, see above; `make install` goes on with it")


if __name__ == "__main__":
    main(*sys.argv[1:])
