# SPDX-License-Identifier: Apache-2.0
"""Command line: words -> jobs. This file is intentionally kept short.

mixboost --config=demo
python -m mixboost_jax --config=cifar10:boost --config.data.dir=DIR --workdir=RUN
"""

import os
import pathlib
import shlex
import signal
import sys
from collections.abc import Sequence

from mixboost_jax import cli

EXIT_USER_ERROR = 2


def main(arguments: Sequence[str]) -> int:
  """Does what is asked; a mistake of the user ends in one clear message and exit code 2."""
  try:
    if (code := cli.answer(arguments)) is not None:
      return code
    chosen = cli.read(arguments)
  except (ValueError, OSError) as error:
    print(f"error: {error}", file=sys.stderr)
    return EXIT_USER_ERROR
  from mixboost_jax import jobs
  from mixboost_jax.runtime import log, peers

  config = chosen.pop("config")
  folder = pathlib.Path(chosen.pop("workdir") or f"runs/{config.name}")
  command = shlex.join(["mixboost", *arguments])
  try:
    code = jobs.run(config, folder=folder, command=command, **chosen)
  except jobs.USER_ERRORS as error:
    log.say(f"error: {error}")
    code = EXIT_USER_ERROR
  peers.leave(code)
  return code


def run() -> None:
  """Entry point of the `mixboost` command."""
  if sys.getfilesystemencoding() != "utf-8":  # the libraries below take paths as UTF-8
    os.execve(sys.executable, sys.orig_argv, {**os.environ, "PYTHONUTF8": "1"})
  # Ctrl-C ends the process at once until there is something to save. The imports come after this,
  # as an exception can get lost inside them.
  signal.signal(signal.SIGINT, signal.SIG_DFL)
  sys.path.insert(0, "")  # a config file may import its neighbours in the working folder
  sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
  run()
