# SPDX-License-Identifier: Apache-2.0
"""The checkable claims of the papers, with their numbers; `claims.py` decides them."""

import itertools
from collections.abc import Sequence
from typing import Any

from mixboost_jax.report.claims import (
  Claim,
  Conditions,
  Correlates,
  Lower,
  Near,
  Positive,
  Side,
  Source,
)
from mixboost_jax.report.tables import STANDARD, Column

# What was measured.


def column(metric: str) -> Column:
  """A number on the pictures themselves, a metric or `CURVE.FIELD@LOW-HIGH`."""
  return Column(metric, "", metric)


CLEAN, C, C_BAR, P, CLEAN_RMS, C_RMS, C_BAR_RMS, PGD = STANDARD
RMS = (CLEAN_RMS, C_RMS, C_BAR_RMS)
LOW, MIDDLE, HIGH = (column(f"interaction_{band}") for band in ("low", "middle", "high"))
PROXY = column("interaction_proxy")
STRENGTH = column("interactions.strength@0-1")
DISENTANGLED = column("interactions.disentanglement@0-0.2")
UTILITY = column("interaction_attack.size@0.8-1")
PGD_L2 = tuple(Column("", f"-pgd-l2-{radius}-10", "error") for radius in (0.25, 0.5))
STRESS = Column("", "-stress", "stress:clean_radius_0.5")
CHANGE = column("interaction_change.change@0-1")
OUTLIERS = tuple(column(f"interaction_outliers.{name}@0.8-1") for name in ("average", "positive"))

# Which networks.


def net(policy: str = "none", *, boost: float = 0.0, **more: Any) -> Conditions:
  """A network by its policy; `boost` is the rate of kept cells, eq. 4 as written, weight 1."""
  keys: dict[str, Any] = {
    "augment.policy": policy,
    "augment.flip": True,
    "augment.manifold_alpha": 0.0,
    "objective.name": "mixboost" if boost else "erm",
    "objective.reduction_weight": 0.0,
    "adversary.name": "none",
    "data.name": "cifar10",
    "data.texture_agreement": 0.9,
    "data.outliers": 0,
  }
  if boost:
    keys |= {"mask.keep_rate": boost, "objective.align": "none", "objective.boost_weight": 1.0}
  return keys | {key.replace("__", "."): value for key, value in more.items()}


BASE, BOOST, PIXMIX, MIXBOOST = net(), net(boost=0.7), net("pixmix"), net("pixmix", boost=0.7)
TABLE_I = tuple(map(net, ("cutout", "mixup", "cutmix", "autoaugment", "augmix")))
CUTOUT, MIXUP, CUTMIX, AUTO, AUGMIX = TABLE_I
R9, R5 = net("pixmix", boost=0.9), net("pixmix", boost=0.5)
AT, IAT = net(adversary__name="at"), net(adversary__name="iat")
RAW, RAW_MIXUP, CLASSICAL = (
  net(policy, augment__flip=False, augment__crop_padding=0)
  for policy in ("none", "mixup", "random_crop + random_flip + color_jitter")
)


def anywhere(policy: str = "none", **more: Any) -> Conditions:
  """A network on any pictures: of several sets the one with the most seeds decides."""
  return net(policy, data__name=lambda _: True, **more)


def cue(agreement: float, policy: str) -> Conditions:
  """A network on the procedural set, by what tells the class: 1, the texture; 0.1, the shape."""
  return net(policy, data__name="shapes", data__texture_agreement=agreement)


PLAIN, CUT, ATTACKED = anywhere(), anywhere("cutout"), anywhere(adversary__name="at")
DROPPED, WHOLE = anywhere(model__dropout=lambda rate: rate > 0), anywhere(model__dropout=0.0)
REDUCED = anywhere(objective__reduction_weight=0.1)
PLANTED = anywhere(data__outliers=lambda count: count > 0, augment__flip=lambda _: True)
NOISE = "gaussian_noise"
TEXTURES, NOISY_TEXTURES = (cue(1.0, policy) for policy in ("none", NOISE))
SHAPES, NOISY_SHAPES = (cue(0.1, policy) for policy in ("none", NOISE))

# What is compared.


