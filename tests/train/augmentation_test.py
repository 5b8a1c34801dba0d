# SPDX-License-Identifier: Apache-2.0

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_trainer import dataset

from configs import base
from mixboost_jax import augment, corruptions, jobs, keys, settings
from mixboost_jax.train import augmentation

FOG = {"name": "corrupt", "corruption": "fog", "severity": 3}


def test_corruptions_can_be_trained_on(images):
  labels = jnp.eye(8)
  key = jax.random.key(0)
  fn = augment.build(FOG, table=augmentation.POLICIES)
  changed, same = fn(key, images, labels)
  wanted = corruptions.corrupt(key, images, name="fog", severity=3)
  np.testing.assert_array_equal(changed, wanted)
  np.testing.assert_array_equal(same, labels)


def test_whoever_trains_on_a_benchmark_is_told():
  nested = {"name": "choice", "options": ({"name": "none"}, FOG, FOG)}
  (line,) = augmentation.policy_warnings(nested)
  assert "training on 'fog', which belongs to the benchmark lists c:" in line
  assert augmentation.policy_warnings({"name": "cutout", "length": 4}) == []


def test_wrong_corruptions_are_found_before_a_run():
  assert augmentation.policy_problem(FOG) is None
  wrong = augmentation.policy_problem({**FOG, "corruption": "smog"}) or ""
  assert wrong.startswith("corruption: expected one of gaussian_noise, ")
  assert wrong.endswith(" got 'smog'")
  wrong = augmentation.policy_problem({**FOG, "severity": 6})
  assert wrong == "severity: expected 1, 2, 3, 4 or 5, got 6"
  assert "also needs severity" in (
    augmentation.policy_problem({"name": "corrupt", "corruption": "fog"}) or ""
  )


def test_a_config_may_choose_the_kinds_of_pictures_to_mix_with():
  chosen = {"augment.mixing_families": ("dead_leaves",), "augment.num_mixing_images": 3}
  config = base.override(base.get_config(), {**base.VARIANTS["pixmix"], **chosen})
  resolved = settings.resolve(config, checks=jobs.CHECKS)
  found = augmentation.mixing_pictures(resolved, dataset())
  key = keys.stream_key(keys.root_key(0), keys.Stream.DATA)
  wanted = augment.mixing_images(key, 3, size=36, families=("dead_leaves",))
  np.testing.assert_array_equal(found, np.asarray(wanted * 255).round())
  config.augment.mixing_families = ("leaves",)
  with pytest.raises(settings.ConfigError, match=r"mixing_families: expected some of \('ifs', "):
    settings.resolve(config, checks=jobs.CHECKS)
