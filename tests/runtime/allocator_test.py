# SPDX-License-Identifier: Apache-2.0
import platform
import subprocess
import sys

import pytest

CODE = """
import resource
import sys
from mixboost_jax.runtime import platform
if sys.argv[1] == "keep":
  assert platform.keep_freed_memory()
def faults():
  before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
  for _ in range(10):
    bytearray(32 * 2**20)  # 8,192 pages, allocated, cleared and freed
  return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


BACK = """
from mixboost_jax.runtime import platform
def pages():
  with open("/proc/self/statm") as file:
    return int(file.read().split()[1])
assert platform.keep_freed_memory()
kept = [bytearray(b"x") * 2**16 for _ in range(2**11)]  # 128 MiB in small pieces
del kept
before = pages()
platform.give_freed_memory_back()
print(before - pages())
"""


def printed(code, *arguments):
  done = subprocess.run(
    [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
  )
  return int(done.stdout)


def page_faults(mode):
  return printed(CODE, mode)


pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")


def test_freed_memory_goes_back_when_it_is_asked_for():
  assert printed(BACK) > 0.9 * 2**15  # pages of 4 KiB


def test_freed_memory_is_used_again_without_page_faults():
  # 10 allocations of 8,192 pages; huge pages may divide that by 512, but never to nothing.
  assert page_faults("keep") < page_faults("usual") / 4
