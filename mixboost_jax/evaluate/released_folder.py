# SPDX-License-Identifier: Apache-2.0
"""Finds and opens the published sets that a suite asks for."""

import importlib
import pathlib
import re
from collections.abc import Callable, Sequence
from typing import Any

from mixboost_jax import data
from mixboost_jax.evaluate.examples import Examples
from mixboost_jax.evaluate.released import GROUPS, Released

Form = tuple[str, str]
"""(kind of `data.released.open_set`, name of the folder in any case)."""
FOLDERS: dict[tuple[str, str], tuple[Form, ...]] = {
  ("cifar10", "c"): (("cifar10_c", "CIFAR-10-C"), ("cifar10_corrupted", "cifar10_corrupted")),
  ("cifar10", "c_bar"): (("cifar10_c_bar", "CIFAR-10-C-Bar"),),
  ("cifar10", "p"): (("cifar10_p", "CIFAR-10-P"),),
  ("cifar100", "c"): (("cifar100_c", "CIFAR-100-C"),),
  ("cifar100", "c_bar"): (("cifar100_c_bar", "CIFAR-100-C-Bar"),),
  ("cifar100", "p"): (("cifar100_p", "CIFAR-100-P"),),
  ("imagenet", "c"): (("imagenet_c", "ImageNet-C"),),
  ("imagenet", "c_bar"): (("imagenet_c_bar", "ImageNet-C-Bar"),),
  ("imagenet", "p"): (("imagenet_p", "ImageNet-P"),),
}
"""(data set, list) -> forms that the list is published in; the first that is there counts."""
RENDITIONS: Form = ("imagenet_r", "imagenet-r")
"""Goes with any network of ImageNet's classes, whatever data set it is evaluated on."""
CLASS_NAMES = "wnids.txt"
"""Beside the sets: the 1,000 wnids, for data without class names."""
_LISTS = {"c_extra": "c", "p_extra": "p", "p_code": "p"}
_WNID = re.compile(r"n\d{8}")


def open_sets(
  folder: str,
  examples: Examples,
  families: Sequence[str],
  *,
  num_classes: int = 0,
  open_set: Callable[..., Any] | None = None,
) -> Released | None:
  """Opens and checks the published sets of the wanted families.

  Args:
    folder: holds them; empty: None is returned.
    examples: the split that the sets are corrupted versions of.
    families: words of a suite.
    num_classes: columns of the logits, for ImageNet-R.
    open_set: instead of `data.released.open_set`.

  Raises:
    ValueError: if no set is found, or one is not as published.
  """
  if not folder:
    return None
  root = pathlib.Path(folder).expanduser()
  present = {p.name.lower(): p for p in root.iterdir() if p.is_dir()} if root.is_dir() else {}
  opener = open_set or importlib.import_module(f"{data.__name__}.released").open_set
  original = _original(examples)
  found = {}
  for family in families:
    forms = _forms(original, family)
    form = next((one for one in forms if one[1].lower() in present), None)
    if family not in GROUPS or form is None:
      continue
    place = present[form[1].lower()]
    own: dict[str, Any] = {}
    if family == "r":
      own = {"wnids": _class_names(root, examples, num_classes, place)}
    elif original == "imagenet":
      own = {"wnids": examples.class_names}
    if own:
      own["image_size"] = examples.images.shape[1]
    found[family] = opener(form[0], place, groups=GROUPS[family], **own)
    if family == "r":
      _check_columns(found[family], num_classes)
    elif original != "imagenet" and not found[family].is_sequences:
      _check_labels(found[family], examples)
  if not found:
    raise _nothing(root, examples, original, families)
  return Released(found, examples, num_classes)


def _check_columns(published: Any, num_classes: int) -> None:
  fitting = sorted({published.num_classes, len(published.class_indices)}, reverse=True)
  if num_classes not in fitting:
    expected = " or ".join(map(str, fitting))
    raise ValueError(
      f"evaluate: suite: 'r': {published.title} needs a network of {expected} classes, got "
      f"{num_classes}; leave the word out."
    )


def _check_labels(published: Any, examples: Examples) -> None:
  """Compares every label with that of the example of its number (small sets: all in one read)."""
  labels = published.load(published.units[0]).labels
  fits = int(examples.ids.max()) < len(labels)
  wrong = int((labels[examples.ids] != examples.labels).sum()) if fits else len(examples)
  if wrong:
    raise ValueError(
      f"evaluate.released_dir: {published.title}: expected the labels of {examples.dataset} "
      f"({examples.split}) in the same order, got {wrong} of {len(examples)} that differ; evaluate "
      "on the official test split, whose rows these sets repeat."
    )


def _forms(original: str, family: str) -> tuple[Form, ...]:
  if family == "r":
    return (RENDITIONS,)
  return FOLDERS.get((original, _LISTS.get(family, family)), ())


def _nothing(
  root: pathlib.Path, examples: Examples, original: str, families: Sequence[str]
) -> ValueError:
  titles = [form[1] for key, forms in FOLDERS.items() if key[0] == original for form in forms]
  titles += [RENDITIONS[1]] if "r" in families else []
  expected = f"a folder named {', '.join(titles)}"
  if not titles:
    expected = "one of cifar10, cifar100, or a data set with ImageNet's classes (n01440764, ...)"
  return ValueError(
    f"config.evaluate.released_dir: {root}: no published set of {examples.dataset!r} for this "
    f"suite; expected {expected}."
  )


def _original(examples: Examples) -> str:
  """Returns the data set whose corrupted versions belong to these examples.

  ImageNet is a folder or a TFDS set of any name, and known by its class names.
  """
  return "imagenet" if _has_wnids(examples) else examples.dataset


def _has_wnids(examples: Examples) -> bool:
  names = examples.class_names
  return bool(names) and all(_WNID.fullmatch(name) for name in names)


def _class_names(
  root: pathlib.Path, examples: Examples, num_classes: int, place: pathlib.Path
) -> Any:
  """Returns the names of the columns of the logits, to find those of ImageNet-R among them."""
  if _has_wnids(examples):
    return examples.class_names
  if (root / CLASS_NAMES).is_file():
    return root / CLASS_NAMES
  own = [p.name for p in place.iterdir() if p.is_dir() and _WNID.fullmatch(p.name)]
  if num_classes == len(own):
    return own
  raise ValueError(
    f"config.evaluate.released_dir: {place}: expected to know which of the {num_classes} columns "
    f"of the logits these {len(own)} classes are, got data without wnids as class names; put "
    f"{CLASS_NAMES} with ImageNet's 1,000 wnids into {root}, or evaluate on an ImageNet folder."
  )