def lower(a: Conditions, b: Conditions, *columns: Column, paper: Any = (), **how: float) -> Lower:
  """`a` has less than `b` in each column; `paper` has its numbers, a row for each network."""
  pairs = tuple((Side(a, one), Side(b, one)) for one in columns)
  return Lower(pairs, tuple(zip(*paper, strict=True)) if paper else (), **how)


def boosted(policy: str, *paper: tuple[float, ...]) -> Lower:
  """Table III without its clean error: the boost lowers every column."""
  return lower(net(policy, boost=0.7), net(policy), C, CLEAN_RMS, C_RMS, PGD, paper=paper)


def least(a: Conditions, others: Sequence[Conditions], *columns: Column) -> Lower:
  """`a` has less than each of the others in each column."""
  return Lower(tuple((Side(a, one), Side(b, one)) for b in others for one in columns))


def most(a: Conditions, others: Sequence[Conditions], one: Column) -> Lower:
  """`a` has more than each of the others."""
  return Lower(tuple((Side(b, one), Side(a, one)) for b in others))


def ordered(one: Column, *nets: Conditions) -> Lower:
  """Each network has less than the next one."""
  return Lower(tuple((Side(a, one), Side(b, one)) for a, b in itertools.pairwise(nets)))


def audited(*pairs: Any, attack: str = "oblivious-10", paper: Any = ()) -> Lower:
  """Defended networks (network, defense) that are less accurate under an attack than others."""
  sides = ((Side(n, column(f"audit/{defense}/{attack}")) for n, defense in p) for p in pairs)
  return Lower(tuple((a, b) for a, b in sides), paper)


