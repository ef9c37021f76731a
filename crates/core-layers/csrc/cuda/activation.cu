// What stands between the matrices of a feed-forward network, and its gradient:
//
//   gelu(x) = x sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3), which is GPT-2's form by tanh;  swiglu(a, b) = a sigmoid(a) b
//
// All of `count` numbers of T. A thread has four.

#define CL_TWICE_ROOT 1.5957691216f  // 2 sqrt(2 / pi)
#define CL_CUBE 0.044715f
#define CL_EACH_FOUR(at)                                                                                 \
  for (i64 at = 4 * (blockIdx.x * static_cast<i64>(blockDim.x) + threadIdx.x); at < count; at += 4LL * gridDim.x * blockDim.x)

CL_KERNEL gelu(const T* xs, T* ys, i64 count) {
  CL_EACH_FOUR(at) {
    float x[4];
    load_four(xs, at, count, x);
    for (int k = 0; k < 4; k++) x[k] *= sigmoid(CL_TWICE_ROOT * x[k] * (1.0f + CL_CUBE * x[k] * x[k]));
    store_four(ys, at, count, x);
  }
}
CL_EXPORT(gelu)

CL_KERNEL gelu_gradient(const T* xs, const T* dys, T* dxs, i64 count) {
  CL_EACH_FOUR(at) {
    float x[4], d[4];
    load_four(xs, at, count, x);
    load_four(dys, at, count, d);
    for (int k = 0; k < 4; k++) {
      const float s = sigmoid(CL_TWICE_ROOT * x[k] * (1.0f + CL_CUBE * x[k] * x[k]));
      const float slope = CL_TWICE_ROOT * (1.0f + 3.0f * CL_CUBE * x[k] * x[k]);
      d[k] *= s * (1.0f + x[k] * (1.0f - s) * slope);
    }
    store_four(dxs, at, count, d);
  }
}
CL_EXPORT(gelu_gradient)

CL_KERNEL swiglu(const T* gates, const T* ups, T* ys, i64 count) {
  CL_EACH_FOUR(at) {
    float a[4], b[4];
    load_four(gates, at, count, a);
    load_four(ups, at, count, b);
    for (int k = 0; k < 4; k++) b[k] *= a[k] * sigmoid(a[k]);
    store_four(ys, at, count, b);
  }
}
CL_EXPORT(swiglu)

CL_KERNEL swiglu_gradient(const T* gates, const T* ups, const T* dys, T* dgates, T* dups, i64 count) {
  CL_EACH_FOUR(at) {
    float a[4], b[4], d[4];
    load_four(gates, at, count, a);
    load_four(ups, at, count, b);
    load_four(dys, at, count, d);
    for (int k = 0; k < 4; k++) {
      const float s = sigmoid(a[k]), up = b[k];
      b[k] = d[k] * a[k] * s;
      a[k] = d[k] * up * s * (1.0f + a[k] * (1.0f - s));
    }
    store_four(dgates, at, count, a);
    store_four(dups, at, count, b);
  }
}
CL_EXPORT(swiglu_gradient)
