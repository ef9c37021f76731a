// NADE's logits in one pass per image, with gradients: libtorch's operations would make [N, B, H] tensors.
//
//   a_0 = c,  h_k = sigmoid(a_k),  logits[b, k, l] = sum_h h_k[h] V[k, h, l],  a_{k+1} = a_k + W[k] x[b, k]
//
// and backward, for k from N - 1 down to 0, with D = 0 at first and g the gradient of the logits:
//
//   dx[b, k] = W[k] . D,  dW[k] += x[b, k] D,  dV[k, :, l] += g[b, k, l] h_k,
//   D += h_k (1 - h_k) sum_l g[b, k, l] V[k, :, l],  and last dc += D.
//
// x [B, N] in draw order, W [N, H], c [H], V [N, H, L]. Hidden units are independent but for the sums of the logits and
// of dx, so they are packed in slices of 16: W [S, N, 16], c [S, 16], V [S, N, L, 16], zeros behind H. Packing is
// libtorch's, so that autograd unpacks the gradients. Threads share images forward and slices backward: the bits do not
// depend on their number. kernels/nade.rs counts bytes and operations.
#include "../api.h"
#include "loops.h"
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <algorithm>
#include <cstring>
#include <torch/csrc/autograd/custom_function.h>

namespace {

constexpr int SLICE = 16;           // hidden units side by side
constexpr int GROUP = 4;            // slices whose logits are added in registers
constexpr int TILE = 16;            // sums over lanes that are taken together
constexpr int FORWARD_IMAGES = 4;   // images that share each load of W and V
constexpr int BACKWARD_IMAGES = 4;

struct Nade {
  const float *xs, *ws, *bs, *vs;
  float* logits;
  int64_t images, pixels, slices, levels;
};

struct NadeGrads {
  const float* logits;
  float *xs, *ws, *bs, *vs;  // xs [S, B, N] for the caller to sum, or null
};

typedef float Four __attribute__((vector_size(16)));
typedef int32_t FourIndices __attribute__((vector_size(16)));

// Sums of four rows of 16.
inline Four sum_rows(const float (*rows)[SLICE]) {
  Four r[4];
  for (int i = 0; i < 4; i++) {
    Four quarters[4];
    memcpy(quarters, rows[i], sizeof quarters);
    r[i] = (quarters[0] + quarters[1]) + (quarters[2] + quarters[3]);
  }
  const FourIndices low{0, 4, 1, 5}, high{2, 6, 3, 7}, left{0, 1, 4, 5}, right{2, 3, 6, 7};
  const Four x = __builtin_shuffle(r[0], r[1], low) + __builtin_shuffle(r[0], r[1], high);
  const Four y = __builtin_shuffle(r[2], r[3], low) + __builtin_shuffle(r[2], r[3], high);
  return __builtin_shuffle(x, y, left) + __builtin_shuffle(x, y, right);
}

inline void add_tile(float* logits, const float (*rows)[SLICE]) {
  for (int r = 0; r < TILE; r += 4) {
    Four sums;
    memcpy(&sums, logits + r, sizeof sums);
    sums += sum_rows(rows + r);
    memcpy(logits + r, &sums, sizeof sums);
  }
}

inline void add_rows(float* logits, const float (*rows)[SLICE], int64_t count) {
  for (int64_t r = 0; r < count; r++) {
    float sum = 0;
    for (int j = 0; j < SLICE; j++) sum += rows[r][j];
    logits[r] += sum;
  }
}

namespace plain {
#define LANES 4
#define TARGET
#include "nade_lanes.h"
}  // namespace plain

#ifdef __x86_64__
namespace avx2 {
#define LANES 8
#define TARGET __attribute__((target("avx2,fma")))
#include "nade_lanes.h"
}  // namespace avx2

namespace avx512 {
#define LANES 16
#define TARGET __attribute__((target("avx512f")))
#include "nade_lanes.h"
}  // namespace avx512
#endif

struct Loops {
  void (*forward)(const Nade&, int64_t from, int64_t to);
  void (*backward)(const Nade&, const NadeGrads&, int64_t slice, float* hs);
};

Loops loops() {
#ifdef __x86_64__
  if (cl::simd() == cl::AVX512) return {avx512::forward, avx512::backward};
  if (cl::simd() == cl::AVX2) return {avx2::forward, avx2::backward};
#endif
  return {plain::forward, plain::backward};
}

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

Nade problem(const at::Tensor& xs, const at::Tensor& ws, const at::Tensor& bs, const at::Tensor& vs) {
  return {xs.const_data_ptr<float>(), ws.const_data_ptr<float>(), bs.const_data_ptr<float>(),
          vs.const_data_ptr<float>(), nullptr, xs.size(0), xs.size(1), ws.size(0), vs.size(2)};
}

// Contiguous x [B, N] and packed W [S, N, 16], c [S, 16], V [S, N, L, 16] to logits [B, N, L].
struct NadeLogits : torch::autograd::Function<NadeLogits> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& xs, const at::Tensor& ws, const at::Tensor& bs,
                            const at::Tensor& vs) {
    const Loops kernel = loops();
    Nade n = problem(xs, ws, bs, vs);
    at::Tensor logits = at::zeros({n.images, n.pixels, n.levels}, xs.options());
    n.logits = logits.mutable_data_ptr<float>();
    const int64_t blocks = (n.images + FORWARD_IMAGES - 1) / FORWARD_IMAGES;
    at::parallel_for(0, blocks, 1, [&](int64_t from, int64_t to) {
      kernel.forward(n, from * FORWARD_IMAGES, std::min(to * FORWARD_IMAGES, n.images));
    });
    ctx->save_for_backward({xs, ws, bs, vs});
    return logits;
  }

  static variable_list backward(AutogradContext* ctx, variable_list outputs) {
    CL_FIRST_DERIVATIVE("NADE's kernel");
    const Loops kernel = loops();
    const variable_list saved = ctx->get_saved_variables();
    const Nade n = problem(saved[0], saved[1], saved[2], saved[3]);
    const at::Tensor logits = outputs[0].contiguous();
    at::Tensor ws = at::zeros_like(saved[1]), bs = at::zeros_like(saved[2]), vs = at::zeros_like(saved[3]), xs;
    if (ctx->needs_input_grad(0)) xs = at::empty({n.slices, n.images, n.pixels}, saved[0].options());
    const NadeGrads grads{logits.const_data_ptr<float>(), xs.defined() ? xs.mutable_data_ptr<float>() : nullptr,
                          ws.mutable_data_ptr<float>(), bs.mutable_data_ptr<float>(), vs.mutable_data_ptr<float>()};
    at::parallel_for(0, n.slices, 1, [&](int64_t from, int64_t to) {
      at::Tensor hs = at::empty({n.pixels, BACKWARD_IMAGES, SLICE}, saved[0].options());
      for (int64_t s = from; s < to; s++) kernel.backward(n, grads, s, hs.mutable_data_ptr<float>());
    });
    if (xs.defined()) xs = xs.sum(0);
    return {xs, ws, bs, vs};
  }
};