# fmt: off
MIXBOOST_CLAIMS = (
  Claim("Table I", "MixBoost has a lower clean error than PixMix",
        lower(MIXBOOST, PIXMIX, CLEAN, paper=((3.0,), (3.4,)))),
  Claim("Table I", "MixBoost is more robust to corruptions than PixMix",
        lower(MIXBOOST, PIXMIX, C, C_BAR, paper=((6.5, 9.0), (8.0, 11.4)))),
  Claim("Table I", "MixBoost flips fewer predictions than PixMix",
        lower(MIXBOOST, PIXMIX, P, paper=((1.2,), (1.7,)))),
  Claim("Table I", "MixBoost is better calibrated than PixMix",
        lower(MIXBOOST, PIXMIX, *RMS, paper=((2.3, 3.9, 4.4), (3.1, 4.0, 4.6)))),
  Claim("Table I", "MixBoost is more robust to PGD than PixMix",
        lower(MIXBOOST, PIXMIX, PGD, paper=((68.4,), (78.7,)))),
  Claim("Table I", "MixBoost is the best of all methods in every column",
        least(MIXBOOST, (BASE, *TABLE_I, PIXMIX), *STANDARD)),
  Claim("Sec. IV-B", "MixBoost beats PixMix by more than 10 % in most columns",
        lower(MIXBOOST, PIXMIX, *STANDARD, factor=0.9, share=0.51)),
  Claim("Table I", "The baseline's clean error", Near(Side(BASE, CLEAN), 4.0, 0.5)),
  Claim("Table I", "PixMix beats the baseline in every column",
        lower(PIXMIX, BASE, *STANDARD, paper=((3.4, 8.0, 11.4, 1.7, 3.1, 4.0, 4.6, 78.7),
                                              (4.0, 25.1, 24.9, 3.2, 6.5, 23.9, 23.1, 85.7)))),
  Claim("Table I", "mixup lowers the error under corruptions",
        lower(MIXUP, BASE, C, C_BAR, paper=((21.0, 22.1), (25.1, 24.9)))),
  Claim("Table I", "mixup calibrates worse on clean pictures",
        lower(BASE, MIXUP, CLEAN_RMS, paper=((6.5,), (12.5,)))),
  Claim("Table I", "Cutout and CutMix do not help against corruptions",
        least(BASE, (CUTOUT, CUTMIX), C)),
  Claim("Table I", "Cutout, mixup, CutMix and AutoAugment raise the error under PGD",
        least(BASE, (CUTOUT, MIXUP, CUTMIX, AUTO), PGD)),
  Claim("Table II", "The boost alone calibrates better than the baseline",
        lower(BOOST, BASE, *RMS, paper=((5.9, 22.3, 18.3), (6.5, 23.9, 23.1)))),
  Claim("Table II", "The boost alone is more robust to corruptions than the baseline",
        lower(BOOST, BASE, C, C_BAR, paper=((22.1, 19.3), (25.1, 24.9)))),
  Claim("Table II", "The boost alone is more robust to PGD than the baseline",
        lower(BOOST, BASE, PGD, paper=((71.7,), (85.7,)))),
  Claim("Table II", "On CIFAR-100 the boost alone costs clean accuracy",
        lower(net(data__name="cifar100"), net(boost=0.7, data__name="cifar100"), CLEAN)),
  Claim("Table I", "On CIFAR-100 MixBoost beats PixMix in every column",
        lower(net("pixmix", boost=0.7, data__name="cifar100"), net("pixmix", data__name="cifar100"),
              *STANDARD)),
  Claim("Table III", "The boost makes AutoAugment more robust and better calibrated",
        boosted("autoaugment", (14.87, 3.04, 9.77, 80.50), (16.06, 4.19, 12.24, 88.91))),
  Claim("Table III", "The boost makes AugMix more robust and better calibrated",
        boosted("augmix", (10.86, 3.96, 9.04, 77.87), (12.59, 5.45, 10.16, 85.42))),
  Claim("Table III", "The boost makes TrivialAugment more robust and better calibrated",
        boosted("trivial_augment_wide", (13.82, 2.44, 7.42, 80.96), (14.53, 2.79, 9.78, 89.52))),
  Claim("Fig. 2", "Augmentations weaken interactions of low order",
        most(BASE, (*TABLE_I, PIXMIX), LOW)),
  Claim("Fig. 2", "PixMix has the weakest interactions of low order",
        least(PIXMIX, (BASE, *TABLE_I), LOW)),
  Claim("Fig. 2c", "Penalising high orders weakens them", lower(MIXBOOST, PIXMIX, HIGH)),
  Claim("Fig. 2c", "Penalising high orders strengthens the middle ones: the long-rope effect",
        lower(PIXMIX, MIXBOOST, MIDDLE)),
  Claim("Fig. 5", "Errors and calibration under corruptions are best in between, at r1 = 0.7",
        least(MIXBOOST, (R9, R5), C, C_RMS)),
  Claim("Fig. 5", "The smaller r1, the less robust to PGD", ordered(PGD, R9, MIXBOOST, R5)),
  Claim("Fig. 6", "The proxy M goes with robustness to corruptions and with calibration",
        Correlates(PROXY, (C, C_BAR, C_RMS, C_BAR_RMS), -1, 0.9)),
)
INFERENCE_CLAIMS = (
  Claim("Table 2", "MI-OL defends a mixup network against oblivious PGD-10",
        audited(((MIXUP, "none"), (MIXUP, "mi-ol")), paper=((3.6, 26.1),))),
  Claim("Table 2", "MI-OL adds to interpolated adversarial training under oblivious PGD-10",
        audited(((IAT, "none"), (IAT, "mi-ol")), paper=((46.7, 64.5),))),
  Claim("Table 2", "MI-OL beats Gaussian noise, rotation and both random crops on IAT",
        audited(*(((IAT, other), (IAT, "mi-ol"))
                  for other in ("gaussian-noise", "rotation", "crop-pad", "crop-resize")),
                paper=((55.6, 64.5), (57.8, 64.5), (59.7, 64.5), (60.9, 64.5)))),
  Claim("Table 2", "MI-Combined beats MI-OL on a mixup network",
        audited(((MIXUP, "mi-ol"), (MIXUP, "mi-combined")), paper=((26.1, 33.7),))),
  Claim("Table 2", "MI-OL is of more use to a mixup network than to a plain one",
        audited(((BASE, "mi-ol"), (MIXUP, "mi-ol")), paper=((7.4, 26.1),))),
  Claim("Table 2", "MI-OL is of more use to an IAT network than to an AT network",
        audited(((AT, "mi-ol"), (IAT, "mi-ol")), paper=((56.2, 64.5),))),
  Claim("Table 2", "MI-OL costs a mixup network clean accuracy",
        audited(((MIXUP, "mi-ol"), (MIXUP, "none")), attack="clean", paper=((83.9, 93.8),))),
  Claim("Fig. 4", "MI-OL still helps an IAT network against adaptive PGD-10",
        audited(((IAT, "none"), (IAT, "mi-ol")), attack="adaptive-10")),
  Claim("Fig. 3a", "MI-PL detects adversarial pictures better than confidence alone",
        Lower(((Side(MIXUP, column("audit/auc/confidence")),
                Side(MIXUP, column("audit/auc/mi-pl"))),))),
)
REVIEW_CLAIMS = (
  Claim("1.2", "Training with mixup improves accuracy", lower(MIXUP, BASE, CLEAN)),
  Claim("1.2", "Training with mixup improves adversarial robustness", lower(MIXUP, BASE, PGD)),
  Claim("1.2", "mixup keeps clean accuracy better than AT does", lower(MIXUP, AT, CLEAN)),
  Claim("4", "Mixup and IAT networks both do better with MI-OL",
        audited(*(((one, "none"), (one, "mi-ol")) for one in (MIXUP, IAT)))),
)
LECTURE_CLAIMS = (
  Claim("Results", "Classical augmentation lowers the error", lower(CLASSICAL, RAW, CLEAN)),
  Claim("Summary", "Classical augmentation is more useful than mixup",
        lower(CLASSICAL, RAW_MIXUP, CLEAN)),
  Claim("Summary", "Classical augmentation is more robust than mixup",
        lower(CLASSICAL, RAW_MIXUP, *PGD_L2)),
  Claim("Summary", "Non-robust augmentations have more stress around test pictures",
        Correlates(PGD_L2[0], (STRESS,), 1, among={"augment.flip": False})),
)
SLIDES_CLAIMS = (
  Claim("Robustness", "Adversarial training lowers the attacking utility of high orders",
        lower(ATTACKED, PLAIN, UTILITY)),
  Claim("Robustness", "Adversarial training disentangles interactions of low order",
        lower(PLAIN, ATTACKED, DISENTANGLED)),
  Claim("Robustness", "Cutout removes interactions of high order", lower(CUT, PLAIN, HIGH)),
  Claim("Generalization", "Dropout weakens interactions", lower(DROPPED, WHOLE, STRENGTH)),
  Claim("Generalization", "Penalising interactions lowers the error", lower(REDUCED, PLAIN, CLEAN)),
  Claim("Generalization", "The stronger the interactions, the larger the error",
        Correlates(STRENGTH, (CLEAN,), 1, among={"data.texture_agreement": 0.9})),
  Claim("Concepts", "Textures are encoded with more flexibility than shapes",
        Lower(((Side(NOISY_SHAPES, CHANGE, SHAPES), Side(NOISY_TEXTURES, CHANGE, TEXTURES)),))),
  Claim("Concepts", "Outliers are told by interactions of high order",
        Positive(tuple(Side(PLANTED, one) for one in OUTLIERS))),
)
# fmt: on

