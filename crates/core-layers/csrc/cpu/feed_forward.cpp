// What stands between the matrices of a feed-forward network, and its gradient, in one pass each.
//
//   gelu(x) = x sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3), which is GPT-2's form by tanh;  swiglu(a, b) = a sigmoid(a) b
//
// Of any shape, float32 or bfloat16; kernels/decoder.rs counts bytes and operations.
#include "../api.h"
#include "loops.h"
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/custom_function.h>

using at::Tensor;
using cl::Bf16;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace {

CL_INLINE float sigmoid(float x) { return 1.0f / (1.0f + cl::exponential(cl::bounded(-x, 80.0f))); }

const float TWICE_ROOT = 1.5957691216f, CUBE = 0.044715f;  // 2 sqrt(2 / pi)

template <typename T>
CL_INLINE void gelu(const T* __restrict xs, int64_t count, T* __restrict ys) {
  for (int64_t i = 0; i < count; i++) {
    const float x = cl::load(xs[i]);
    cl::store(ys + i, x * sigmoid(TWICE_ROOT * x * (1.0f + CUBE * x * x)));
  }
}

template <typename T>
CL_INLINE void gelu_gradient(const T* __restrict xs, const T* __restrict dys, int64_t count, T* __restrict dxs) {
  for (int64_t i = 0; i < count; i++) {
    const float x = cl::load(xs[i]), s = sigmoid(TWICE_ROOT * x * (1.0f + CUBE * x * x));
    const float slope = TWICE_ROOT * (1.0f + 3.0f * CUBE * x * x);
    cl::store(dxs + i, cl::load(dys[i]) * s * (1.0f + x * (1.0f - s) * slope));
  }
}

template <typename T>
CL_INLINE void swiglu(const T* __restrict as, const T* __restrict bs, int64_t count, T* __restrict ys) {
  for (int64_t i = 0; i < count; i++) {
    const float a = cl::load(as[i]);
    cl::store(ys + i, a * sigmoid(a) * cl::load(bs[i]));
  }
}

template <typename T>
CL_INLINE void swiglu_gradient(const T* __restrict as, const T* __restrict bs, const T* __restrict dys, int64_t count,
                               T* __restrict das, T* __restrict dbs) {
  for (int64_t i = 0; i < count; i++) {
    const float a = cl::load(as[i]), b = cl::load(bs[i]), dy = cl::load(dys[i]), s = sigmoid(a);
    cl::store(das + i, dy * b * s * (1.0f + a * (1.0f - s)));
    cl::store(dbs + i, dy * a * s);
  }
}

void gelu_f32(const float* x, int64_t n, float* y) { cl::widest([=]() CL_WORK { gelu(x, n, y); }); }
void gelu_bf16(const Bf16* x, int64_t n, Bf16* y) { cl::widest([=]() CL_WORK { gelu(x, n, y); }); }
void gelu_gradient_f32(const float* x, const float* dy, int64_t n, float* dx) {
  cl::widest([=]() CL_WORK { gelu_gradient(x, dy, n, dx); });
}
void gelu_gradient_bf16(const Bf16* x, const Bf16* dy, int64_t n, Bf16* dx) {
  cl::widest([=]() CL_WORK { gelu_gradient(x, dy, n, dx); });
}
void swiglu_f32(const float* a, const float* b, int64_t n, float* y) { cl::widest([=]() CL_WORK { swiglu(a, b, n, y); }); }
void swiglu_bf16(const Bf16* a, const Bf16* b, int64_t n, Bf16* y) { cl::widest([=]() CL_WORK { swiglu(a, b, n, y); }); }
void swiglu_gradient_f32(const float* a, const float* b, const float* dy, int64_t n, float* da, float* db) {
  cl::widest([=]() CL_WORK { swiglu_gradient(a, b, dy, n, da, db); });
}
void swiglu_gradient_bf16(const Bf16* a, const Bf16* b, const Bf16* dy, int64_t n, Bf16* da, Bf16* db) {
  cl::widest([=]() CL_WORK { swiglu_gradient(a, b, dy, n, da, db); });
}

const int64_t GRAIN = 1 << 14;  // numbers that are worth another thread

template <typename T>
const T* in(const Tensor& xs, int64_t at) {
  return static_cast<const T*>(xs.const_data_ptr()) + at;
}

template <typename T>
T* to(const Tensor& xs, int64_t at) {
  return static_cast<T*>(xs.data_ptr()) + at;
}

// Calls `of` with the beginning of a part and its length, and whether the numbers are float32.
template <typename F>
void each(const Tensor& xs, const F& of) {
  const bool is_float = xs.scalar_type() == at::kFloat;
  at::parallel_for(0, xs.numel(), GRAIN, [&](int64_t begin, int64_t end) { of(begin, end - begin, is_float); });
}

struct Gelu : torch::autograd::Function<Gelu> {
  static Tensor forward(AutogradContext* ctx, const Tensor& input) {
    const Tensor xs = input.contiguous(), ys = at::empty_like(xs);
    each(xs, [&](int64_t i, int64_t n, bool is_float) {
      is_float ? gelu_f32(in<float>(xs, i), n, to<float>(ys, i)) : gelu_bf16(in<Bf16>(xs, i), n, to<Bf16>(ys, i));
    });
    ctx->save_for_backward({xs});
    return ys;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    CL_FIRST_DERIVATIVE("a GELU's kernel");
    const Tensor xs = ctx->get_saved_variables()[0], dxs = at::empty_like(xs);
    const Tensor dys = grads[0].to(xs.scalar_type()).contiguous();
    each(xs, [&](int64_t i, int64_t n, bool is_float) {
      is_float ? gelu_gradient_f32(in<float>(xs, i), in<float>(dys, i), n, to<float>(dxs, i))
               : gelu_gradient_bf16(in<Bf16>(xs, i), in<Bf16>(dys, i), n, to<Bf16>(dxs, i));
    });
    return {dxs};
  }
};

struct SwiGlu : torch::autograd::Function<SwiGlu> {
  static Tensor forward(AutogradContext* ctx, const Tensor& gate, const Tensor& up) {
    const Tensor as = gate.contiguous(), bs = up.contiguous(), ys = at::empty_like(as);
    each(as, [&](int64_t i, int64_t n, bool is_float) {
      is_float ? swiglu_f32(in<float>(as, i), in<float>(bs, i), n, to<float>(ys, i))
               : swiglu_bf16(in<Bf16>(as, i), in<Bf16>(bs, i), n, to<Bf16>(ys, i));
    });
    ctx->save_for_backward({as, bs});
    return ys;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    CL_FIRST_DERIVATIVE("SwiGLU's kernel");
    const auto saved = ctx->get_saved_variables();
    const Tensor &as = saved[0], &bs = saved[1], das = at::empty_like(as), dbs = at::empty_like(bs);
    const Tensor dys = grads[0].to(as.scalar_type()).contiguous();
    each(as, [&](int64_t i, int64_t n, bool is_float) {
      is_float ? swiglu_gradient_f32(in<float>(as, i), in<float>(bs, i), in<float>(dys, i), n, to<float>(das, i), to<float>(dbs, i))
               : swiglu_gradient_bf16(in<Bf16>(as, i), in<Bf16>(bs, i), in<Bf16>(dys, i), n, to<Bf16>(das, i), to<Bf16>(dbs, i));
    });
    return {das, dbs};
  }
};

}  // namespace

extern "C" {

int cl_gelu(const Tensor* xs, Tensor** out) { CL_TRY(*out = new Tensor(Gelu::apply(*xs))) }

int cl_swiglu(const Tensor* gate, const Tensor* up, Tensor** out) { CL_TRY(*out = new Tensor(SwiGlu::apply(*gate, *up))) }

}  // extern "C"
