// Causal self-attention of a joint projection in bfloat16, turned and attended head by head, with gradients: attention_heads.h.
// Letters: B examples, T positions, H query heads, K key and value heads, E width of a head. A thread has a row and key head
// at a time. kernels/decoder.rs counts bytes and operations.
#include "../api.h"
#include "attention_heads.h"
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/custom_function.h>

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

#ifdef CL_HAS_PAIRS
namespace {

struct Heads {
  cl::AttentionShape shape;
  int64_t rows, heads, kv_heads;

  Heads(const Tensor& joint, int64_t heads, int64_t kv_heads)
      : shape{joint.size(1), joint.size(2) / (heads + 2 * kv_heads), joint.size(2), 0},
        rows(joint.size(0)),
        heads(heads),
        kv_heads(kv_heads) {
    shape.out_stride = heads * shape.width;
  }

  // Calls `of` with a row and a key head, spread over the threads.
  template <typename F>
  void each(const F& of) const {
    at::parallel_for(0, rows * kv_heads, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) of(i / kv_heads, i % kv_heads);
    });
  }

  // Where the first query head of key head `k`, that key head, and that value head stand in row `b`.
  template <typename T>
  void places(T* joint, int64_t b, int64_t k, T** query, T** key, T** value) const {
    T* row = joint + b * shape.time * shape.stride;
    *query = row + k * (heads / kv_heads) * shape.width;
    *key = row + (heads + k) * shape.width;
    *value = row + (heads + kv_heads + k) * shape.width;
  }

  int64_t out(int64_t b, int64_t k) const { return b * shape.time * shape.out_stride + k * (heads / kv_heads) * shape.width; }
  int64_t log_sum(int64_t b, int64_t k) const { return (b * heads + k * (heads / kv_heads)) * shape.time; }
};

cl::Rotary rotary(const Tensor& cos, const Tensor& sin) {
  if (cos.numel() == 0) return {nullptr, nullptr};
  return {cos.const_data_ptr<float>(), sin.const_data_ptr<float>()};
}

const cl::Bf16* data(const Tensor& xs) { return static_cast<const cl::Bf16*>(xs.const_data_ptr()); }

struct Attention : torch::autograd::Function<Attention> {
  static Tensor forward(AutogradContext* ctx, const Tensor& input, const Tensor& cos, const Tensor& sin, int64_t heads,
                        int64_t kv_heads) {
    const Tensor joint = input.contiguous();
    const Heads all(joint, heads, kv_heads);
    const Tensor ys = at::empty({all.rows, all.shape.time, all.shape.out_stride}, joint.options());
    const Tensor log_sums = at::empty({all.rows, heads, all.shape.time}, joint.options().dtype(at::kFloat));
    const cl::Bf16* x = data(joint);
    cl::Bf16* y = static_cast<cl::Bf16*>(ys.data_ptr());
    float* log_sum = log_sums.data_ptr<float>();
    all.each([&](int64_t b, int64_t k) {
      const cl::Bf16 *query, *key, *value;
      all.places(x, b, k, &query, &key, &value);
      cl::attend(all.shape, heads / kv_heads, query, key, value, rotary(cos, sin), y + all.out(b, k), log_sum + all.log_sum(b, k));
    });
    ctx->save_for_backward({joint, cos, sin, log_sums});
    ctx->saved_data["heads"] = heads;
    ctx->saved_data["kv_heads"] = kv_heads;
    return ys;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    CL_FIRST_DERIVATIVE("attention's kernel");
    const auto saved = ctx->get_saved_variables();
    const Tensor &joint = saved[0], &cos = saved[1], &sin = saved[2], &log_sums = saved[3];
    const int64_t heads = ctx->saved_data["heads"].toInt(), kv_heads = ctx->saved_data["kv_heads"].toInt();
    const Heads all(joint, heads, kv_heads);
    const Tensor dys = grads[0].to(at::kBFloat16).contiguous(), djoint = at::empty_like(joint);
    const cl::Bf16 *x = data(joint), *dy = data(dys);
    cl::Bf16* dx = static_cast<cl::Bf16*>(djoint.data_ptr());
    const float* log_sum = log_sums.const_data_ptr<float>();
    all.each([&](int64_t b, int64_t k) {
      const cl::Bf16 *query, *key, *value;
      cl::Bf16 *dquery, *dkey, *dvalue;
      all.places(x, b, k, &query, &key, &value);
      all.places(dx, b, k, &dquery, &dkey, &dvalue);
      cl::attend_gradient(all.shape, heads / kv_heads, query, key, value, rotary(cos, sin), dy + all.out(b, k),
                          log_sum + all.log_sum(b, k), dquery, dkey, dvalue);
    });
    return {djoint, Tensor(), Tensor(), Tensor(), Tensor()};
  }
};

}  // namespace
#endif

extern "C" {

// Whether this processor multiplies pairs of bfloat16.
int cl_attention_is_there() {
#ifdef CL_HAS_PAIRS
  return cl::has_pairs();
#else
  return 0;
#endif
}

// Queries, keys and values [B, T, (H + 2 K) E] to [B, T, H E]; cosines and sines [T, E / 2], float32, or [0] where nothing turns.
int cl_attention(const Tensor* joint, const Tensor* cos, const Tensor* sin, int64_t heads, int64_t kv_heads, Tensor** out) {
#ifdef CL_HAS_PAIRS
  CL_TRY(*out = new Tensor(Attention::apply(*joint, cos->contiguous(), sin->contiguous(), heads, kv_heads)))
#else
  CL_TRY(TORCH_CHECK(false, "this build has no instructions for pairs of bfloat16"))
#endif
}

}  // extern "C"
