// tanh(a) sigmoid(b) and its gradient in one pass each, for pixels [2 C] with channels last.
#include "../api.h"
#include "loops.h"
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/custom_function.h>
#include <algorithm>

using at::Tensor;
using cl::Bf16;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace {

template <typename T>
CL_INLINE void gate(const T* __restrict pre, int64_t pixels, int64_t channels, T* __restrict ys) {
  for (int64_t p = 0; p < pixels; p++, pre += 2 * channels, ys += channels)
    for (int64_t i = 0; i < channels; i++) {
      const float a = cl::exponential(cl::bounded(-2.0f * cl::load(pre[i]), 40.0f));
      const float b = cl::exponential(cl::bounded(-cl::load(pre[channels + i]), 40.0f));
      cl::store(ys + i, (1.0f - a) / ((1.0f + a) * (1.0f + b)));
    }
}

template <typename T>
CL_INLINE void gate_gradient(const T* __restrict pre, const T* __restrict dys, int64_t pixels, int64_t channels, T* __restrict dpre) {
  for (int64_t p = 0; p < pixels; p++, pre += 2 * channels, dpre += 2 * channels, dys += channels)
    for (int64_t i = 0; i < channels; i++) {
      const float a = cl::exponential(cl::bounded(-2.0f * cl::load(pre[i]), 40.0f));
      const float b = cl::exponential(cl::bounded(-cl::load(pre[channels + i]), 40.0f));
      const float scale = 1.0f / ((1.0f + a) * (1.0f + b));
      const float tanh = (1.0f - a) * (1.0f + b) * scale, sigmoid = (1.0f + a) * scale;
      const float dy = cl::load(dys[i]);
      cl::store(dpre + i, dy * sigmoid * (1.0f - tanh * tanh));
      cl::store(dpre + channels + i, dy * tanh * sigmoid * (1.0f - sigmoid));
    }
}

CL_CLONES void gate_f32(const float* pre, int64_t pixels, int64_t channels, float* ys) { gate(pre, pixels, channels, ys); }
CL_CLONES void gate_bf16(const Bf16* pre, int64_t pixels, int64_t channels, Bf16* ys) { gate(pre, pixels, channels, ys); }
CL_CLONES void gate_gradient_f32(const float* pre, const float* dys, int64_t pixels, int64_t channels, float* dpre) {
  gate_gradient(pre, dys, pixels, channels, dpre);
}
CL_CLONES void gate_gradient_bf16(const Bf16* pre, const Bf16* dys, int64_t pixels, int64_t channels, Bf16* dpre) {
  gate_gradient(pre, dys, pixels, channels, dpre);
}

const int64_t GRAIN = 256;  // pixels that are worth another thread

Tensor channels_last(const Tensor& xs, at::ScalarType kind) { return xs.permute({0, 2, 3, 1}).to(kind).contiguous(); }

struct Gate : torch::autograd::Function<Gate> {
  static Tensor forward(AutogradContext* ctx, const Tensor& input) {
    const Tensor pre = channels_last(input, input.scalar_type());
    const int64_t channels = pre.size(3) / 2;
    const Tensor ys = at::empty({pre.size(0), pre.size(1), pre.size(2), channels}, pre.options());
    at::parallel_for(0, ys.numel() / channels, GRAIN, [&](int64_t begin, int64_t end) {
      if (pre.scalar_type() == at::kFloat) {
        gate_f32(pre.const_data_ptr<float>() + begin * 2 * channels, end - begin, channels,
                 ys.data_ptr<float>() + begin * channels);
      } else {
        gate_bf16(static_cast<const Bf16*>(pre.const_data_ptr()) + begin * 2 * channels, end - begin, channels,
                  static_cast<Bf16*>(ys.data_ptr()) + begin * channels);
      }
    });
    ctx->save_for_backward({pre});
    return ys.permute({0, 3, 1, 2});
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const Tensor pre = ctx->get_saved_variables()[0];
    const int64_t channels = pre.size(3) / 2;
    const Tensor dys = channels_last(grads[0], pre.scalar_type()), dpre = at::empty_like(pre);
    at::parallel_for(0, dys.numel() / channels, GRAIN, [&](int64_t begin, int64_t end) {
      if (pre.scalar_type() == at::kFloat) {
        gate_gradient_f32(pre.const_data_ptr<float>() + begin * 2 * channels, dys.const_data_ptr<float>() + begin * channels,
                          end - begin, channels, dpre.data_ptr<float>() + begin * 2 * channels);
      } else {
        gate_gradient_bf16(static_cast<const Bf16*>(pre.const_data_ptr()) + begin * 2 * channels,
                           static_cast<const Bf16*>(dys.const_data_ptr()) + begin * channels, end - begin, channels,
                           static_cast<Bf16*>(dpre.data_ptr()) + begin * 2 * channels);
      }
    });
    return {dpre.permute({0, 3, 1, 2})};
  }
};

}  // namespace

extern "C" {

// [B, 2 C, H, W] to [B, C, H, W].
int cl_gate(const Tensor* pre, Tensor** out) { CL_TRY(*out = new Tensor(Gate::apply(*pre))) }

}  // extern "C"
