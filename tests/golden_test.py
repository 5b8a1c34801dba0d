# SPDX-License-Identifier: Apache-2.0
"""Draws stay the draws: fingerprints of the registries, and of a few functions more, for one key.

`python tests/golden_test.py --update` writes them anew (a release note is due: published numbers
change); `--digest` prints SHA-256 sums, equal only on one machine with one version of JAX.
"""

import hashlib
import inspect
import json
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixboost_jax import attacks, augment, corruptions, defenses, interactions, keys, masks

FILE = pathlib.Path(__file__).with_name("golden_draws.json")
KEY = jax.random.key(20_261_127)
OPTIONS = {
  "cutout": {"length": 8},
  "gaussian_blur": {"radius": 3},
  "gaussian_noise": {"sigma": 0.1},
  "random_crop": {"padding": 4},
  "random_resized_crop": {"size": 32},
}
NUM_WAVES = 4
CLOSE = 5e-3  # some values at the edge of a level; a changed draw moves every wave by about 0.1


def pictures(num=4, height=32, width=32):
  rng = np.random.default_rng(5)
  coarse = np.kron(rng.uniform(size=(num, height // 4, width // 4, 3)), np.ones((1, 4, 4, 1)))
  noise = rng.uniform(size=coarse.shape)
  return jnp.asarray(np.floor((0.7 * coarse + 0.3 * noise) * 255) / 255, jnp.float32)


def logits_fn(images):
  weights = jnp.asarray(np.random.default_rng(6).normal(size=(images[0].size, 4)), jnp.float32)
  return jnp.tanh(images.reshape(len(images), -1) @ weights / 8) * 3


def augmentation(name):
  mixing = jnp.asarray(np.random.default_rng(1).integers(0, 256, (5, 36, 36, 3)), jnp.uint8)
  built = augment.build({"name": name, **OPTIONS.get(name, {})}, mixing_images=mixing)
  return built(KEY, pictures(), jax.nn.one_hot(jnp.arange(4), 4))


def corruption(name):
  table = "cifar" if name in corruptions.SEVERITIES["cifar"] else "imagenet"
  return corruptions.corrupt(KEY, pictures(2), name=name, severity=3, table=table)


def film(name):
  return corruptions.perturb_sequence(KEY, pictures(1)[0], name=name)


def attack(name):
  options = {"epsilon": 0.1, "num_steps": 2, "num_queries": 5, "step_size": 0.02}
  known = inspect.signature(attacks.ATTACKS[name]).parameters
  chosen = {option: value for option, value in options.items() if option in known}
  images = pictures(4, 8, 8)
  return attacks.ATTACKS[name](KEY, logits_fn, images, jnp.arange(4), **chosen)


def defense():
  images = pictures(8, 8, 8)
  pool = defenses.build_pool(images, jnp.arange(8) % 4, num_classes=4)
  return defenses.mixup_inference(
    KEY, logits_fn, images[:4], pool, mode="ol", mix_weight=0.5, num_draws=3
  )


def multi_order():
  games = [interactions.image_game(logits_fn, image, 0, grid=4) for image in pictures(2, 8, 8)]
  return interactions.multi_order(
    KEY, games[0], orders=(1, 7), pairs=jnp.array([[0, 1], [4, 9]]), num_contexts=8
  ).mean


CASES = {f"augment.{name}": (augmentation, name) for name in augment.AUGMENTATIONS}
CASES |= {f"corruptions.{name}": (corruption, name) for name in corruptions.CORRUPTIONS}
CASES |= {f"films.{name}": (film, name) for name in corruptions.SEQUENCES}
CASES |= {f"attacks.{name}": (attack, name) for name in attacks.ATTACKS}
CASES |= {
  "masks": (lambda: masks.sample_patch_mask(KEY, grid=16, keep_rate=0.7),),
  "masks.nested": (lambda: masks.nested_patch_masks(KEY, grid=16, r1=0.3, r2=0.7),),
  "keys": (lambda: jax.random.key_data(keys.example_keys(KEY, keys.Stream.MASK, jnp.arange(4))),),
  "mixing_images": (lambda: augment.mixing_images(KEY, 6, size=32),),
  "defenses.mixup_inference": (defense,),
  "interactions.multi_order": (multi_order,),
}


def result(name):
  function, *arguments = CASES[name]
  return [np.asarray(leaf) for leaf in jax.tree.leaves(function(*arguments))]


def fingerprint(arrays):
  """Returns the shapes, and a few waves through all values, each of the size of one value."""
  values = np.concatenate([array.astype(np.float64).ravel() for array in arrays])
  values = values / max(1.0, np.abs(values).max())
  phases = np.outer(np.sqrt([2, 3, 5, 7])[:NUM_WAVES], np.arange(values.size))
  waves = np.cos(phases) @ values / np.sqrt(values.size)
  return {"shapes": [list(array.shape) for array in arrays], "waves": waves.round(6).tolist()}


def test_every_case_is_recorded_and_no_other():
  assert set(json.loads(FILE.read_text())) == set(CASES)


@pytest.mark.parametrize("name", sorted(CASES))
def test_draws_are_the_recorded_ones(name):
  recorded = json.loads(FILE.read_text())[name]
  found = fingerprint(result(name))
  assert found["shapes"] == recorded["shapes"]
  np.testing.assert_allclose(found["waves"], recorded["waves"], atol=CLOSE)


def test_another_key_would_be_seen():
  images = np.asarray(corruptions.corrupt(KEY, pictures(2), name="gaussian_noise", severity=3))
  other = corruptions.corrupt(jax.random.key(0), pictures(2), name="gaussian_noise", severity=3)
  waves = [np.asarray(fingerprint([np.asarray(x)])["waves"]) for x in (images, other)]
  assert np.abs(waves[0] - waves[1]).max() > 4 * CLOSE


if __name__ == "__main__":
  if "--digest" in sys.argv:
    for case in sorted(CASES):
      print(hashlib.sha256(b"".join(x.tobytes() for x in result(case))).hexdigest()[:16], case)
  if "--update" in sys.argv:
    lines = [f"  {json.dumps(c)}: {json.dumps(fingerprint(result(c)))}" for c in sorted(CASES)]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")
