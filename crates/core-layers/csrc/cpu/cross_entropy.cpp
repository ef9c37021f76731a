// log softmax(logits)[symbol], log Z and their gradient, in float32, without writing the softmax down.
// Letters: P positions, L levels.
//
// With y = x[symbol] - log Z and p = softmax(x): dx = (dz - dy) p, and dy more at the symbol.
// Shapes: x [P, L] float32 or bfloat16, symbols [P], y and log Z [P]. kernels/cross_entropy.rs counts bytes and operations.
#include "../api.h"
#include "../overwrite.h"
#include "loops.h"
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/custom_function.h>
#include <algorithm>
#include <atomic>
#include <cmath>

using at::Tensor;
using cl::Bf16;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace {

const int64_t GRAIN = 64;      // positions that are worth another thread
const int64_t IGNORED = -100;  // a symbol that is no level: both outputs are 0, and so is the gradient

// log Z = max + log_sum.
struct Total {
  float max, log_sum;
};

template <typename T>
CL_INLINE Total log_sum_exp(const T* __restrict xs, int64_t levels) {
  float max = cl::load(xs[0]), sum = 0;
#pragma omp simd reduction(max : max)
  for (int64_t i = 1; i < levels; i++) max = std::max(max, cl::load(xs[i]));
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < levels; i++) sum += cl::decayed(max - cl::load(xs[i]));
  return {max, std::log(sum)};
}

// What a gradient reads of one position.
struct Position {
  int64_t levels, symbol;
  float log_z, dy, dz;
};

// `dx` may be `xs`: each number is read before it is written, and that of the symbol first.
template <typename T>
CL_INLINE void gradient(const T* xs, const Position& it, T* dx) {
  if (it.symbol == IGNORED) return std::fill(dx, dx + it.levels, T{});
  const float log_z = it.log_z, scale = it.dz - it.dy;
  const float p = cl::decayed(log_z - cl::load(xs[it.symbol]));
#pragma omp simd
  for (int64_t i = 0; i < it.levels; i++)
    cl::store(dx + i, scale * cl::decayed(log_z - cl::load(xs[i])));
  cl::store(dx + it.symbol, it.dy * (1.0f - p) + it.dz * p);
}

Total log_sum_exp_f32(const float* xs, int64_t levels) {
  return cl::widest([=]() CL_WORK { return log_sum_exp(xs, levels); });
}
Total log_sum_exp_bf16(const Bf16* xs, int64_t levels) {
  return cl::widest([=]() CL_WORK { return log_sum_exp(xs, levels); });
}
void gradient_f32(const float* xs, const Position& it, float* dx) { cl::widest([=]() CL_WORK { gradient(xs, it, dx); }); }
void gradient_bf16(const Bf16* xs, const Position& it, Bf16* dx) { cl::widest([=]() CL_WORK { gradient(xs, it, dx); }); }

struct CrossEntropy : torch::autograd::Function<CrossEntropy> {
  static variable_list forward(AutogradContext* ctx, const Tensor& logits, const Tensor& symbols) {
    const Tensor xs = logits.contiguous(), chosen = symbols.contiguous();
    const int64_t levels = xs.size(-1), positions = chosen.numel();
    const bool is_float = xs.scalar_type() == at::kFloat;
    const Tensor ys = at::empty(chosen.sizes(), xs.options().dtype(at::kFloat)), log_zs = at::empty_like(ys);
    const int64_t* symbol = chosen.const_data_ptr<int64_t>();
    float *y = ys.data_ptr<float>(), *log_z = log_zs.data_ptr<float>();
    std::atomic<bool> is_outside{false};
    at::parallel_for(0, positions, GRAIN, [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; p++) {
        y[p] = log_z[p] = 0;
        if (symbol[p] == IGNORED) continue;
        if (symbol[p] < 0 || symbol[p] >= levels) {
          is_outside = true;
          continue;
        }
        const int64_t first = p * levels;
        Total total;
        if (is_float) {
          const float* x = xs.const_data_ptr<float>() + first;
          total = log_sum_exp_f32(x, levels);
          y[p] = x[symbol[p]];
        } else {
          const Bf16* x = static_cast<const Bf16*>(xs.const_data_ptr()) + first;
          total = log_sum_exp_bf16(x, levels);
          y[p] = cl::load(x[symbol[p]]);
        }
        y[p] = (y[p] - total.max) - total.log_sum;  // in this order what all logits share costs no digits
        log_z[p] = total.max + total.log_sum;
      }
    });
    TORCH_CHECK(!is_outside, "a symbol lies outside the ", levels, " levels");
    ctx->save_for_backward({xs, chosen, log_zs});
    return {ys, log_zs};
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    CL_FIRST_DERIVATIVE("the cross-entropy's kernel");
    const auto saved = ctx->get_saved_variables();
    const Tensor &xs = saved[0], dys = grads[0].to(at::kFloat).contiguous(), dzs = grads[1].to(at::kFloat).contiguous();
    const bool is_float = xs.scalar_type() == at::kFloat, overwrites = cl::takes_over(xs, 2);  // the context and `saved`
    const Tensor dxs = overwrites ? xs.detach() : at::empty_like(xs);
    const int64_t levels = xs.size(-1);
    const int64_t* symbol = saved[1].const_data_ptr<int64_t>();
    const float *log_z = saved[2].const_data_ptr<float>(), *dy = dys.const_data_ptr<float>(), *dz = dzs.const_data_ptr<float>();
    at::parallel_for(0, dys.numel(), GRAIN, [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; p++) {
        const int64_t row = p * levels;
        const Position it = {levels, symbol[p], log_z[p], dy[p], dz[p]};
        if (is_float) gradient_f32(xs.const_data_ptr<float>() + row, it, dxs.data_ptr<float>() + row);
        else gradient_bf16(static_cast<const Bf16*>(xs.const_data_ptr()) + row, it, static_cast<Bf16*>(dxs.data_ptr()) + row);
      }
    });
    return {dxs, Tensor()};
  }
};

}  // namespace

extern "C" {

// Logits [..., L] and symbols [...] to two tensors [...]: log-probabilities, and log Z.
int cl_cross_entropy(const Tensor* logits, const Tensor* symbols, Tensor** out) {
  CL_TRY(const variable_list found = CrossEntropy::apply(*logits, *symbols); out[0] = new Tensor(found[0]);
         out[1] = new Tensor(found[1]);)
}

}  // extern "C"
