"""``make install``, without installing anything: what uv and pip are asked for."""

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest
from extras import ROOT, load_installer

HASHED = ["--no-deps", "--require-hashes", "-r"]
LISTED = """:env:.find-links='/opt/wheels'
:env:.timeout='60'
global.extra-index-url='\\nfirst\\nsecond'
global.find-links='/elsewhere'
global.index-url='mirror'
install.trusted-host='one two'
"""


@pytest.fixture
def install(tmp_path: Path) -> ModuleType:
    module = load_installer()
    module.VENV = tmp_path
    module.STAMP = tmp_path / "installed"
    return module


class Machine:
    """Notes what is run and what was installed from; some programs fail."""

    def __init__(self, fails: Sequence[str]) -> None:
        self._fails = fails
        self.done: list[list[str]] = []
        self.packages: list[list[str]] = []

    def run(self, command: Sequence[str], *, input: str | None = None, **_: object) -> subprocess.CompletedProcess[str]:
        self.done.append(list(command))
        if "-r" in command:
            text = input or Path(command[-1]).read_text(encoding="utf-8")
            self.packages.append(re.findall(r"^([\w.-]+)==", text, re.MULTILINE))
        program = "uv" if command[0].endswith("uv") else command[2]
        return subprocess.CompletedProcess(command, program in self._fails, "")


def play(
    install: ModuleType, patch: pytest.MonkeyPatch, uv: str | None, torch: str = "", fails: Sequence[str] = ()
) -> Machine:
    machine = Machine(fails)
    patch.setattr(install.shutil, "which", lambda _: uv)
    patch.setattr(install, "subprocess", machine)
    install.main(torch)
    return machine


def installs(machine: Machine) -> list[list[str]]:
    """The commands that install, from their first option on."""
    return [[command[0], *command[command.index("install") + 1 :]] for command in machine.done if "install" in command]


def test_translate__pips_index_becomes_uvs(install: ModuleType) -> None:
    found = install.translate(LISTED, {"HOME": "/here", "UV_DEFAULT_INDEX": "my own"})
    assert found == {
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_INDEX": "first second",
        "UV_FIND_LINKS": "/opt/wheels",
        "UV_INSECURE_HOST": "one two",
        "UV_DEFAULT_INDEX": "my own",
        "HOME": "/here",
    }


def test_take__every_package_with_all_its_lines(install: ModuleType) -> None:
    before, after = "a==1 \\\n    --hash=h\n    # via b\n", "b==4\n"
    taken = "a-b==2 ; python_version < '3.12' \\\n    --hash=i\na-b==3 \\\n    --hash=j\n"
    assert install.take("a-.*", before + taken + after) == (taken, before + after)


def test_main__uv_of_the_user_installs_the_lock(install: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = play(install, monkeypatch, "/usr/bin/uv")
    first, last = installs(machine)
    assert first == ["/usr/bin/uv", "--python", str(install.PYTHON), *HASHED, str(install.LOCK)]
    assert last[-2:] == ["-e", str(ROOT)]
    assert install.STAMP.read_text() == ""


def test_main__pip_brings_the_pinned_uv(install: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = play(install, monkeypatch, None)
    bring, lock, _ = installs(machine)
    assert bring == [str(install.PYTHON), "--quiet", *HASHED, "/dev/stdin"]
    assert machine.packages[0] == ["uv"]
    assert lock[0] == str(install.PYTHON.with_name("uv"))


def test_main__pip_installs_where_uv_fails(
    install: ModuleType, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    _, by_pip, _ = installs(play(install, monkeypatch, "uv", fails=["uv"]))
    assert by_pip == [str(install.PYTHON), *HASHED, str(install.LOCK)]
    assert "pip does" in capfd.readouterr().out


def test_main__a_failure_leaves_no_stamp(install: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="the installation failed"):
        play(install, monkeypatch, "uv", fails=["uv", "pip"])
    assert not install.STAMP.exists()


def test_main__torch_for_the_cpu_and_nothing_of_cuda(install: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = play(install, monkeypatch, "uv", "cpu")
    torch, rest, _ = installs(machine)
    assert torch[-4:-2] == ["--torch-backend", "cpu"]
    assert [pin.partition("==")[0] for pin in torch[-2:]] == ["torch", "torchvision"]
    assert rest[-4:-1] == HASHED
    every = set(re.findall(r"^([\w.-]+)==", install.LOCK.read_text(encoding="utf-8"), re.MULTILINE))
    left_out = every - set(machine.packages[0])
    assert {"torch", "torchvision", "triton", "nvidia-cublas", "cuda-toolkit"} < left_out
    assert all(re.match(r"torch(vision)?$|triton$|nvidia-|cuda-", name) for name in left_out)
    assert install.STAMP.read_text() == "cpu"
    # Another time, it stays as it was chosen.
    assert installs(play(install, monkeypatch, "uv"))[0] == torch


def test_main__torch_for_the_cpu_where_its_index_is_out_of_reach(
    install: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit, match=r"torch==.* can't be had from PyTorch's own index .*: is it reachable"):
        play(install, monkeypatch, "uv", "cpu", fails=["uv"])
    assert not install.STAMP.exists()


@pytest.mark.parametrize(("stamp", "torch", "message"), [("", "cpu", "make clean"), (None, "rocm", "cpu is the only")])
def test_main__refuses(install: ModuleType, stamp: str | None, torch: str, message: str) -> None:
    if stamp is not None:
        install.STAMP.write_text(stamp)
    with pytest.raises(SystemExit, match=message):
        install.main(torch)