void check(const at::Tensor& xs, const at::Tensor& ws, const at::Tensor& bs, const at::Tensor& vs) {
  for (const at::Tensor& t : {xs, ws, bs, vs})
    TORCH_CHECK(t.device().is_cpu() && t.scalar_type() == at::kFloat && t.layout() == at::kStrided,
                "NADE's kernel takes f32 tensors on the CPU, not ", t.toString());
  TORCH_CHECK(xs.dim() == 2 && ws.dim() == 2 && bs.dim() == 1 && vs.dim() == 3 && ws.size(0) == xs.size(1) &&
                  bs.size(0) == ws.size(1) && vs.size(0) == ws.size(0) && vs.size(1) == ws.size(1),
              "NADE of inputs ", xs.sizes(), " has weights ", ws.sizes(), ", ", bs.sizes(), " and ", vs.sizes());
}

at::Tensor logits(const at::Tensor& xs, const at::Tensor& ws, const at::Tensor& bs, const at::Tensor& vs) {
  check(xs, ws, bs, vs);
  const int64_t pixels = ws.size(0), hidden = ws.size(1), levels = vs.size(2);
  constexpr int64_t whole = SLICE * GROUP;
  const int64_t slices = (hidden + whole - 1) / whole * GROUP, pad = slices * SLICE - hidden;
  const auto w = at::constant_pad_nd(ws, {0, pad}).reshape({pixels, slices, SLICE}).permute({1, 0, 2});
  const auto c = at::constant_pad_nd(bs, {0, pad}).reshape({slices, SLICE});
  const auto v = at::constant_pad_nd(vs, {0, 0, 0, pad}).reshape({pixels, slices, SLICE, levels}).permute({1, 0, 3, 2});
  return NadeLogits::apply(xs.contiguous(), w.contiguous(), c.contiguous(), v.contiguous());
}

}  // namespace

// Logits [B, N, L] of `xs` [B, N] in draw order, without the output bias; f32 on the CPU.
extern "C" int cl_nade_logits(const at::Tensor* xs, const at::Tensor* ws, const at::Tensor* bs, const at::Tensor* vs,
                              at::Tensor** out) {
  CL_TRY(*out = new at::Tensor(logits(*xs, *ws, *bs, *vs)))
}
