"""Freed memory stays with the process: seen by the pages that the system has to give it."""

import json
import platform
import subprocess
import sys

import pytest

_PROGRAM = """
# 64 MB each; a page has 4 kB, or 2 MB where the system gives large ones.
import json, resource, sys, torch
from polyp_lightning.common.malloc import keep_freed_memory
torch.cuda.is_available = lambda: sys.argv[1] == "gpu"
changed = sys.argv[1] != "default" and keep_freed_memory()
faults = []
for _ in range(40):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(json.dumps([changed, sum(count >= 32 for count in faults)]))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library, whose memory is left as it is")
@pytest.mark.parametrize(("how", "changes"), [("keep", True), ("default", False), ("gpu", False)])
def test_keep_freed_memory__most_tensors_need_no_new_pages(how: str, changes: bool) -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM, how], capture_output=True, text=True, check=True)
    changed, times_asked = json.loads(done.stdout)
    assert changed is changes
    # The first few leave holes that the next ones do not fit into.
    assert times_asked <= 20 if changes else times_asked == 40
