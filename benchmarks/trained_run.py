# SPDX-License-Identifier: Apache-2.0
"""A finished run folder for benchmarks, wherever its data lie, of this version or an older one."""

import pathlib
import shlex
import sys
from collections.abc import Mapping
from typing import Any

from configs import base
from mixboost_jax import jobs


def command() -> str:
  """Returns the command line; of absolute paths only the last part, which says enough."""
  short = [pathlib.Path(word).name if word.startswith("/") else word for word in sys.argv]
  return shlex.join(["python", f"benchmarks/{pathlib.Path(short[0]).name}", *short[1:]])


def load(
  folder: pathlib.Path,
  *,
  data_dir: str = "",
  changes: Mapping[str, Mapping[str, Any]] | None = None,
) -> jobs.Trained:
  """Opens a run; keys that its folder does not know have their defaults."""
  return jobs.load_trained(folder, data_dir=data_dir, defaults=base.get_config(), changes=changes)
