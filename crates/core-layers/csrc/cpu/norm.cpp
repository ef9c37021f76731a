// Layer norms and root mean square norms over the last axis, and their gradients, in one pass each.
// Letters: R rows, D width.
//
// With m the mean (0 without biases), s = 1 / sqrt(mean((x - m)^2) + epsilon) and n = (x - m) s: y = n w + b. With g = dy w,
// dx = s (g - mean(g) - n mean(g n)), where the mean of g is left out without biases; dw = sum dy n, db = sum dy over rows.
// Shapes: x [R, D] and w, b [D] float32, y [R, D] float32 or bfloat16. kernels/norm.rs counts bytes and operations.
#include "../api.h"
#include "loops.h"
#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>
#include <algorithm>
#include <cmath>

using at::Tensor;
using cl::Bf16;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace {

const int64_t GRAIN = 32;    // rows that are worth another thread
const int64_t BLOCKS = 16;   // parts of the rows whose gradients of weights are summed apart, whatever the threads

template <typename T>
CL_INLINE void forward_rows(const float* __restrict xs, const float* __restrict ws, const float* __restrict bs, int64_t rows,
                            int64_t width, float epsilon, T* __restrict ys, float* __restrict stats) {
  for (int64_t r = 0; r < rows; r++, xs += width, ys += width, stats += 2) {
    float sum = 0, squares = 0;
    if (bs != nullptr) {
#pragma omp simd reduction(+ : sum)
      for (int64_t i = 0; i < width; i++) sum += xs[i];
    }
    const float mean = sum / static_cast<float>(width);
#pragma omp simd reduction(+ : squares)
    for (int64_t i = 0; i < width; i++) squares += (xs[i] - mean) * (xs[i] - mean);
    const float scale = 1.0f / std::sqrt(squares / static_cast<float>(width) + epsilon);
    stats[0] = mean;
    stats[1] = scale;
    if (bs != nullptr) {
      for (int64_t i = 0; i < width; i++) cl::store(ys + i, (xs[i] - mean) * scale * ws[i] + bs[i]);
    } else {
      for (int64_t i = 0; i < width; i++) cl::store(ys + i, xs[i] * scale * ws[i]);
    }
  }
}

template <typename T>
CL_INLINE void backward_rows(const float* __restrict xs, const float* __restrict ws, const T* __restrict dys,
                             const float* __restrict stats, int64_t rows, int64_t width, bool centred, float* __restrict dxs,
                             float* __restrict dws, float* __restrict dbs) {
  for (int64_t r = 0; r < rows; r++, xs += width, dys += width, dxs += width, stats += 2) {
    const float mean = stats[0], scale = stats[1];
    float sum = 0, product = 0;
#pragma omp simd reduction(+ : sum, product)
    for (int64_t i = 0; i < width; i++) {
      const float dy = cl::load(dys[i]), n = (xs[i] - mean) * scale, g = dy * ws[i];
      sum += g;
      product += g * n;
      dws[i] += dy * n;
      dbs[i] += dy;
    }
    const float shift = centred ? sum / static_cast<float>(width) : 0.0f;
    product /= static_cast<float>(width);
    for (int64_t i = 0; i < width; i++) {
      const float n = (xs[i] - mean) * scale;
      dxs[i] = scale * (cl::load(dys[i]) * ws[i] - shift - n * product);
    }
  }
}

void forward_f32(const float* xs, const float* ws, const float* bs, int64_t rows, int64_t width, float epsilon,
                           float* ys, float* stats) {
  cl::widest([=]() CL_WORK { forward_rows(xs, ws, bs, rows, width, epsilon, ys, stats); });
}
void forward_bf16(const float* xs, const float* ws, const float* bs, int64_t rows, int64_t width, float epsilon,
                            Bf16* ys, float* stats) {
  cl::widest([=]() CL_WORK { forward_rows(xs, ws, bs, rows, width, epsilon, ys, stats); });
}
void backward_f32(const float* xs, const float* ws, const float* dys, const float* stats, int64_t rows,
                            int64_t width, bool centred, float* dxs, float* dws, float* dbs) {
  cl::widest([=]() CL_WORK { backward_rows(xs, ws, dys, stats, rows, width, centred, dxs, dws, dbs); });
}
void backward_bf16(const float* xs, const float* ws, const Bf16* dys, const float* stats, int64_t rows,
                             int64_t width, bool centred, float* dxs, float* dws, float* dbs) {
  cl::widest([=]() CL_WORK { backward_rows(xs, ws, dys, stats, rows, width, centred, dxs, dws, dbs); });
}

struct Norm : torch::autograd::Function<Norm> {
  static Tensor forward(AutogradContext* ctx, const Tensor& input, const Tensor& ws, const std::optional<Tensor>& bs, double epsilon) {
    const bool is_bf16 = at::autocast::is_autocast_enabled(at::kCPU) && at::autocast::get_autocast_dtype(at::kCPU) == at::kBFloat16;
    const Tensor xs = input.contiguous();
    const int64_t width = ws.numel(), rows = xs.numel() / width;
    const Tensor ys = at::empty(xs.sizes(), xs.options().dtype(is_bf16 ? at::kBFloat16 : at::kFloat));
    const Tensor stats = at::empty({rows, 2}, xs.options());
    const float *x = xs.const_data_ptr<float>(), *w = ws.const_data_ptr<float>();
    const float* b = bs.has_value() ? bs->const_data_ptr<float>() : nullptr;
    float* stat = stats.data_ptr<float>();
    at::parallel_for(0, rows, GRAIN, [&](int64_t begin, int64_t end) {
      const int64_t at = begin * width, count = end - begin;
      const float e = static_cast<float>(epsilon);
      if (is_bf16) forward_bf16(x + at, w, b, count, width, e, static_cast<Bf16*>(ys.data_ptr()) + at, stat + 2 * begin);
      else forward_f32(x + at, w, b, count, width, e, ys.data_ptr<float>() + at, stat + 2 * begin);
    });
    ctx->save_for_backward({xs, ws, stats});
    ctx->saved_data["centred"] = bs.has_value();
    return ys;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    CL_FIRST_DERIVATIVE("a norm's kernel");
    const auto saved = ctx->get_saved_variables();
    const Tensor &xs = saved[0], &ws = saved[1], &stats = saved[2];
    const bool centred = ctx->saved_data["centred"].toBool(), is_bf16 = grads[0].scalar_type() == at::kBFloat16;
    const Tensor dys = is_bf16 ? grads[0].contiguous() : grads[0].to(at::kFloat).contiguous();
    const int64_t width = ws.numel(), rows = xs.numel() / width, part = (rows + BLOCKS - 1) / BLOCKS;
    const Tensor dxs = at::empty_like(xs), sums = at::zeros({BLOCKS, 2, width}, xs.options());
    at::parallel_for(0, BLOCKS, 1, [&](int64_t begin, int64_t end) {
      for (int64_t block = begin; block < end; block++) {
        const int64_t first = std::min(rows, block * part), count = std::min(rows, first + part) - first, at = first * width;
        const float *x = xs.const_data_ptr<float>() + at, *w = ws.const_data_ptr<float>();
        const float* stat = stats.const_data_ptr<float>() + 2 * first;
        float *dw = sums.data_ptr<float>() + 2 * block * width, *dx = dxs.data_ptr<float>() + at;
        if (is_bf16) {
          backward_bf16(x, w, static_cast<const Bf16*>(dys.const_data_ptr()) + at, stat, count, width, centred, dx, dw, dw + width);
        } else {
          backward_f32(x, w, dys.const_data_ptr<float>() + at, stat, count, width, centred, dx, dw, dw + width);
        }
      }
    });
    const Tensor both = sums.sum(0);
    return {dxs, both[0], centred ? both[1] : Tensor(), Tensor()};
  }
};

}  // namespace

extern "C" {

// Float32 [.., D] by weights [D] and biases [D] or null to the same; to bfloat16 under autocast, which products read anyway.
int cl_norm(const Tensor* xs, const Tensor* ws, const Tensor* bs, double epsilon, Tensor** out) {
  CL_TRY(*out = new Tensor(Norm::apply(*xs, *ws, bs == nullptr ? std::nullopt : std::optional<Tensor>(*bs), epsilon)))
}

}  // extern "C"
