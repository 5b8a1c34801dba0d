# SPDX-License-Identifier: Apache-2.0
"""Which examples are test examples when the source does not say, and in which order files come.

Both follow from a hash of an example's name, so they do not depend on the machine, on the other
files, or on a seed.
"""

import hashlib
from collections.abc import Sequence

TEST_SHARE = 0.2
"""Expected share of test examples."""


def is_test(name: str) -> bool:
  """Whether the example of this name (relative path, or row number) belongs to the test split."""
  return _number(name, b"split") < TEST_SHARE * 2**64


def shuffled(names: Sequence[str]) -> list[str]:
  """Returns the names in an order that mixes classes, so that any beginning is a fair sample."""
  return sorted(names, key=lambda name: (_number(name, b"order"), name))


def _number(name: str, purpose: bytes) -> int:
  digest = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8, key=purpose)
  return int.from_bytes(digest.digest(), "big")