LONG: dict[str, Any] = {
  "data.name": "cifar10",
  "data.note": "",
  "data.train_examples": 0,
  "train.epochs": lambda epochs: epochs >= 100,
}
SOURCES = (
  Source(
    "Liu, Jiang & Wang: MixBoost, Improving the Robustness of Deep Neural Networks by Boosting "
    "Data Augmentation",
    MIXBOOST_CLAIMS,
    {**LONG, "model.name": "wrn-40-4"},
  ),
  Source(
    "Pang, Xu & Zhu 2020: Mixup Inference, arXiv:1909.11515",
    INFERENCE_CLAIMS,
    {**LONG, "model.name": lambda name: name in ("mi-resnet-50", "preact-resnet-50")},
  ),
  Source("Kim 2022: review of arXiv:1909.11515 (KAIST)", REVIEW_CLAIMS, {}),
  Source(
    "Eghbal-zadeh 2020: On the Inductive Biases in Data Augmentation and Adversarial Robustness "
    "(lecture; arXiv:2007.02650)",
    LECTURE_CLAIMS,
    {},
  ),
  Source(
    "Zhang: Game-theoretic interactions (slides; Ren et al. 2021, arXiv:2111.03536; Zhang et al. "
    "2021, arXiv:2009.11729)",
    SLIDES_CLAIMS,
    {},
  ),
)
