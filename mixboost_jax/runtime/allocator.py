# SPDX-License-Identifier: Apache-2.0
"""Keeps the memory that one training step frees for the next one, on CPU hosts with glibc.

XLA:CPU allocates the temporaries of a program anew for every call, hundreds of megabytes for a
wide network. By default glibc hands such blocks back to the kernel, which then has to clear every
page again on the next call.
"""

import ctypes
import platform

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8  # <malloc.h>
_NEVER = 2**31 - 1
_GROWTH = 256 * 2**20


def keep_freed_memory() -> bool:
  """Tells malloc to keep what is freed, for the whole process.

  Returns:
    Whether this C library could be told; others are left as they are.
  """
  if platform.libc_ver()[0] != "glibc":
    return False
  try:
    mallopt = ctypes.CDLL(None).mallopt
  except (OSError, AttributeError):
    return False
  options = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _NEVER), (_TOP_PAD, _GROWTH), (_ARENA_MAX, 1))
  return all(mallopt(option, value) == 1 for option, value in options)
