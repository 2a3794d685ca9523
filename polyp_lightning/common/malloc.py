"""Keeps freed memory in the process, which makes training on the processor faster."""

import ctypes
import platform

import torch

# mallopt's numbers in glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> bool:
    """Lets glibc keep freed memory for the next step, where the network runs on the processor.

    By default glibc takes every large tensor from the system and gives it back when it is freed, so that each step
    waits for hundreds of megabytes of pages to be cleared again: a fifth of a step of a small network. The peak stays
    about the same (``make bench``). Applies to the whole process, and to those forked from it.

    Returns whether anything was changed: not with other C libraries, nor where there is a GPU, whose memory PyTorch
    keeps.
    """
    if platform.libc_ver()[0] != "glibc" or torch.cuda.is_available():
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all([mallopt(_MMAP_MAX, 0), mallopt(_TRIM_THRESHOLD, 2**31 - 1), mallopt(_TOP_PAD, 2**26)])
