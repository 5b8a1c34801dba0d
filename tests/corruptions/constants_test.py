# SPDX-License-Identifier: Apache-2.0
"""The severities of the benchmarks, written out a second time from the authors' files."""

import re

import jax
import numpy as np
import pytest

from mixboost_jax import corruptions
from mixboost_jax.corruptions import _blur

# Numbers in the order of severities 1..5, entries of one severity in brackets.
CIFAR = {
  "gaussian_noise": ".04 .06 .08 .09 .10",
  "shot_noise": "500 250 100 75 50",
  "impulse_noise": ".01 .02 .03 .05 .07",
  "defocus_blur": "(.3,.4)(.4,.5)(.5,.6)(1,.2)(1.5,.1)",
  "glass_blur": "(.05,1,1)(.25,1,1)(.4,1,1)(.25,1,2)(.4,1,2)",
  "motion_blur": "(6,1)(6,1.5)(6,2)(8,2)(9,2.5)",
  "zoom_blur": "(7,.01)(12,.01)(16,.01)(21,.01)(26,.01)",
  "snow": "(.1,.2,1,.6,8,3,.95)(.1,.2,1,.5,10,4,.9)(.15,.3,1.75,.55,10,4,.9)"
  "(.25,.3,2.25,.6,12,6,.85)(.3,.3,1.25,.65,14,12,.8)",
  "frost_procedural": "(1,.2)(1,.3)(.9,.4)(.85,.4)(.75,.45)",
  "fog": "(.2,3)(.5,3)(.75,2.5)(1,2)(1.5,1.75)",
  "brightness": ".05 .1 .15 .2 .3",
  "contrast": ".75 .5 .4 .3 .15",
  "elastic_transform": "(0,0,2.56)(1.6,6.4,2.24)(2.56,1.92,1.92)(3.2,1.28,1.6)(3.2,.96,.96)",
  "pixelate": ".95 .9 .85 .75 .65",
  "jpeg_compression": "80 65 58 50 40",
  "speckle_noise": ".06 .1 .12 .16 .2",
  "gaussian_blur": ".4 .6 .7 .8 1",
  "spatter_approximate": "(.62,.1,.7,.7,.5,0)(.65,.1,.8,.7,.5,0)(.65,.3,1,.69,.5,0)"
  "(.65,.1,.7,.69,.6,1)(.65,.1,.5,.68,.6,1)",
  "saturate": "(.3,0)(.1,0)(1.5,0)(2,.1)(2.5,.2)",
  "blue_noise_sample": ".7 1.4 2.1 3.5 4.2",
  "checkerboard_cutout": "1 2 3 4 5",
  "inverse_sparkles": "1 1.5 2.5 4.5 5",
  "pinch_and_twirl": "5.5 6 6.5 8.5 10",
  "ripple": "5.5 6 6.5 7.5 8",
  "brownish_noise": "2.5 4 5.5 6.5 7",
  "circular_motion_blur": "2.8 3.6 4.4 5.2 6",
  "lines": ".5 1 1.5 2 2.5",
  "sparkles": ".7 3.5 5.6 6.3 7",
  "transverse_chromatic_abberation": "1 2 5 9 10",
}
IMAGENET = {
  "gaussian_noise": ".08 .12 .18 .26 .38",
  "shot_noise": "60 25 12 5 3",
  "impulse_noise": ".03 .06 .09 .17 .27",
  "defocus_blur": "(3,.1)(4,.5)(6,.5)(8,.5)(10,.5)",
  "glass_blur": "(.7,1,2)(.9,2,1)(1,2,3)(1.1,3,2)(1.5,4,2)",
  "motion_blur": "(10,3)(15,5)(15,8)(15,12)(20,15)",
  "zoom_blur": "(12,.01)(16,.01)(11,.02)(13,.02)(11,.03)",
  "snow": "(.1,.3,3,.5,10,4,.8)(.2,.3,2,.5,12,4,.7)(.55,.3,4,.9,12,8,.7)"
  "(.55,.3,4.5,.85,12,8,.65)(.55,.3,2.5,.85,12,12,.55)",
  "frost_procedural": "(1,.4)(.8,.6)(.7,.7)(.65,.7)(.6,.75)",
  "fog": "(1.5,2)(2,2)(2.5,1.7)(2.5,1.5)(3,1.4)",
  "brightness": ".1 .2 .3 .4 .5",
  "contrast": ".4 .3 .2 .1 .05",
  "elastic_transform": "(488,170.8,24.4)(488,19.52,48.8)(12.2,2.44,4.88)(17.08,2.44,4.88)"
  "(29.28,2.44,4.88)",
  "pixelate": ".6 .5 .4 .3 .25",
  "jpeg_compression": "25 18 15 10 7",
  "speckle_noise": ".15 .2 .35 .45 .6",
  "gaussian_blur": "1 2 3 4 6",
  "spatter_approximate": "(.65,.3,4,.69,.6,0)(.65,.3,3,.68,.6,0)(.65,.3,2,.68,.5,0)"
  "(.65,.3,1,.65,1.5,1)(.67,.4,1,.65,1.5,1)",
  "saturate": "(.3,0)(.1,0)(2,0)(5,.1)(20,.2)",
  "caustic_refraction": "2.35 3.2 4.9 6.6 9.15",
  "inverse_sparkles": "1 2 4 9 10",
  "sparkles": "1 2 3 5 6",
  "perlin_noise": "4.6 5.2 5.8 7.6 8.8",
  "blue_noise_sample": ".8 1.6 2.4 4 5.6",
  "plasma_noise": "4.75 7 8.5 9.25 10",
  "checkerboard_cutout": "2 3 4 5 6",
  "cocentric_sine_waves": "3 5 8 9 10",
  "single_frequency_greyscale": "1 1.5 2 4.5 5",
  "brownish_noise": "1 2 3 4 5",
}


