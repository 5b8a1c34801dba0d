# SPDX-License-Identifier: Apache-2.0
"""Strips of sample pictures, carried inside the page."""

import base64
import dataclasses
import pathlib
import struct
from collections.abc import Sequence

from mixboost_jax.report.aggregate import Group

CAPTIONS = {
  "clean": "As they are",
  "augmented": "As they are trained on, first view",
  "masked": "Second, masked view",
}
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclasses.dataclass(frozen=True)
class Strip:
  """One PNG with the groups that share it."""

  kind: str
  labels: tuple[str, ...]
  png: bytes

  @property
  def caption(self) -> str:
    """What the strip shows."""
    return CAPTIONS.get(self.kind, self.kind)

  @property
  def size(self) -> tuple[int, int]:
    """Width and height in pixels, from the header of the file."""
    width, height = struct.unpack(">II", self.png[16:24])
    return width, height

  def data_uri(self) -> str:
    """Returns the picture as the address of an `img` element."""
    return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


def collect(
  groups: Sequence[Group], *, fallback: pathlib.Path | None
) -> tuple[list[Strip], list[str]]:
  """Reads the strips of each group's first run; equal pictures appear once.

  Args:
    groups: in the order of the report.
    fallback: folder that sample paths are relative to for results that were not read from a file.

  Returns:
    The strips, ordered by kind, and what could not be shown.
  """
  found: dict[tuple[str, bytes], list[str]] = {}
  problems = []
  for group in groups:
    run = group.runs[0]
    folder = run.folder or fallback
    for kind, relative in run.results.samples.items():
      if folder is None:
        continue
      try:
        png = (folder / relative).read_bytes()
      except OSError:
        png = b""
      if not png.startswith(_PNG) or len(png) < 24:
        problems.append(f"{group.label}: the {kind} sample pictures ({relative}) cannot be read.")
        continue
      found.setdefault((kind, png), []).append(group.label)
  order = list(CAPTIONS)
  strips = [Strip(kind, tuple(labels), png) for (kind, png), labels in found.items()]
  strips.sort(key=lambda strip: order.index(strip.kind) if strip.kind in order else len(order))
  return strips, problems
