# SPDX-License-Identifier: Apache-2.0
"""Unpacks CIFAR-10 from one small file of JPEG pictures into a `cifar-10-batches-py` folder.

usage: python benchmarks/jpeg_cifar.py FILE.npz FOLDER

18 MB travel to machines without network where 178 do not. The file holds `class_names` and, for
`train` and `test`, `*_jpeg` (the bytes of all pictures in a row), `*_offsets` (where each begins,
and the end of the last) and `*_labels`. JPEG loses detail: such results compare among themselves.
"""

import io
import itertools
import pathlib
import pickle
import sys
from collections.abc import Mapping

import numpy as np
from PIL import Image

FORMATS = ("JPEG",)


def main() -> None:
  source, target = map(pathlib.Path, sys.argv[1:])
  with np.load(source) as stored:
    content = {name: stored[name] for name in stored.files}
  folder = target / "cifar-10-batches-py"
  folder.mkdir(parents=True, exist_ok=True)
  train, test = (rows_of(content, split) for split in ("train", "test"))
  for index, part in enumerate(np.array_split(np.arange(len(train)), 5)):
    write(folder / f"data_batch_{index + 1}", train[part], content["train_labels"][part])
  write(folder / "test_batch", test, content["test_labels"])
  names = {"label_names": [str(name) for name in content["class_names"]]}
  (folder / "batches.meta").write_bytes(pickle.dumps(names))  # last: now the folder is whole
  print(f"{len(train)} training and {len(test)} test pictures")


def rows_of(content: Mapping[str, np.ndarray], split: str) -> np.ndarray:
  """Returns `uint8[N, 3072]`: red, green and blue planes of every picture."""
  data, offsets = content[f"{split}_jpeg"].tobytes(), content[f"{split}_offsets"]
  files = (data[begin:end] for begin, end in itertools.pairwise(offsets))
  opened = (Image.open(io.BytesIO(file), formats=FORMATS) for file in files)
  rows = np.stack([np.asarray(picture.convert("RGB")) for picture in opened])
  return rows.transpose(0, 3, 1, 2).reshape(len(rows), -1)


def write(path: pathlib.Path, rows: np.ndarray, labels: np.ndarray) -> None:
  path.write_bytes(pickle.dumps({"data": rows, "labels": labels.tolist()}))


if __name__ == "__main__":
  main()
