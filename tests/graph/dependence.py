"""Operations on images (2, 4, 4, 5), each exported as it stands in networks: the cases of the rules of dependence."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

ATEN = torch.ops.aten
RELEASE = tuple(map(int, torch.__version__.split(".")[:2]))
SHAPE = (2, 4, 4, 5)

NEWER = (2, 15)  # 2.11 writes rows with another operation, and does not export quantiles


@dataclass(frozen=True)
class Case:
    """tight: the mask is what changes, no more. special: NaN and infinity obey the mask too. since: the torch that exports it."""

    name: str
    does: Callable[[Tensor], Tensor]
    tight: bool = True
    special: bool = True
    op: str = ""
    since: tuple[int, int] = (2, 6)


class Does(nn.Module):
    """A function of images and of constants kept as buffers, so that they are constants of the graph."""

    def __init__(self, does: Callable[[Tensor], Tensor]):
        super().__init__()
        self.does = does

    def forward(self, x: Tensor) -> Tensor:
        return self.does(x)


def drawn(*shape: int) -> Tensor:
    """Numbers without order; made without a generator, which no graph may hold."""
    return torch.arange(1.0, 1.0 + torch.Size(shape).numel()).mul(12.9898).sin().mul(3).view(shape)


KEEP = drawn(4, 5) > 0
W33, W13, WG, WT = drawn(6, 4, 3, 3), drawn(4, 4, 1, 3), drawn(6, 2, 3, 3), drawn(4, 3, 3, 2)
BLOCKS = torch.block_diag(torch.ones(2, 2), torch.ones(3, 3)).bool()
GATES = [drawn(6, 4), drawn(6, 2), drawn(6), drawn(6)]
LSTM = nn.LSTM(20, 2, bidirectional=True).eval().requires_grad_(False)
LOW = torch.zeros(5, 5).masked_fill(~BLOCKS, -torch.inf)


def sdpa(x: Tensor, **options) -> Tensor:
    return F.scaled_dot_product_attention(x * 0.7, x + 0.1, x * 1.1, **options)


def tokens(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)  # (2, 20, 4)


def halves(x: Tensor) -> tuple[Tensor, Tensor]:
    return x[:, :2], x[:, 2:]


def _written(x: Tensor, does: Callable[[Tensor], object]) -> Tensor:
    """A copy of x after `does` has written into it."""
    y = x.clone()
    does(y)
    return y


ROWS = torch.tensor([0, 2])
PLACES = torch.tensor([[2, 0], [1, 2]]).view(1, 1, 2, 2)
EDGES = torch.tensor([-1.0, 0.0, 0.5, 2.0])

EVERY = [
    Case("relu", F.relu, False),
    Case("gelu", F.gelu),
    Case("prelu", lambda x: F.prelu(x, drawn(4)), op="prelu"),
    Case("hardswish", F.hardswish, False),
    Case("clamp", lambda x: x.clamp(-1, 2), False),
    Case("clamp by a tensor", lambda x: torch.clamp(x, max=x.flip(3).detach() * 0 + x[:, :1]), False),
    Case("add, repeated", lambda x: x + x[:, :1]),
    Case("mul, two sizes", lambda x: x[:, :, :1] * x[:, :, :, :1]),
    Case("rsub", lambda x: 1 - x),
    Case("pow", lambda x: x**2),
    Case("lerp", lambda x: torch.lerp(x[:, :2], x[:, 2:], 0.25), True),
    Case("addcmul", lambda x: torch.addcmul(x, x.flip(2), x.flip(3)), True),
    Case("max of two", lambda x: torch.max(x, x.flip(3)), False),
    Case("max with a constant", lambda x: torch.max(x, drawn(1, 4, 1, 5)), False),
    Case("maximum", lambda x: torch.maximum(x[:, :2], x[:, 2:]), False),
    Case("comparison", lambda x: (x > x.flip(3)).float(), False),
    Case("glu", lambda x: F.glu(x, 1)),
    Case("where, constant", lambda x: torch.where(KEEP, x, 0.0)),
    Case("where, both", lambda x: torch.where(KEEP, x[:, :2], x[:, 2:])),
    Case("where, condition of images", lambda x: torch.where(x[:, :1] > 0, x, x.flip(3)), False),
    Case("masked_fill", lambda x: x.masked_fill(KEEP, 3.0)),
    Case("masked_fill with a value", lambda x: x.masked_fill(KEEP, x[0, 0, 0, 0])),
    Case("masked_fill, mask of images", lambda x: x.masked_fill(x[:, :1] > 0, 1.0), False),
    Case("float", lambda x: (x > 0).float(), False),
    Case("type_as", lambda x: x[:, :1].type_as(x) + 0),
    Case("type of the images", lambda x: drawn(4, 5).type_as(x) + x.mean(1, keepdim=True)),
    Case("zeros like", lambda x: torch.cat([torch.zeros_like(x), x], 1)),
    Case("new zeros of a batch", lambda x: torch.cat([x.new_zeros(x.shape[0], 4, 4, 2), x], 3)),
    Case("batch_norm, running", lambda x: F.batch_norm(x, torch.zeros(4), torch.ones(4))),
    Case("batch_norm, of the batch", lambda x: F.batch_norm(x, None, None, training=True)),
    Case("batch_norm, weight of images", lambda x: F.batch_norm(x, torch.zeros(4), torch.ones(4), x[0, :, 0, 0]), False),
    Case("instance_norm", lambda x: F.instance_norm(x)),
    Case("layer_norm", lambda x: F.layer_norm(x, (5,), drawn(5), drawn(5))),
    Case("layer_norm, two axes", lambda x: F.layer_norm(x, (4, 5))),
    Case("layer_norm, weight of images", lambda x: F.layer_norm(x, (5,), x[0, 0, 0]), False),
    Case("rms_norm", lambda x: F.rms_norm(x, (5,))),
    Case("group_norm", lambda x: F.group_norm(x, 2)),
    Case("group_norm, weight of images", lambda x: F.group_norm(x, 2, x[0, :, 0, 0]), False),
    Case("native_layer_norm", lambda x: ATEN.native_layer_norm(x, [5], None, None, 1e-5)[0], op="native_layer_norm"),
    Case("native_layer_norm's mean", lambda x: ATEN.native_layer_norm(x, [5], None, None, 1e-5)[1], False),
    Case("conv2d", lambda x: F.conv2d(x, W33, padding=1)),
    Case("conv2d, strides, holes", lambda x: F.conv2d(x, W33, stride=(2, 1), padding=(2, 3), dilation=(1, 2))),
    Case("conv2d, same", lambda x: F.conv2d(x, W13, padding="same", dilation=(1, 2))),
    Case("conv2d, same, even", lambda x: F.conv2d(x, drawn(4, 4, 2, 2), padding="same")),
    Case("conv2d, valid", lambda x: F.conv2d(x, W33, padding="valid")),
    Case("conv2d, groups", lambda x: F.conv2d(x, WG, padding=1, groups=2)),
    Case("conv2d, depthwise", lambda x: F.conv2d(x, drawn(8, 1, 3, 3), padding=1, groups=4)),
    Case("conv2d, bias of images", lambda x: F.conv2d(x, W33, x[0, :, 0].reshape(-1)[:6]), False),
    Case("conv2d, weight of images", lambda x: F.conv2d(drawn(2, 4, 3, 3), x[:1, :, :3, :3]), False),
    Case("conv2d, one image", lambda x: F.conv2d(x[0], W33, padding=1), False),
    Case("conv1d", lambda x: F.conv1d(x.flatten(2), drawn(4, 2, 3), stride=2, padding=1, groups=2)),
    Case("conv3d", lambda x: F.conv3d(x[:, None], drawn(2, 1, 3, 2, 2), padding=(1, 0, 1))),
    Case("conv_transpose2d", lambda x: F.conv_transpose2d(x, WT, stride=2, padding=1, output_padding=(0, 1))),
    Case("conv_transpose2d, groups", lambda x: F.conv_transpose2d(x, WT, groups=2, dilation=(2, 1))),
    Case("conv_transpose1d", lambda x: F.conv_transpose1d(x.flatten(2), drawn(4, 3, 4), stride=3)),
    Case("convolution", lambda x: ATEN.convolution(x, WT, None, [2, 1], [1, 0], [1, 1], True, [1, 0], 1), op="convolution"),
    Case("max_pool2d", lambda x: F.max_pool2d(x, 2)),
    Case("max_pool2d, ceil", lambda x: F.max_pool2d(x, 3, 2, 1, ceil_mode=True)),
    Case("max_pool2d, holes", lambda x: F.max_pool2d(x, 2, 1, 1, dilation=(2, 3))),
    Case("max_pool2d, one image", lambda x: F.max_pool2d(x[0], (2, 3))),
    Case("max_pool2d with places", lambda x: F.max_pool2d(x, 2, return_indices=True)[0]),
    Case("max_pool1d", lambda x: F.max_pool1d(x.flatten(2), 3, 2)),
    Case("max_pool3d", lambda x: F.max_pool3d(x, 2)),
    Case("avg_pool2d", lambda x: F.avg_pool2d(x, (3, 2), 2, 1, ceil_mode=True, count_include_pad=False)),
    Case("avg_pool1d", lambda x: F.avg_pool1d(x.flatten(2), 3, padding=1)),
    Case("adaptive_avg_pool2d", lambda x: F.adaptive_avg_pool2d(x, (3, 2))),
    Case("adaptive_avg_pool2d, larger", lambda x: F.adaptive_avg_pool2d(x, (7, None))),
    Case("adaptive_avg_pool1d", lambda x: F.adaptive_avg_pool1d(x.flatten(2), 6)),
    Case("adaptive_max_pool2d", lambda x: F.adaptive_max_pool2d(x, (3, 2))),
    Case("nearest, smaller", lambda x: F.interpolate(x.repeat(1, 1, 2, 2), (2, 3))),
    Case("nearest, by a factor", lambda x: F.interpolate(x, scale_factor=1.7)),
    Case("nearest, exact", lambda x: F.interpolate(x, (7, 3), mode="nearest-exact")),
    Case("bilinear", lambda x: F.interpolate(x, (7, 8), mode="bilinear")),
    Case("bilinear, by a small factor", lambda x: F.interpolate(x.repeat(1, 1, 3, 3), scale_factor=0.23, mode="bilinear")),
    Case("bilinear, corners", lambda x: F.interpolate(x, (6, 3), mode="bilinear", align_corners=True)),
    Case("bilinear, factor kept", lambda x: F.interpolate(x, scale_factor=1.3, mode="bilinear")),
    Case("bilinear, one axis as it is", lambda x: F.interpolate(x, (4, 10), mode="bilinear")),
    Case("linear, one axis", lambda x: F.interpolate(x.flatten(2), 7, mode="linear")),
    Case("trilinear", lambda x: F.interpolate(x[:, None], (4, 3, 10), mode="trilinear")),
    Case("bicubic", lambda x: F.interpolate(x, (7, 8), mode="bicubic")),
    Case("bicubic, by two factors", lambda x: F.interpolate(x, scale_factor=(0.5, 2.3), mode="bicubic")),
    Case("antialiased", lambda x: F.interpolate(x, (2, 2), mode="bilinear", antialias=True)),
    Case("antialiased, cubic", lambda x: F.interpolate(x, (2, 9), mode="bicubic", antialias=True)),
    Case("grid_sample", lambda x: F.grid_sample(x, x[:, :2].movedim(1, 3).tanh(), align_corners=False), False),
    Case("pad", lambda x: F.pad(x, (1, 0, 0, 2))),
    Case("pad, cropping", lambda x: F.pad(x, (-1, 0, 1, -2))),
    Case("pad, reflect", lambda x: F.pad(x, (2, 1, 0, 3), mode="reflect")),
    Case("pad, replicate", lambda x: F.pad(x, (2, 1, 0, 3), mode="replicate")),
    Case("pad, circular", lambda x: F.pad(x, (2, 1, 0, 3), mode="circular")),
    Case("reflection_pad2d", lambda x: ATEN.reflection_pad2d(x, [1, 2, 0, 1]), op="reflection_pad2d"),
    Case("mean", lambda x: x.mean((2, 3))),
    Case("mean, kept", lambda x: x.mean(-1, keepdim=True)),
    Case("mean of all", lambda x: x.mean()),
    Case("sum", lambda x: x.sum(1)),
    Case("amax", lambda x: x.amax((-2, -1))),
    Case("max along", lambda x: x.max(dim=2).values),
    Case("places of the largest", lambda x: x.max(dim=2).indices.float(), False),
    Case("var_mean", lambda x: torch.var_mean(x, (2, 3), keepdim=True)[0]),
    Case("std", lambda x: x.std(1)),
    Case("vector_norm", lambda x: torch.linalg.vector_norm(x, dim=1)),
    Case("norm", lambda x: x.norm(dim=(2, 3), keepdim=True)),
    Case("normalize", lambda x: F.normalize(x, dim=1)),
    Case("logsumexp", lambda x: x.logsumexp(1)),
    Case("argmax", lambda x: x.argmax(1).float(), False),
    Case("prod", lambda x: x.prod(2)),
    Case("softmax", lambda x: x.softmax(-1), False),
    Case("log_softmax", lambda x: x.log_softmax(1)),
    Case("_softmax", lambda x: ATEN._softmax(x, 2, False), False, op="_softmax"),
    Case("cumsum", lambda x: x.cumsum(2)),
    Case("cumprod", lambda x: x.cumprod(3), False),
    Case("tensordot", lambda x: torch.tensordot(x, drawn(4, 3), ([1], [0])), op="tensordot"),
    Case("tensordot, both", lambda x: torch.tensordot(x[:, :2], x[0, 2:, 0], ([3], [1])), op="tensordot"),
    Case("fill in place", lambda x: _written(x, lambda y: y[:, :, 1:3].fill_(0.5)), op="fill"),
    Case("fill in place with a value", lambda x: _written(x, lambda y: y[:, :, 1:3].fill_(x[0, 0, 0, 0]))),
    Case("zero in place", lambda x: _written(x, lambda y: y[:, :, 1:3].zero_())),
    Case("detach", lambda x: (x * 2).detach() + 1, op="detach"),
    Case("rows filled", lambda x: x.index_fill(1, ROWS, 0.5), op="index_fill"),
    Case("rows written over", lambda x: _written(x, lambda y: y.__setitem__((slice(None), [0, 2]), 0.5)), op="index_fill", since=NEWER),
    Case("columns written over", lambda x: _written(x, lambda y: y.__setitem__((..., torch.tensor([0, 2])), x[..., [3, 1]])), op="index_put"),
    Case("scatter", lambda x: x.scatter(3, PLACES[:, :, :1].expand(x.shape[0], 4, 4, 2), x.flip(2)), op="scatter"),
    Case("scatter of a number", lambda x: x.scatter(3, PLACES[:, :, :1].expand(x.shape[0], 4, 4, 2), 0.5)),
    Case("scatter_add", lambda x: x.scatter_add(2, PLACES[:, :, :, :1].expand(x.shape[0], 4, 2, 5), x[:, :, :2]), op="scatter_add"),
    Case("scatter_reduce", lambda x: torch.zeros_like(x).scatter_reduce(3, PLACES[:, :, :1].expand(x.shape[0], 4, 4, 2), x, "sum"), op="scatter_reduce"),
    Case("scatter_reduce of places of images", lambda x: x.scatter_reduce(3, (x > 0).long(), x, "amax"), False),
    Case("embedding", lambda x: F.embedding((x > 0).long(), drawn(2, 3)), False, op="embedding"),
    Case("embedding, table of images", lambda x: F.embedding(ROWS, x[0, 0]), False, op="embedding"),
    Case("bucketize", lambda x: torch.bucketize(x, EDGES).float(), False, op="bucketize"),
    Case("searchsorted", lambda x: torch.searchsorted(EDGES, x).float(), False, op="searchsorted"),
    Case("complex", lambda x: torch.view_as_real(torch.complex(x[:, :2], x[:, 2:])), False, op="view_as_real"),
    Case("complex of pairs", lambda x: torch.view_as_complex(x[..., :4].unflatten(3, (2, 2)).contiguous()).abs(), op="view_as_complex"),
    Case("index_put of images", lambda x: x.index_put((torch.tensor([0, 1]),), x.flip(2)), op="index_put"),
    Case("index_put, added", lambda x: x.index_put((torch.tensor([0, 0]),), x.flip(2), accumulate=True)),
    Case("index by a mask", lambda x: x[:, :, KEEP]),
    Case("copy into memory as it was", lambda x: torch.empty(x.shape[0], 4, 4, 5).copy_(x[:, :1])),
    Case("sort", lambda x: x.sort(2).values, False),
    Case("topk", lambda x: x.topk(2, 1).values, False),
    Case("linear", lambda x: F.linear(x, drawn(3, 5), drawn(3))),
    Case("linear, weight of images", lambda x: F.linear(x, x[0, 0]), False),
    Case("linear, bias of images", lambda x: F.linear(x, drawn(5, 5), x[0, 0, 0]), False),
    Case("matmul", lambda x: x @ x.transpose(2, 3)),
    Case("matmul, constant left", lambda x: drawn(3, 4) @ x),
    Case("matmul, vector", lambda x: x @ drawn(5)),
    Case("matmul, repeated", lambda x: x[:, :1] @ x.transpose(2, 3)),
    Case("matmul, vector of images", lambda x: x @ x[0, 0, 0], False),
    Case("bmm", lambda x: torch.bmm(x[:, 0], x[:, 1].transpose(1, 2))),
    Case("mm", lambda x: torch.mm(x[:, 0, 0], drawn(5, 3))),
    Case("addmm", lambda x: torch.addmm(x[:, 0, 0, :3], x[:, 1, 1], drawn(5, 3))),
    Case("baddbmm", lambda x: torch.baddbmm(x[:, 2, :, :4], x[:, 0], x[:, 1].transpose(1, 2))),
    Case("einsum", lambda x: torch.einsum("bchw,bkhw->bck", x[:, :2], x[:, 2:])),
    Case("einsum, constant", lambda x: torch.einsum("bchw,dc->bdhw", x, drawn(3, 4))),
    Case("einsum, rest", lambda x: torch.einsum("b...w,wv->b...v", x, drawn(5, 2))),
    Case("attention", lambda x: sdpa(x.transpose(2, 3)), False, False),
    Case("attention, causal", lambda x: sdpa(x.transpose(2, 3), is_causal=True), False),
    Case("attention, allowed", lambda x: sdpa(x.transpose(2, 3), attn_mask=BLOCKS), False),
    Case("attention, minus infinity", lambda x: sdpa(x.transpose(2, 3), attn_mask=LOW), False),
    Case("attention, mask of images", lambda x: sdpa(x, attn_mask=x[:, :, :, :4] > 0), False, False),
    Case("attention, other lengths", lambda x: F.scaled_dot_product_attention(drawn(1, 4, 3, 5).expand(x.shape[0], -1, -1, -1), x, x), False, False),
    Case("attention of shared heads", lambda x: F.scaled_dot_product_attention(x, x[:, :2], x[:, :2], enable_gqa=True), False, False),
    Case("softmax of masked scores", lambda x: (tokens(x)[:, :5] @ drawn(4, 5) + LOW).softmax(-1), False, False),
    Case("view", lambda x: x.view(-1, 4, 20)),
    Case("view of the batch", lambda x: x.view(x.shape[0] * 2, 2, 4, 5)),
    Case("permute", lambda x: x.permute(0, 2, -1, 1)),
    Case("transpose", lambda x: x.transpose(-1, 1)),
    Case("expand", lambda x: x[:, :1].expand(-1, 3, -1, -1)),
    Case("expand_as", lambda x: x[:, :1].expand_as(x)),
    Case("slice", lambda x: x[:, 1:3, ::2, -3:]),
    Case("select", lambda x: x[:, -1]),
    Case("cat", lambda x: torch.cat([x, drawn(1, 4, 4, 2).expand(x.shape[0], -1, -1, -1), x.flip(3)], -1)),
    Case("cat with whole numbers", lambda x: torch.cat([x, torch.ones(1, 4, 4, 2, dtype=torch.long).expand(x.shape[0], -1, -1, -1)], -1)),
    Case("stack", lambda x: torch.stack(halves(x), 2)),
    Case("unbind", lambda x: x.unbind(1)[2]),
    Case("split", lambda x: x.split([1, 3], 1)[1]),
    Case("chunk", lambda x: torch.cat(x.chunk(2, 1)[::-1], 1)),
    Case("tensor_split", lambda x: x.tensor_split(3, -1)[1]),
    Case("flip", lambda x: x.flip((1, 3))),
    Case("roll", lambda x: x.roll((1, -2), (2, 3))),
    Case("roll of all", lambda x: torch.roll(x, 7)),
    Case("unfold", lambda x: x.unfold(3, 3, 2)),
    Case("im2col", lambda x: F.unfold(x, (2, 3), padding=1, stride=2, dilation=(2, 1))),
    Case("pixel_shuffle", lambda x: F.pixel_shuffle(x, 2)),
    Case("pixel_unshuffle", lambda x: F.pixel_unshuffle(x[:, :, :, :4], 2)),
    Case("channel_shuffle", lambda x: F.channel_shuffle(x, 2)),
    Case("squeeze", lambda x: x[:, :1].squeeze(1)),
    Case("flatten, unflatten", lambda x: x.flatten(1).unflatten(1, (5, -1))),
    Case("narrow", lambda x: x.narrow(-1, 1, 2)),
    Case("narrow from a constant place", lambda x: torch.narrow(x, 2, torch.tensor(1), 2), op="narrow"),
    Case("split at constant places", lambda x: torch.tensor_split(x, torch.tensor([1]), 3)[1], op="tensor_split"),
    Case("index_select", lambda x: x.index_select(-1, torch.tensor([4, 0, 0]))),
    Case("index", lambda x: x[:, torch.tensor([3, 1])]),
    Case("index of two axes", lambda x: x[:, :, torch.tensor([3, 1]), torch.tensor([0, 4])]),
    Case("index of images", lambda x: drawn(9, 3)[(x[:, 0, 0] > 0).long()], False),
    Case("gather", lambda x: x.gather(3, torch.tensor([4, 1]).expand(x.shape[0], 4, 4, 2))),
    Case("gather by images", lambda x: x.gather(3, (x > 0).long()), False),
    Case("gather of few by images", lambda x: x.flip(3).gather(3, (x[:, :3, :, :2] > 0).long()), False),
    Case("choosing a constant", lambda x: drawn(1, 4, 1, 5).expand(x.shape[0], 4, 4, 5).gather(3, (x > 0).long()), op="gather"),
    Case("deform_conv2d", lambda x: deform_conv2d(x, x.repeat(1, 5, 1, 1)[:, :18], drawn(2, 4, 3, 3), padding=1), False, special=False),
    Case("repeat", lambda x: x.repeat(1, 2, 1, 1)),
    Case("repeat_interleave", lambda x: x.repeat_interleave(2, -1)),
    Case("diagonal", lambda x: x.diagonal(0, 2, 3)),
    Case("tril", lambda x: x.tril()),
    Case("select_scatter", lambda x: x.select_scatter(x[:, 0], 1, 2)),
    Case("slice_scatter", lambda x: x.slice_scatter(drawn(1, 1, 4, 5).expand(x.shape[0], -1, -1, -1), 1, 0, 1)),
    Case("item of several", lambda x: torch.var_mean(x, 1)[-1]),
    Case("aminmax", lambda x: torch.aminmax(x, dim=2)[0], False),
    Case("kthvalue", lambda x: torch.kthvalue(x, 2, 1)[0], False),
    Case("mode", lambda x: x.mode(2, keepdim=True)[0], False),
    Case("quantile", lambda x: x.quantile(0.3, 3), False, since=NEWER),
    Case("several quantiles", lambda x: x.quantile(torch.tensor([0.2, 0.7]), 1, keepdim=True).movedim(0, 1), False, since=NEWER),
    Case("linalg_norm", lambda x: torch.linalg.norm(x, dim=(2, 3)), op="linalg_norm"),
    Case("cummax", lambda x: x.cummax(2)[0], False),
    Case("places of cummin", lambda x: x.cummin(3)[1].float(), False),
    Case("logcumsumexp", lambda x: x.logcumsumexp(2), False),
    Case("fft2", lambda x: torch.fft.fft2(x).abs(), op="fft_fft2"),
    Case("rfft along an axis", lambda x: torch.view_as_real(torch.fft.rfft(x, dim=1)).sum(-1), False, op="fft_rfft", since=(2, 7)),
    Case("imaginary part", lambda x: torch.fft.rfft2(x).imag, False, since=(2, 7)),
    Case("irfft2", lambda x: torch.fft.irfft2(torch.fft.rfft2(x) * 2, s=(4, 5)), False, op="fft_irfft2", since=(2, 7)),
    Case("fftn of the last axes", lambda x: torch.fft.fftn(x, s=(3, 4)).real, False, op="fft_fftn"),
    Case("fftn of axis 0 of an image", lambda x: torch.fft.fftn(x, dim=(1,)).real, False),
    Case("fftshift", lambda x: torch.fft.fftshift(x, dim=(2, 3)), op="fft_fftshift"),
    Case("cosine_similarity", lambda x: F.cosine_similarity(x[:, :, None, 0], drawn(3, 5), -1), False),
    Case("cosine_similarity of images", lambda x: F.cosine_similarity(*halves(x), 3), False, op="cosine_similarity"),
    Case("cdist", lambda x: torch.cdist(tokens(x), drawn(3, 4)), False, op="cdist"),
    Case("cdist of images", lambda x: torch.cdist(x[:, :2], x[:, 2:]), False, op="cdist"),
    Case("pairwise_distance", lambda x: F.pairwise_distance(x.flatten(1), drawn(1, 80)), False),
    Case("bilinear", lambda x: F.bilinear(x, x.flip(2), drawn(3, 5, 5), drawn(3)), False, op="bilinear"),
    Case("gru", lambda x: torch.gru(x.mean(3), drawn(1, 1, 2).expand(1, x.shape[0], 2), GATES, True, 1, 0.0, False, False, True)[0], False),
    Case("lstm both ways", lambda x: LSTM(x.flatten(2).transpose(0, 1))[0].transpose(0, 1), False, op="lstm"),
    Case("last states", lambda x: LSTM(x.flatten(2).transpose(0, 1))[1][0].transpose(0, 1), False),
    Case("fold", lambda x: F.fold(F.unfold(x, (2, 3), padding=1), (4, 5), (2, 3), padding=1), op="col2im"),
    Case("max_unpool2d", lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2, output_size=(4, 5)), False, op="max_unpool2d"),
    Case("spelt out: cross product", lambda x: torch.linalg.cross(x[:, :3], x[:, :3].flip(3), dim=1), False),
    Case("no rule: scatter", lambda x: torch.zeros_like(x).scatter(3, (x > 0).long(), x), False),
    Case("no rule: inverse", lambda x: torch.linalg.inv(x[..., :4]), False, False),
    Case("spelt out: renorm", lambda x: torch.renorm(x, 2, 0, 1.0), False),
    Case("spelt out: other names", lambda x: torch.absolute(torch.multiply(x, drawn(5))).subtract_(drawn(4, 1)), False, op="mul"),
    Case("spelt out: diff", lambda x: torch.diff(x, dim=3)),
    Case("spelt out: one_hot", lambda x: F.one_hot(x.argmax(1), 4), False),
    Case("spelt out: index_add", lambda x: torch.zeros_like(x).index_add(3, torch.tensor([4, 2, 1, 0, 2]), x), op="index_put"),
    Case("spelt out: affine_grid", lambda x: F.affine_grid(x.mean((2, 3))[:, :1, None] * torch.eye(2, 3), (x.shape[0], 1, 3, 3)), False),
]  # fmt: skip
CASES = [case for case in EVERY if case.since <= RELEASE]
