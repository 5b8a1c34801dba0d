# SPDX-License-Identifier: Apache-2.0
"""Clean images on the device, sorted by label, from which mix partners are drawn.

How many are drawn for a picture says the defense (`mixup.py`); an audit's pool is made in
`jobs/audit.py`.

Symbols (Pang et al. 2020, arXiv:1909.11515): x_s -> partner, y_s -> its label, y-hat -> predicted.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8

from mixboost_jax import checks
from mixboost_jax import keys as keys_lib
from mixboost_jax.array_types import AnyKey, ExampleIds, Images, Labels, PRNGKeys

MODES = ("pl", "ol", "any")
"""Label of a partner: the predicted one (MI-PL), a uniformly drawn other one (MI-OL), or a
uniformly drawn one of all, however many images of it the pool has."""


@dataclasses.dataclass(frozen=True)
class Pool:
  """Images in the order of their labels; build it with `build_pool`."""

  images: Float[Array, "P H W C"] | UInt8[Array, "P H W C"]
  """In [0, 1], or uint8 if compact."""
  starts: Int[Array, " K"]
  """First row of each class."""
  counts: Int[Array, " K"]
  """Rows of each class, >= 1."""
  ids: Int[Array, " P"] | None
  """In the order of the images, None if unknown."""
  id_order: Int[Array, " P"] | None
  """Rows in the order of their ids."""

  @property
  def num_classes(self) -> int:
    """K."""
    return self.starts.shape[0]


jax.tree_util.register_dataclass(
  Pool, data_fields=["images", "starts", "counts", "ids", "id_order"], meta_fields=[]
)


@checks.inputs()
def build_pool(
  images: Images | np.ndarray,
  labels: Labels | np.ndarray,
  *,
  num_classes: int,
  ids: ExampleIds | np.ndarray | None = None,
  compact: bool = False,
) -> Pool:
  """Sorts clean images by label and puts them on the device.

  Paper: Pang et al. 2020, arXiv:1909.11515, Sec. 3.1: p_s, samples of the data manifold. Take the
  training split without augmentation. The published code takes the first 1,000 (MI-PL) or 10,000
  (MI-OL) images of the *test* split, augmented, so an image can be its own partner; to repeat that,
  pass those images and no `ids`.

  ```python
  pool = defenses.build_pool(images, labels=jnp.arange(8) % 4, num_classes=4)
  assert pool.counts.tolist() == [2, 2, 2, 2]  # images of each class
  ```

  Args:
    images: in [0, 1].
    labels: in 0 .. num_classes - 1.
    num_classes: K >= 2.
    ids: identities, unique, of one numbering with those of the images to be defended: an image is
      then never mixed with itself. Leave out where the two sets are disjoint.
    compact: whether to store 8 bits per value (exact for images that come from 8-bit files, a
      quarter of the memory).
  """
  labels = np.asarray(labels)
  if num_classes < 2 or (len(labels) and not (labels.min() >= 0 and labels.max() < num_classes)):
    raise ValueError(
      f"defenses.build_pool: labels must be in 0 .. {num_classes - 1} (num_classes >= 2), got "
      f"{sorted(set(labels.tolist()))[:10]}."
    )
  counts = np.bincount(labels, minlength=num_classes)
  needed = 1 if ids is None else 2  # one may be the image itself
  poor = np.flatnonzero(counts < needed)
  if len(poor):
    other = ", or leave out `ids` if the defended images are not in the pool" * (needed - 1)
    raise ValueError(
      f"defenses.build_pool: every class needs at least {needed} image(s), but class(es) "
      f"{poor[:10].tolist()} have {counts[poor[:10]].tolist()}; add images of these classes{other}."
    )
  order = np.argsort(labels, kind="stable")
  stored = jnp.asarray(images)[order]
  if compact:
    stored = jnp.round(stored * 255).astype(jnp.uint8)
  sorted_ids = id_order = None
  if ids is not None:
    sorted_ids = np.asarray(ids)[order].astype(np.int32)
    if len(np.unique(sorted_ids)) != len(labels):
      raise ValueError("defenses.build_pool: ids must be unique, one per image.")
    id_order = jnp.asarray(np.argsort(sorted_ids), jnp.int32)
    sorted_ids = jnp.asarray(sorted_ids)
  starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
  return Pool(
    stored, jnp.asarray(starts, jnp.int32), jnp.asarray(counts, jnp.int32), sorted_ids, id_order
  )


def take(pool: Pool, rows: Int[Array, "*n"]) -> Float[Array, "*n H W C"]:
  """Returns pool images as float32 in [0, 1]."""
  images = pool.images[rows]
  if images.dtype == jnp.uint8:
    return images.astype(jnp.float32) / 255
  return images


def own_rows(pool: Pool, ids: ExampleIds) -> tuple[Int[Array, " N"], Bool[Array, " N"]]:
  """Returns the row that holds each identity, and whether there is one."""
  if pool.ids is None or pool.id_order is None:
    raise ValueError(
      "defenses: the pool has no ids, so an image cannot be kept from being its own partner; "
      "pass ids to build_pool, or none here."
    )
  rank = jnp.searchsorted(pool.ids[pool.id_order], ids)
  row = pool.id_order[jnp.minimum(rank, pool.ids.shape[0] - 1)]
  return row, pool.ids[row] == ids


def partner_rows(
  keys: PRNGKeys,
  pool: Pool,
  predicted: Labels,
  *,
  mode: str,
  own: tuple[Int[Array, " N"], Bool[Array, " N"]] | None = None,
) -> Int[Array, " N"]:
  """Draws one pool row per key: first the label, then an image of that label, both uniformly.

  `own` are rows to leave out and whether to, as `own_rows` returns them.
  """
  num_classes = pool.num_classes
  key_label, key_image = keys_lib.split_each(keys, 2)
  if mode == "pl":
    labels = predicted
  elif mode == "ol":
    steps = jax.vmap(lambda key: jax.random.randint(key, (), 1, num_classes))(key_label)
    labels = (predicted + steps) % num_classes
  else:
    labels = jax.vmap(lambda key: jax.random.randint(key, (), 0, num_classes))(key_label)
  starts, counts = pool.starts[labels], pool.counts[labels]
  row, present = (jnp.zeros_like(starts), jnp.zeros(starts.shape, bool)) if own is None else own
  inside = present & (row >= starts) & (row < starts + counts)
  counts = counts - inside
  draws = jax.vmap(lambda key, count: jax.random.randint(key, (), 0, count))(key_image, counts)
  rows = starts + draws
  return rows + (inside & (rows >= row))


@checks.inputs()
def partner_sampler(
  pool: Pool, predicted: Labels, *, mode: str, ids: ExampleIds | None = None
) -> Callable[[Array], Array]:
  """Returns `keys[N] -> partners[N, H, W, C]`, what the adaptive attacks ask for.

  ```python
  pool = defenses.build_pool(images, labels=jnp.arange(8) % 4, num_classes=4)
  partners_fn = defenses.partner_sampler(pool, labels, mode="ol")
  partners = partners_fn(jax.random.split(key, len(images)))
  ```

  Args:
    pool: the pool.
    predicted: label of each attacked image that `mode` refers to (the paper: the prediction on the
      clean image, fixed during the attack).
    mode: one of `MODES`.
    ids: identities of the attacked images, if they may be in the pool.
  """
  check_mode(mode)
  own = None if ids is None else own_rows(pool, ids)

  def sample(keys: PRNGKeys) -> Images:
    return take(pool, partner_rows(keys, pool, predicted, mode=mode, own=own))

  return sample


@checks.inputs()
def draw_partners(
  key: AnyKey,
  pool: Pool,
  predicted: Labels,
  *,
  mode: str,
  num_draws: int,
  ids: ExampleIds | None = None,
) -> Float[Array, "D N H W C"]:
  """Draws `num_draws` partners for each image; other arguments as of `partner_sampler`.

  ```python
  pool = defenses.build_pool(images, labels=jnp.arange(8) % 4, num_classes=4)
  partners = defenses.draw_partners(key, pool, labels, mode="ol", num_draws=5)
  assert partners.shape == (5, *images.shape)
  ```
  """
  sample = partner_sampler(pool, predicted, mode=mode, ids=ids)
  each = keys_lib.per_example(key, predicted.shape[0])
  draws = jnp.arange(num_draws)
  return jax.vmap(lambda d: sample(jax.vmap(jax.random.fold_in, (0, None))(each, d)))(draws)


def check_mode(mode: str) -> None:
  """Raises a `ValueError` unless the mode is known."""
  if mode not in MODES:
    raise ValueError(f"defenses: mode must be one of {', '.join(MODES)}, got {mode!r}.")
