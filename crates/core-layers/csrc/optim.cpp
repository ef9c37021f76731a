// Optimiser steps over whole lists of tensors: one call where tch would loop.
#include "api.h"
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_foreach_lerp.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/stack.h>
#include <vector>

using Handle = at::Tensor*;

static std::vector<at::Tensor> list(const Handle* handles, int count) {
  std::vector<at::Tensor> tensors;
  tensors.reserve(count);
  for (int i = 0; i < count; i++) tensors.push_back(*handles[i]);
  return tensors;
}

extern "C" {

// AdamW (Loshchilov and Hutter 2019, algorithm 2) on `count` parameters; `hyper` is rate, beta1, beta2, decay, epsilon.
int cl_fused_adamw(const Handle* params, const Handle* grads, const Handle* means, const Handle* squares,
                   const Handle* steps, int count, const double* hyper) {
  CL_TRY(
      at::NoGradGuard no_grad;
      auto p = list(params, count); auto g = list(grads, count); auto m = list(means, count);
      auto v = list(squares, count); auto s = list(steps, count);
      at::_fused_adamw_(p, g, m, v, {}, s, hyper[0], hyper[1], hyper[2], hyper[3], hyper[4], false, false))
}

// Scales `grads` so that their joint Euclidean norm is at most `limit`; `norm` is the norm before.
int cl_clip_grad_norm(const Handle* grads, int count, double limit, double* norm) {
  CL_TRY(
      at::NoGradGuard no_grad;
      auto g = list(grads, count);
      *norm = at::linalg_vector_norm(at::stack(at::_foreach_norm(g)), 2).item<double>();
      if (*norm > limit) { at::_foreach_mul_(g, limit / (*norm + 1e-6)); })
}

// average += weight * (value - average), for each pair.
int cl_lerp(const Handle* averages, const Handle* values, int count, double weight) {
  CL_TRY(
      at::NoGradGuard no_grad;
      auto a = list(averages, count); auto v = list(values, count);
      at::_foreach_lerp_(a, v, weight))
}

}  // extern "C"
