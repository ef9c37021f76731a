// log p of levels under mixtures of discretised logistics, and its gradients, in float32.
// Letters: P positions, M components of a mixture, L levels.
// Shapes: logits, means, log_scales [P, M], symbols [P], log p [P]. kernels/logistics.rs counts bytes and operations.
//
// Level v stands at x = (2 v - (L - 1)) / (L - 1). With h = 1 / (L - 1), s = e^-log_scale, a = (x + h - mean) s,
// b = (x - h - mean) s and w = a - b = 2 h s, a component gives
//   log p = log sigma(a) + log sigma(-b) + log(1 - e^-w),
// without the last term and one of the others at the first and the last level. It is computed as
//   min(a, 0) + min(-b, 0) + log((1 - e^-w) / ((1 + e^-|a|) (1 + e^-|b|))),
// with (1 - e^-w) / w and log w apart where w is small, so that nothing under- or overflows; and 2 v - (L - 1) +- 1 -
// mean (L - 1) in double, where it is exact but for one rounding: float32 would lose the bin of 65,536 levels.
// The derivatives by logit, mean and log_scale need the same exponentials, so the forward pass writes them down; the backward
// pass multiplies them by dy. They take the room that the parameters would if they were saved.
#include "../api.h"
#include "../overwrite.h"
#include "loops.h"
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/custom_function.h>
#include <algorithm>
#include <cmath>
#include <vector>

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace {

const int64_t LANES = 16;  // positions side by side
const int64_t GRAIN = 16;  // groups of LANES positions that are worth another thread

// A parameter [P, M] of any strides.
struct Matrix {
  const float* first;
  int64_t position, component;
};

struct Mixtures {
  Matrix logits, means, log_scales;
  const int64_t* symbols;
  int64_t positions, components, levels;
};

// (1 - e^-w) / w for 0 <= w < 1/2, by its series.
CL_INLINE float mean_decay(float w) {
  float r = 2.7557319e-6f;
  r = r * -w + 2.4801587e-5f;
  r = r * -w + 1.9841270e-4f;
  r = r * -w + 1.3888889e-3f;
  r = r * -w + 8.3333333e-3f;
  r = r * -w + 4.1666667e-2f;
  r = r * -w + 1.6666667e-1f;
  r = r * -w + 0.5f;
  return r * -w + 1.0f;
}

CL_INLINE void load_lanes(const Matrix& from, int64_t first, int64_t last, int64_t components, float* to) {
  for (int64_t m = 0; m < components; m++)
    for (int64_t l = 0; l < LANES; l++)
      to[m * LANES + l] = from.first[std::min(first + l, last) * from.position + m * from.component];
}

// Positions [first, first + LANES), the last one in the place of those that are not there. `room` holds 4 M LANES floats.
// `derivatives` [3, P, M] may be null.
CL_INLINE void lanes(const Mixtures& it, int64_t first, float* room, float* ys, float* derivatives) {
  const int64_t components = it.components, last = it.positions - 1, here = std::min(LANES, it.positions - first);
  const float ends = static_cast<float>(it.levels - 1), half = 1.0f / ends, log_bin = std::log(2.0f * half);
  float *ts = room, *weights = ts + components * LANES, *by_mean = weights + components * LANES, *by_scale = by_mean + components * LANES;
  load_lanes(it.logits, first, last, components, weights);
  load_lanes(it.means, first, last, components, by_mean);
  load_lanes(it.log_scales, first, last, components, by_scale);

  float centre[LANES], has_upper[LANES], has_lower[LANES];
  for (int64_t l = 0; l < LANES; l++) {
    const int64_t v = it.symbols[std::min(first + l, last)];
    centre[l] = static_cast<float>(2 * v - (it.levels - 1));
    has_upper[l] = v == it.levels - 1 ? 0.0f : 1.0f;
    has_lower[l] = v == 0 ? 0.0f : 1.0f;
  }

  float heaviest[LANES], greatest[LANES], weight[LANES] = {}, sum[LANES] = {};
  std::copy(weights, weights + LANES, heaviest);
  for (int64_t m = 1; m < components; m++)
    for (int64_t l = 0; l < LANES; l++) heaviest[l] = std::max(heaviest[l], weights[m * LANES + l]);
  std::fill(greatest, greatest + LANES, -INFINITY);
  for (int64_t m = 0; m < components; m++) {
    float *t = ts + m * LANES, *pi = weights + m * LANES, *mean = by_mean + m * LANES, *scale = by_scale + m * LANES;
#pragma omp simd
    for (int64_t l = 0; l < LANES; l++) {
      const float log_scale = scale[l], s = cl::exponential(cl::bounded(-log_scale, 80.0f)), sh = s * half, w = 2.0f * sh;
      const double middle = static_cast<double>(centre[l]) - static_cast<double>(mean[l]) * static_cast<double>(ends);
      const float a = static_cast<float>(middle + 1.0) * sh, b = static_cast<float>(middle - 1.0) * sh;
      const float ea = cl::decayed(std::fabs(a)), eb = cl::decayed(std::fabs(b)), ew = cl::decayed(w);
      const float ia = 1.0f / (1.0f + ea), ib = 1.0f / (1.0f + eb);
      const bool upper = has_upper[l] != 0.0f, lower = has_lower[l] != 0.0f, inner = upper && lower, small = w < 0.5f;
      const float width = small ? mean_decay(w) : 1.0f - ew;
      const float q = (inner ? width : 1.0f) * (upper ? ia : 1.0f) * (lower ? ib : 1.0f);
      const float log_p = (upper && a < 0.0f ? a : 0.0f) - (lower && b > 0.0f ? b : 0.0f) + cl::logarithm(q) +
                          (inner && small ? log_bin - log_scale : 0.0f);
      const float da = upper ? (a > 0.0f ? ea * ia : ia) : 0.0f;   // sigma(-a)
      const float db = lower ? (b > 0.0f ? ib : eb * ib) : 0.0f;   // sigma(b), to be subtracted
      const float dw = inner ? (small ? ew : w * ew) / width : 0.0f;  // w / (e^w - 1)
      const float logit = pi[l] - heaviest[l], share = cl::decayed(-logit);
      mean[l] = s * (db - da);
      scale[l] = (db != 0.0f ? b * db : 0.0f) - (da != 0.0f ? a * da : 0.0f) - dw;
      t[l] = log_p + logit;
      pi[l] = share;
      weight[l] += share;
      greatest[l] = t[l] > greatest[l] ? t[l] : greatest[l];
    }
  }
  for (int64_t m = 0; m < components; m++) {
    float* t = ts + m * LANES;
#pragma omp simd
    for (int64_t l = 0; l < LANES; l++) {
      t[l] = cl::decayed(greatest[l] - t[l]);
      sum[l] += t[l];
    }
  }
  float y[LANES];
  for (int64_t l = 0; l < LANES; l++) y[l] = greatest[l] + (cl::logarithm(sum[l]) - cl::logarithm(weight[l]));
  std::copy(y, y + here, ys + first);
  if (derivatives == nullptr) return;
  for (int64_t l = 0; l < LANES; l++) {
    sum[l] = 1.0f / sum[l];
    weight[l] = 1.0f / weight[l];
  }
  for (int64_t m = 0; m < components; m++) {
    float *t = ts + m * LANES, *pi = weights + m * LANES, *mean = by_mean + m * LANES, *scale = by_scale + m * LANES;
#pragma omp simd
    for (int64_t l = 0; l < LANES; l++) {
      const float r = t[l] * sum[l];  // how much of the level is this component's
      pi[l] = r - pi[l] * weight[l];
      mean[l] *= r;
      scale[l] *= r;
    }
  }
  const int64_t part = it.positions * components;
  const float* found[] = {weights, by_mean, by_scale};
  for (int64_t i = 0; i < 3; i++)
    for (int64_t l = 0; l < here; l++)
      for (int64_t m = 0; m < components; m++) derivatives[i * part + (first + l) * components + m] = found[i][m * LANES + l];
}

void groups(const Mixtures& it, int64_t begin, int64_t end, float* room, float* ys, float* derivatives) {
  cl::widest([=]() CL_WORK {
    for (int64_t group = begin; group < end; group++) lanes(it, group * LANES, room, ys, derivatives);
  });
}

Matrix matrix(const Tensor& xs) { return {xs.const_data_ptr<float>(), xs.stride(0), xs.stride(1)}; }

struct Logistics : torch::autograd::Function<Logistics> {
  static Tensor forward(AutogradContext* ctx, const Tensor& logits, const Tensor& means, const Tensor& log_scales,
                        const Tensor& symbols, int64_t levels, bool wants_gradient) {
    const int64_t components = logits.size(-1), positions = symbols.numel();
    const auto flat = [&](const Tensor& xs) { return xs.reshape({positions, components}); };  // views where strides allow
    const Tensor pi = flat(logits), mean = flat(means), scale = flat(log_scales), chosen = symbols.contiguous();
    const Tensor ys = at::empty(symbols.sizes(), logits.options());
    const Tensor derivatives = wants_gradient ? at::empty({3, positions, components}, logits.options()) : Tensor();
    const Mixtures it = {matrix(pi), matrix(mean), matrix(scale), chosen.const_data_ptr<int64_t>(), positions, components, levels};
    float *y = ys.data_ptr<float>(), *derivative = wants_gradient ? derivatives.data_ptr<float>() : nullptr;
    at::parallel_for(0, (positions + LANES - 1) / LANES, GRAIN, [&](int64_t begin, int64_t end) {
      std::vector<float> room(static_cast<size_t>(4 * components * LANES));
      groups(it, begin, end, room.data(), y, derivative);
    });
    if (wants_gradient) ctx->save_for_backward({derivatives});
    ctx->saved_data["sizes"] = logits.sizes();
    return ys;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    CL_FIRST_DERIVATIVE("the logistics' kernel");
    const auto saved = ctx->get_saved_variables();
    const Tensor dys = grads[0].reshape({-1, 1});
    const Tensor all = cl::takes_over(saved[0], 2) ? saved[0].detach().mul_(dys) : saved[0].mul(dys);
    const auto sizes = ctx->saved_data["sizes"].toIntVector();
    return {all.select(0, 0).view(sizes), all.select(0, 1).view(sizes), all.select(0, 2).view(sizes), Tensor(), Tensor(), Tensor()};
  }
};

}  // namespace

extern "C" {

// Logits, means and log-scales [..., M], float32, and symbols [...], int64, to log-probabilities [...].
int cl_logistics(const Tensor* logits, const Tensor* means, const Tensor* log_scales, const Tensor* symbols, int64_t levels, Tensor** out) {
  CL_TRY(const bool wants_gradient = at::GradMode::is_enabled() &&
                                     (logits->requires_grad() || means->requires_grad() || log_scales->requires_grad());
         *out = new Tensor(Logistics::apply(*logits, *means, *log_scales, *symbols, levels, wants_gradient)))
}

}  // extern "C"
