# SPDX-License-Identifier: Apache-2.0
"""Look-up in the literal tables (`AUGMENTATIONS`, `READERS`, ...) with an error that helps."""

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")


def unknown_name(name: object, known: Iterable[str], *, field: str) -> str:
  """Returns the one sentence that tells a user which names exist."""
  choices = sorted(known)
  close = difflib.get_close_matches(str(name), choices, n=1)
  close = close or [choice for choice in choices if name and choice.startswith(str(name))]
  hint = f" Did you mean {close[0]!r}?" if close else ""
  return f"{field}: unknown name {name!r}; choose one of {', '.join(choices)}.{hint}"


def lookup(table: Mapping[str, T], name: str, *, field: str) -> T:
  """Returns `table[name]`, or raises a ValueError that lists the choices.

  `field` is where the user wrote the name, e.g. `config.data.name`.
  """
  if not isinstance(name, str) or name not in table:
    raise ValueError(unknown_name(name, table, field=field))
  return table[name]
