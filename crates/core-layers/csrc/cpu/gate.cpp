// tanh(a) sigmoid(b) and its gradient in one pass each, for pixels [2 C] with channels last, to which an example's condition
// is added first; the gradient of a condition is a further pass over that of the pixels. Letters: B examples, C channels of
// the output. Shapes: [B, 2 C, H, W] and [B, 2 C] to [B, C, H, W].
//
// For each number of the output, of 4 bytes, or 2 in bfloat16, a pass reads 2 and writes 1, the gradient reads 3 and writes
// 2, and reads those 2 again where there is a condition. About 60 operations forward and 70 backward, of which two
// exponentials are 46: arithmetic should bind where vectors are narrow, memory where they are wide and many cores share it.
#include "../api.h"
#include "loops.h"
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/sum.h>
#include <torch/csrc/autograd/custom_function.h>
#include <algorithm>

using at::Tensor;
using cl::Bf16;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace {

// `condition` [2 C] is added to every pixel; none where it is null.
template <typename T>
CL_INLINE void gate(const T* __restrict pre, const T* __restrict condition, int64_t pixels, int64_t channels, T* __restrict ys) {
  for (int64_t p = 0; p < pixels; p++, pre += 2 * channels, ys += channels)
    for (int64_t i = 0; i < channels; i++) {
      const float x = cl::load(pre[i]) + (condition ? cl::load(condition[i]) : 0.0f);
      const float y = cl::load(pre[channels + i]) + (condition ? cl::load(condition[channels + i]) : 0.0f);
      const float a = cl::exponential(cl::bounded(-2.0f * x, 40.0f)), b = cl::exponential(cl::bounded(-y, 40.0f));
      cl::store(ys + i, (1.0f - a) / ((1.0f + a) * (1.0f + b)));
    }
}

template <typename T>
CL_INLINE void gate_gradient(const T* __restrict pre, const T* __restrict condition, const T* __restrict dys, int64_t pixels,
                             int64_t channels, T* __restrict dpre) {
  for (int64_t p = 0; p < pixels; p++, pre += 2 * channels, dpre += 2 * channels, dys += channels)
    for (int64_t i = 0; i < channels; i++) {
      const float x = cl::load(pre[i]) + (condition ? cl::load(condition[i]) : 0.0f);
      const float y = cl::load(pre[channels + i]) + (condition ? cl::load(condition[channels + i]) : 0.0f);
      const float a = cl::exponential(cl::bounded(-2.0f * x, 40.0f)), b = cl::exponential(cl::bounded(-y, 40.0f));
      const float scale = 1.0f / ((1.0f + a) * (1.0f + b));
      const float tanh = (1.0f - a) * (1.0f + b) * scale, sigmoid = (1.0f + a) * scale;
      const float dy = cl::load(dys[i]);
      cl::store(dpre + i, dy * sigmoid * (1.0f - tanh * tanh));
      cl::store(dpre + channels + i, dy * tanh * sigmoid * (1.0f - sigmoid));
    }
}

void gate_f32(const float* pre, const float* condition, int64_t pixels, int64_t channels, float* ys) {
  cl::widest([=]() CL_WORK { gate(pre, condition, pixels, channels, ys); });
}
void gate_bf16(const Bf16* pre, const Bf16* condition, int64_t pixels, int64_t channels, Bf16* ys) {
  cl::widest([=]() CL_WORK { gate(pre, condition, pixels, channels, ys); });
}
void gate_gradient_f32(const float* pre, const float* condition, const float* dys, int64_t pixels, int64_t channels,
                                 float* dpre) {
  cl::widest([=]() CL_WORK { gate_gradient(pre, condition, dys, pixels, channels, dpre); });
}
void gate_gradient_bf16(const Bf16* pre, const Bf16* condition, const Bf16* dys, int64_t pixels, int64_t channels,
                                  Bf16* dpre) {
  cl::widest([=]() CL_WORK { gate_gradient(pre, condition, dys, pixels, channels, dpre); });
}

const int64_t GRAIN = 256;  // pixels that are worth another thread

Tensor channels_last(const Tensor& xs, at::ScalarType kind) { return xs.permute({0, 2, 3, 1}).to(kind).contiguous(); }

// What a pass over pixels [first, first + count) of one example reads and writes.
template <typename T>
struct Rows {
  int64_t places, channels;  // pixels of an example, channels of y
  const T *pre, *condition;

  const T* pre_of(int64_t first) const { return pre + first * 2 * channels; }
  const T* condition_of(int64_t first) const { return condition ? condition + first / places * 2 * channels : nullptr; }
};

// Calls `pass(first, count)` for shares of [0, pixels) that no end of an example cuts.
template <typename Pass>
void for_each_share(int64_t pixels, int64_t places, const Pass& pass) {
  at::parallel_for(0, pixels, GRAIN, [&](int64_t begin, int64_t end) {
    for (int64_t first = begin; first < end;) {
      const int64_t count = std::min(end, (first / places + 1) * places) - first;
      pass(first, count);
      first += count;
    }
  });
}

template <typename T>
Rows<T> rows(const Tensor& pre, const Tensor& condition) {
  const T* added = condition.defined() ? static_cast<const T*>(condition.const_data_ptr()) : nullptr;
  return {pre.size(1) * pre.size(2), pre.size(3) / 2, static_cast<const T*>(pre.const_data_ptr()), added};
}

struct Gate : torch::autograd::Function<Gate> {
  static Tensor forward(AutogradContext* ctx, const Tensor& input, const std::optional<Tensor>& added) {
    const Tensor pre = channels_last(input, input.scalar_type());
    const Tensor condition = added.has_value() ? added->contiguous() : Tensor();
    const int64_t channels = pre.size(3) / 2, places = pre.size(1) * pre.size(2);
    const Tensor ys = at::empty({pre.size(0), pre.size(1), pre.size(2), channels}, pre.options());
    for_each_share(pre.size(0) * places, places, [&](int64_t first, int64_t count) {
      if (pre.scalar_type() == at::kFloat) {
        const auto at = rows<float>(pre, condition);
        gate_f32(at.pre_of(first), at.condition_of(first), count, channels, ys.data_ptr<float>() + first * channels);
      } else {
        const auto at = rows<Bf16>(pre, condition);
        gate_bf16(at.pre_of(first), at.condition_of(first), count, channels, static_cast<Bf16*>(ys.data_ptr()) + first * channels);
      }
    });
    ctx->save_for_backward({pre, condition});
    return ys.permute({0, 3, 1, 2});
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    CL_FIRST_DERIVATIVE("the gate's kernel");
    const auto saved = ctx->get_saved_variables();
    const Tensor &pre = saved[0], &condition = saved[1];
    const int64_t channels = pre.size(3) / 2, places = pre.size(1) * pre.size(2);
    const Tensor dys = channels_last(grads[0], pre.scalar_type()), dpre = at::empty_like(pre);
    for_each_share(pre.size(0) * places, places, [&](int64_t first, int64_t count) {
      if (pre.scalar_type() == at::kFloat) {
        const auto at = rows<float>(pre, condition);
        gate_gradient_f32(at.pre_of(first), at.condition_of(first), dys.const_data_ptr<float>() + first * channels, count,
                          channels, dpre.data_ptr<float>() + first * 2 * channels);
      } else {
        const auto at = rows<Bf16>(pre, condition);
        gate_gradient_bf16(at.pre_of(first), at.condition_of(first), static_cast<const Bf16*>(dys.const_data_ptr()) + first * channels,
                           count, channels, static_cast<Bf16*>(dpre.data_ptr()) + first * 2 * channels);
      }
    });
    Tensor dcondition;
    if (condition.defined()) dcondition = at::sum(dpre, {1, 2}, false, at::kFloat).to(condition.scalar_type());
    return {dpre.permute({0, 3, 1, 2}), dcondition};
  }
};

}  // namespace

extern "C" {

// [B, 2 C, H, W], and [B, 2 C] or null to add at every place, to [B, C, H, W].
int cl_gate(const Tensor* pre, const Tensor* condition, Tensor** out) {
  CL_TRY(*out = new Tensor(Gate::apply(*pre, condition == nullptr ? std::nullopt : std::optional<Tensor>(*condition))))
}

}  // extern "C"
