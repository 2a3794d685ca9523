"""The long suites that `make test-slow` names are those that there are."""

import subprocess
from pathlib import Path

TESTS = Path(__file__).parent


def test_slow_suites__are_all_folders_with_slow_tests() -> None:
    listed = subprocess.run(
        ["make", "--silent", "slow-suites"],  # noqa: S607
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    marked = {
        path.relative_to(TESTS).parts[0]
        for path in TESTS.rglob("test_*.py")
        if "pytest.mark.slow" in path.read_text(encoding="utf-8") and path != Path(__file__)
    }
    assert sorted(listed.stdout.split()) == sorted(marked)
