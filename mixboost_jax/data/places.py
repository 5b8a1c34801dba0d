# SPDX-License-Identifier: Apache-2.0
"""Where data sets are looked for, and the one error when there is nothing."""

import os
import pathlib
from collections.abc import Iterable, Sequence

from mixboost_jax import schema

VARIABLE = "MIXBOOST_DATA_DIR"
_WITHOUT_FILES = "without files: --config.data.name=shapes, the procedural set (--config=demo)"


class MissingDataError(ValueError):
  """No data at any of the places."""


def default_places() -> tuple[pathlib.Path, ...]:
  """Returns the folders looked in when `config.data.dir` is empty, in this order.

  ```python
  first = data.default_places()[0]  # .data in this folder, or what $MIXBOOST_DATA_DIR names
  ```
  """
  chosen = os.environ.get(VARIABLE, "")
  home = pathlib.Path.home()
  places = [pathlib.Path(chosen).expanduser()] if chosen else []
  places += [pathlib.Path(".data"), user_cache(), home / "tensorflow_datasets"]
  return tuple(path.absolute() for path in places)


def user_cache() -> pathlib.Path:
  """Returns the folder of this package's data in the user's cache."""
  return pathlib.Path.home() / ".cache" / "mixboost_jax" / "data"


def places_of(settings: schema.Data) -> tuple[pathlib.Path, ...]:
  """Returns the given folder (or file) alone, else the default places."""
  if settings.dir:
    return (pathlib.Path(settings.dir).expanduser().absolute(),)
  return default_places()


def download_place(settings: schema.Data) -> pathlib.Path:
  """Returns where a download goes: the given folder, else $MIXBOOST_DATA_DIR, else the cache."""
  if settings.dir:
    return places_of(settings)[0]
  return default_places()[0] if os.environ.get(VARIABLE) else user_cache()


def missing(
  settings: schema.Data, *, title: str, looked_for: Sequence[str], remedies: Iterable[str]
) -> MissingDataError:
  """Returns the error that says where was looked, for what, and what to do about it.

  `looked_for`: what would have done, at each place; `remedies`: sentences, most useful first.
  """
  at = [f"{place}{_state(place)}" for place in places_of(settings)]
  first = "" if settings.dir else f" (config.data.dir is empty; ${VARIABLE} would come first)"
  lines = [
    f"{title}: no data found (config.data.name={settings.name!r}).",
    f"looked for {'; '.join(looked_for)}",
    f"in {', '.join(at)}{first}",
    *remedies,
    _WITHOUT_FILES,
  ]
  return MissingDataError("\n  ".join(lines))


def _state(path: pathlib.Path) -> str:
  if not path.exists():
    return " (does not exist)"
  return "" if path.is_dir() else " (a file)"
