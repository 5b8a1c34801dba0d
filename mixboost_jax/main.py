# SPDX-License-Identifier: Apache-2.0
"""Command line: flags -> jobs. This file is intentionally kept short.

python -m mixboost_jax.main --config=configs/demo.py
python -m mixboost_jax.main --config=configs/cifar10.py:boost --config.data.dir=DIR --workdir=RUN
"""

import os
import pathlib
import re
import shlex
import signal
import sys

from absl import app, flags
from ml_collections import ConfigDict, config_flags

from mixboost_jax import settings

EXIT_USER_ERROR = 2


class _ConfigFile(flags.ArgumentParser):
  """Loads a file by its path, or a shipped one by its name."""

  def parse(self, path: str) -> ConfigDict:
    config = ConfigDict(settings.load(path)).lock()
    for key in re.findall(r"^--?(?:no)?config\.([^=\n]+)", "\n".join(sys.argv[1:]), re.MULTILINE):
      if problem := settings.key_problem(config, key):
        raise ValueError(problem)
    return config


_CONFIG = config_flags.DEFINE_config_file("config", None, "Experiment: FILE.py[:word+word].")
flags.FLAGS["config"].parser = _ConfigFile()
_WORKDIR = flags.DEFINE_string("workdir", "", "Run folder; default runs/<name of the config>.")
_MINUTES = flags.DEFINE_float(
  "minutes", 0.0, "Job study: save and leave after so long; 0: never.", lower_bound=0.0
)
_RESULTS = flags.DEFINE_string("results", "", "Job study: folder of small files that outlive runs.")
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
  chosen |= {"minutes": _MINUTES.value, "results": _RESULTS.value}
  try:
    code = jobs.run(_CONFIG.value, folder=workdir, command=command, **chosen)
  except jobs.USER_ERRORS as error:
    log.say(f"error: {error}")
    code = EXIT_USER_ERROR
  peers.leave(code)
  sys.exit(code)


def _parse(argv: list[str]) -> list[str]:
  try:
    return flags.FLAGS(argv)
  except flags.Error as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(EXIT_USER_ERROR)


def run() -> None:
  """Entry point of the `mixboost` command."""
  if sys.getfilesystemencoding() != "utf-8":  # the libraries below take paths as UTF-8
    os.execve(sys.executable, sys.orig_argv, {**os.environ, "PYTHONUTF8": "1"})
  # Ctrl-C ends the process at once until there is something to save. The imports come after this,
  # as an exception can get lost inside them.
  signal.signal(signal.SIGINT, signal.SIG_DFL)
  from mixboost_jax import jobs

  flags.DEFINE_enum("job", "all", jobs.JOBS, "What to do.")
  sys.path.insert(0, "")  # a config file may import its neighbours in the working folder
  app.run(main, flags_parser=_parse)


if __name__ == "__main__":
  run()
