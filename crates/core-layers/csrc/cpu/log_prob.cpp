// log softmax(logits)[symbol] and its gradient, in float32, without writing the softmax down.
// Letters: P positions, L levels.
#include "../api.h"
#include "loops.h"
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/custom_function.h>
#include <algorithm>
#include <atomic>
#include <cmath>

using at::Tensor;
using cl::Bf16;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace {

const int64_t GRAIN = 64;  // positions that are worth another thread

template <typename T>
CL_INLINE float log_sum_exp(const T* __restrict xs, int64_t levels) {
  float max = cl::load(xs[0]), sum = 0;
#pragma omp simd reduction(max : max)
  for (int64_t i = 1; i < levels; i++) max = std::max(max, cl::load(xs[i]));
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < levels; i++) sum += cl::exponential(cl::bounded(cl::load(xs[i]) - max, 80.0f));
  return max + std::log(sum);
}

// d / dlogits of `dy` log softmax(xs)[symbol].
template <typename T>
CL_INLINE void gradient(const T* __restrict xs, int64_t levels, int64_t symbol, float log_sum, float dy, T* __restrict dx) {
  for (int64_t i = 0; i < levels; i++)
    cl::store(dx + i, -dy * cl::exponential(cl::bounded(cl::load(xs[i]) - log_sum, 80.0f)));
  cl::store(dx + symbol, dy * (1.0f - cl::exponential(cl::bounded(cl::load(xs[symbol]) - log_sum, 80.0f))));
}

CL_CLONES float log_sum_exp_f32(const float* xs, int64_t levels) { return log_sum_exp(xs, levels); }
CL_CLONES float log_sum_exp_bf16(const Bf16* xs, int64_t levels) { return log_sum_exp(xs, levels); }
CL_CLONES void gradient_f32(const float* xs, int64_t levels, int64_t symbol, float log_sum, float dy, float* dx) {
  gradient(xs, levels, symbol, log_sum, dy, dx);
}
CL_CLONES void gradient_bf16(const Bf16* xs, int64_t levels, int64_t symbol, float log_sum, float dy, Bf16* dx) {
  gradient(xs, levels, symbol, log_sum, dy, dx);
}

struct LogProb : torch::autograd::Function<LogProb> {
  static Tensor forward(AutogradContext* ctx, const Tensor& logits, const Tensor& symbols) {
    const Tensor xs = logits.contiguous(), chosen = symbols.contiguous();
    const int64_t levels = xs.size(-1), positions = chosen.numel();
    const bool is_float = xs.scalar_type() == at::kFloat;
    const Tensor ys = at::empty(chosen.sizes(), xs.options().dtype(at::kFloat)), log_sums = at::empty_like(ys);
    const int64_t* symbol = chosen.const_data_ptr<int64_t>();
    float *y = ys.data_ptr<float>(), *log_sum = log_sums.data_ptr<float>();
    std::atomic<bool> is_outside{false};
    at::parallel_for(0, positions, GRAIN, [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; p++) {
        const int64_t at = p * levels + symbol[p];
        if (symbol[p] < 0 || symbol[p] >= levels) {
          is_outside = true;
        } else if (is_float) {
          const float* x = xs.const_data_ptr<float>();
          log_sum[p] = log_sum_exp_f32(x + p * levels, levels);
          y[p] = x[at] - log_sum[p];
        } else {
          const Bf16* x = static_cast<const Bf16*>(xs.const_data_ptr());
          log_sum[p] = log_sum_exp_bf16(x + p * levels, levels);
          y[p] = cl::load(x[at]) - log_sum[p];
        }
      }
    });
    TORCH_CHECK(!is_outside, "a symbol lies outside the ", levels, " levels");
    ctx->save_for_backward({xs, chosen, log_sums});
    return ys;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &xs = saved[0], dys = grads[0].to(at::kFloat).contiguous(), dxs = at::empty_like(xs);
    const int64_t levels = xs.size(-1);
    const bool is_float = xs.scalar_type() == at::kFloat;
    const int64_t* symbol = saved[1].const_data_ptr<int64_t>();
    const float *log_sum = saved[2].const_data_ptr<float>(), *dy = dys.const_data_ptr<float>();
    at::parallel_for(0, dys.numel(), GRAIN, [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; p++) {
        const int64_t row = p * levels;
        if (is_float) {
          gradient_f32(xs.const_data_ptr<float>() + row, levels, symbol[p], log_sum[p], dy[p], dxs.data_ptr<float>() + row);
        } else {
          gradient_bf16(static_cast<const Bf16*>(xs.const_data_ptr()) + row, levels, symbol[p], log_sum[p], dy[p],
                        static_cast<Bf16*>(dxs.data_ptr()) + row);
        }
      }
    });
    return {dxs, Tensor()};
  }
};

}  // namespace

extern "C" {

// Logits [..., L] and symbols [...] to log-probabilities [...].
int cl_log_prob(const Tensor* logits, const Tensor* symbols, Tensor** out) {
  CL_TRY(*out = new Tensor(LogProb::apply(*logits, *symbols)))
}

}  // extern "C"