@pytest.mark.parametrize(("table", "written"), [("cifar", CIFAR), ("imagenet", IMAGENET)])
def test_all_severities_are_those_of_the_benchmarks(table, written):
  assert set(written) == set(corruptions.SEVERITIES[table])
  for name, text in written.items():
    numbers = [float(n) for n in re.findall(r"[\d.]+", text)]
    have = [
      float(value)
      for severity in range(1, 6)
      for value in corruptions.parameters(name, severity=severity, table=table).values()
    ]
    assert have == pytest.approx(numbers), name


def test_films_have_the_strengths_of_the_benchmarks():
  for kind, cifar, imagenet in (
    ("gaussian", (0.02, 0.04, 0.06), (0.03, 0.05, 0.08)),
    ("shot", (700, 400, 200), (300, 120, 60)),
    ("speckle", (0.05, 0.07, 0.1), (0.05, 0.1, 0.15)),
  ):
    films = [corruptions.SEQUENCES[f"{kind}_noise{suffix}"] for suffix in ("", "_2", "_3")]
    assert tuple(film.cifar["strength"] for film in films) == cifar
    assert tuple(film.imagenet["strength"] for film in films) == imagenet
  motion = corruptions.SEQUENCES["motion_blur"]
  assert motion.cifar == {"radius": 6, "sigma": 1.8, "first": -180, "step": 9, "num_frames": 21}
  assert motion.imagenet == {"radius": 10, "sigma": 3, "first": -120, "step": 4, "num_frames": 31}
  assert corruptions.SEQUENCES["scale"].cifar == {"change": "factor", "first": 0.7, "step": 0.02}
  assert corruptions.SEQUENCES["tilt"].imagenet == {"step": 1.0}


def test_motion_blur_cuts_levels(images):
  """As ImageMagick does: 0.9 of a level is no level."""
  key = jax.random.key(3)
  out = corruptions.corrupt(key[None], images[:1], name="motion_blur", severity=4)
  exact = np.asarray(_blur.motion_blur(key, images[0], radius=8, sigma=2)) * 255
  np.testing.assert_allclose(np.asarray(out[0]) * 255, np.floor(exact + 0.01), atol=1.01)
  same = np.round(np.asarray(out[0]) * 255) == np.floor(exact + 0.002)
  assert same.mean() > 0.99


def test_zoom_blur_of_small_and_large_pictures_is_one_map(images, monkeypatch):
  small = _blur.zoom_blur(images[0], num_zooms=5, step=0.04)
  monkeypatch.setattr(_blur, "_DENSE_PIXELS", 0)
  np.testing.assert_allclose(_blur.zoom_blur(images[0], num_zooms=5, step=0.04), small, atol=2e-6)
