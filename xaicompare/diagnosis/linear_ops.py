"""Operations of torch that are linear in their tensors, or move values: no rule changes how they hand anything down."""

import operator

import torch

from xaicompare.diagnosis.recorded import batch_norm

aten = torch.ops.aten

MOVES = frozenset(
    {aten.view.default, aten._unsafe_view.default, aten.reshape.default, aten.permute.default, aten.transpose.int}
    | {aten.t.default, aten.expand.default, aten.clone.default, aten.select.int, aten.slice.Tensor, aten.alias.default}
    | {aten.squeeze.default, aten.squeeze.dim, aten.squeeze.dims, aten.unsqueeze.default, aten.cat.default}
    | {aten.stack.default, aten.split.Tensor, aten.split_with_sizes.default, aten.unbind.int, aten.roll.default}
    | {aten.index.Tensor, aten.index_select.default, aten.gather.default, aten.constant_pad_nd.default}
    | {aten.reflection_pad2d.default, aten.replication_pad2d.default, aten.flip.default, aten.repeat.default}
    | {aten.pixel_shuffle.default, aten.pixel_unshuffle.default, aten.channel_shuffle.default, aten.copy.default}
    | {aten.detach.default, aten.lift_fresh_copy.default}
    | {aten.slice_scatter.default, aten.select_scatter.default, aten.masked_fill.Scalar, aten._to_copy.default}
    | {aten.where.self, aten.im2col.default, aten.col2im.default, aten._reshape_copy.default, operator.getitem}
)
"""Values that go elsewhere, constants perhaps among them."""

MEANS = frozenset(
    {aten.mean.dim, aten.mean.default, aten.sum.dim_IntList, aten.sum.default, aten.avg_pool2d.default}
    | {aten._adaptive_avg_pool2d.default, aten.upsample_nearest2d.vec, aten.upsample_bilinear2d.vec}
    | {aten.upsample_nearest2d.default, aten.upsample_bilinear2d.default, aten.upsample_bicubic2d.default}
    | {aten.upsample_bicubic2d.vec, aten.cumsum.default}
)
"""Sums and means over positions."""

SUMS = frozenset({aten.add.Tensor, aten.sub.Tensor, aten.add_.Tensor, aten.rsub.Scalar, aten.add.Scalar})
"""Sums of branches, of constants too."""

TIMES = frozenset({aten.mul.Scalar, aten.neg.default, aten.div.Scalar, aten.div_.Scalar})
"""Products with a number."""

LINEAR = MOVES | MEANS | SUMS | {aten.mul.Scalar, aten.neg.default, batch_norm}
"""All of them but divisions."""
