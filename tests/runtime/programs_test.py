# SPDX-License-Identifier: Apache-2.0
"""Counts of small programs against numbers worked by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from mixboost_jax.runtime import mesh as meshes
from mixboost_jax.runtime import programs

TEXT = """\
HloModule jit_step, is_scheduled=true, input_output_alias={ {0}: (0, {}, may-alias) }, x={}

%rows (p0: f32[1000,8], p1: s32[4]) -> f32[4,8] {
  %p0 = f32[1000,8]{1,0} parameter(0)
  %p1 = s32[4]{0} parameter(1)
  ROOT %gather.1 = f32[4,8]{1,0} gather(%p0, %p1), offset_dims={1}, slice_sizes={1,8}
}

%turned (p0.1: f32[4,8]) -> f32[8,4] {
  %p0.1 = f32[4,8]{1,0} parameter(0)
  ROOT %transpose.1 = f32[8,4]{1,0} transpose(%p0.1), dimensions={1,0}
}

%body (p: (s32[], f32[8,4])) -> (s32[], f32[8,4]) {
  %p = (s32[], f32[8,4]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %v = f32[8,4]{1,0} get-tuple-element(%p), index=1
  %sum.2 = f32[8,4]{1,0} all-reduce(%v), channel_id=1, to_apply=%add, \
backend_config={"estimated_cycles":"4"}
  ROOT %t = (s32[], f32[8,4]{1,0}) tuple(%i, %sum.2)
}

%less (p.2: (s32[], f32[8,4])) -> pred[] {
  %p.2 = (s32[], f32[8,4]{1,0}) parameter(0)
  ROOT %c = pred[] constant(true)
}

ENTRY %main (a: f32[1000,8], b: s32[4], c: bf16[2,4,4,8], d: bf16[3,3,8,8]) -> (f32[8,4]) {
  %a = f32[1000,8]{1,0} parameter(0)
  %b = s32[4]{0} parameter(1)
  %c.1 = bf16[2,4,4,8]{3,2,1,0:T(8,128)(2,1)S(1)} parameter(2)
  %d = bf16[3,3,8,8]{3,2,1,0} parameter(3)
  %taken = f32[4,8]{1,0} fusion(%a, %b), kind=kLoop, calls=%rows
  %flat = f32[8,4]{1,0} fusion(%taken), kind=kInput, calls=%turned, \
backend_config={"window_config":{"estimated_cycles":"70"}}
  %conv = (f32[2,4,4,8]{3,2,1,0}, u8[0]{0}) custom-call(%c.1, %d), window={size=3x3 pad=1_1x1_1}, \
dim_labels=b01f_01io->b01f, custom_call_target="__cudnn$convForward"
  %zero = s32[] constant(0)
  %start = (s32[], f32[8,4]{1,0}) tuple(%zero, %flat)
  %loop = (s32[], f32[8,4]{1,0}) while(%start), condition=%less, body=%body, \
backend_config={"known_trip_count":{"n":"5"}}
  %out = f32[8,4]{1,0} get-tuple-element(%loop), index=1
  ROOT %result = (f32[8,4]{1,0}) tuple(%out)
}
"""


def test_a_program_that_was_worked_by_hand():
  found = programs.inspect(TEXT)
  rows = 4 * 8 * 4  # float32[4, 8]
  taken = rows + 4 * 4 + rows  # four rows of the large array, their numbers, what is written
  turned = 2 * rows
  convolved = 3 * 3 * 8 * 8 * 2 + 2 * 4 * 4 * 8 * 4  # its inputs lie on the chip
  assert found.bytes == taken + turned + convolved + 5 * 2 * rows
  assert found.kernels == 3 + 5
  assert found.collectives == {"all-reduce": (5, 5.0 * rows)}
  assert found.convolutions == {"bf16,bf16->f32": 1}
  assert (found.layout_kernels, found.layout_bytes) == (1, turned)
  assert (found.gathers, found.scatters, found.host_transfers, found.aliased) == (1, 0, 0, 1)
  assert found.loops == 0
  assert found.cycles == 70 + 5 * 4


def test_a_loop_of_unknown_length_counts_once_and_is_told():
  unknown = TEXT.replace('{"known_trip_count":{"n":"5"}}', "{}")
  found = programs.inspect(unknown)
  assert found.loops == 1
  assert found.collectives["all-reduce"][0] == 1


def test_the_real_compiler_writes_what_is_read():
  mesh = meshes.create(devices=jax.devices()[:4])
  whole, split = meshes.replicated(mesh), meshes.batch_sharding(mesh)
  inputs = jax.ShapeDtypeStruct((8, 16), jnp.float32, sharding=split)
  weights = jax.ShapeDtypeStruct((16, 32), jnp.float32, sharding=whole)
  step = jax.jit(lambda x, w: jax.grad(lambda w: jnp.sin(x @ w).sum())(w), out_shardings=whole)
  found = programs.inspect(step.lower(inputs, weights).compile().as_text() or "")
  assert sum(size for _, size in found.collectives.values()) == 16 * 32 * 4
  assert found.bytes >= (2 * 16 + 3 * 16 * 32) * 4


def flops(function, *shapes):
  return programs.flops(jax.jit(function).trace(*map(jnp.ones, shapes)).jaxpr)


def conv(stride, padding):
  return lambda x, k: jax.lax.conv_general_dilated(
    x, k, (stride, stride), [(padding, padding)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
  )


@pytest.mark.parametrize(("stride", "pairs"), [(1, 3 * 8 - 2), (2, 3 * 4 - 1)])
def test_convolutions_count_without_padding_and_gaps(stride, pairs):
  """Along an axis of 8, a kernel of 3 meets the padding twice (once with stride 2)."""
  shapes = (2, 8, 8, 5), (3, 3, 5, 7)
  forward = 2 * 2 * 5 * 7 * pairs**2
  assert flops(conv(stride, 1), *shapes) == forward
  gradients = jax.grad(lambda x, k: conv(stride, 1)(x, k).sum(), argnums=(0, 1))
  assert flops(gradients, *shapes) == 3 * forward


def test_products_loops_branches_and_devices():
  product = 2 * 4 * 5 * 6
  assert flops(lambda a, b: a @ b, (4, 5), (5, 6)) == product

  def looped(a, b):
    return jax.lax.scan(lambda c, _: (c, a @ b), 0, length=7)

  assert flops(looped, (4, 5), (5, 6)) == 7 * product

  def branched(a, b):
    return jax.lax.cond(a[0, 0] > 0, lambda: a @ b, lambda: (a @ b) + (2 * a) @ b)

  assert flops(branched, (4, 5), (5, 6)) == 2 * product
  mesh = meshes.create(devices=jax.devices()[:4])
  spread = jax.shard_map(
    lambda a: a @ a.T, mesh=mesh, in_specs=PartitionSpec(meshes.AXES), out_specs=PartitionSpec(),
    check_vma=False,
  )  # fmt: skip
  assert flops(spread, (8, 3)) == 4 * 2 * 2 * 3 * 2


def test_sizes_of_types():
  assert programs.size_of("(bf16[2,3]{1,0:T(8,128)(2,1)}, pred[5]{0}, s4[8], u32[]{:S(2)})") == 21
  assert programs.size_of("f32[4]{0:S(1)}") == 0
  assert programs.size_of("f32[4]{0:S(1)}", everywhere=True) == 16
  assert np.isclose(programs.size_of("f8e4m3fn[10]"), 10)


@pytest.mark.parametrize(
  "gather",
  [
    "%whole = f32[8,4]{1,0} all-gather(%part), dimensions={0}",
    "%whole = (f32[2,4]{1,0}, f32[8,4]{1,0}) all-gather-start(%part), dimensions={0}",
  ],
)
def test_an_all_gather_counts_what_comes_out(gather):
  lines = ["ENTRY %main (part: f32[2,4]) -> f32[8,4] {", "  %part = f32[2,4]{1,0} parameter(0)"]
  found = programs.inspect("\n".join([*lines, f"  {gather}", "}"]))
  assert found.collectives == {"all-gather": (1, 8 * 4 * 4.0)}
