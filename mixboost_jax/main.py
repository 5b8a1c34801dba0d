# SPDX-License-Identifier: Apache-2.0
"""Command line: flags -> jobs. This file is intentionally kept short.

python -m mixboost_jax.main --config=configs/demo.py
python -m mixboost_jax.main --config=configs/cifar10.py:boost --config.data.dir=DIR --workdir=RUN
"""

import os
import pathlib
import shlex
import signal
import sys

from absl import app, flags
from ml_collections import config_flags

EXIT_USER_ERROR = 2

_CONFIG = config_flags.DEFINE_config_file("config", None, "Experiment: FILE.py[:word+word].")
_WORKDIR = flags.DEFINE_string("workdir", "", "Run folder; default runs/<name of the config>.")
_EPOCH = flags.DEFINE_integer("epoch", 0, "Job show_augmentation: which epoch, from 0.")
_EXAMPLE = flags.DEFINE_integer("example", 0, "Job show_augmentation: id of a training example.")


def main(argv: list[str]) -> None:
  """Runs the job; a mistake of the user ends in one clear message and exit code 2."""
  from mixboost_jax import jobs
  from mixboost_jax.runtime import log, peers

  if len(argv) > 1:
    sys.exit(f"error: unexpected arguments {argv[1:]}; options are written --name=value.")
  if _CONFIG.value is None:
    sys.exit("error: --config is missing; start with --config=configs/demo.py.")
  workdir = pathlib.Path(_WORKDIR.value or f"runs/{_CONFIG.value.name}")
  command = shlex.join(["python", "-m", "mixboost_jax.main", *sys.argv[1:]])
  chosen = {"job": flags.FLAGS.job, "epoch": _EPOCH.value, "example": _EXAMPLE.value}
  try:
    code = jobs.run(_CONFIG.value, folder=workdir, command=command, **chosen)
  except jobs.USER_ERRORS as error:
    log.say(f"error: {error}")
    code = EXIT_USER_ERROR
  peers.leave(code)
  sys.exit(code)


def run() -> None:
  """Entry point of the `mixboost` command."""
  if sys.getfilesystemencoding() != "utf-8":  # the libraries below take paths as UTF-8
    os.execve(sys.executable, sys.orig_argv, {**os.environ, "PYTHONUTF8": "1"})
  # Ctrl-C ends the process at once until there is something to save. The imports come after this,
  # as an exception can get lost inside them.
  signal.signal(signal.SIGINT, signal.SIG_DFL)
  from mixboost_jax import jobs

  flags.DEFINE_enum("job", "all", jobs.JOBS, "What to do.")
  sys.path.insert(0, "")  # config files import their neighbours as `configs.<name>`
  app.run(main)


if __name__ == "__main__":
  run()
