// What every kernel starts from: this text stands before the text of each .cu file, under NVRTC and in the emulator alike.
// CL_KIND names the type T of the tensors: 0 float32, 1 bfloat16, 2 float16. Sums are float32 whatever T is.
// No header is needed: the two short types are bits, rounded to nearest even as libtorch does.
typedef unsigned short u16;
typedef unsigned int u32;
typedef long long i64;

#ifndef __CUDA_EMULATOR__
#define CL_EXPORT(name)  // the emulator keeps a table of kernels
#define CL_DYNAMIC_SHARED(type, name) extern __shared__ type name[]
#endif
#define CL_KERNEL extern "C" __global__ void
#define CL_DEVICE static __device__ __forceinline__
#define CL_INFINITY __uint_as_float(0x7f800000u)

struct Bf16 {
  u16 bits;
};
struct F16 {
  u16 bits;
};

#if CL_KIND == 0
typedef float T;
#elif CL_KIND == 1
typedef Bf16 T;
#else
typedef F16 T;
#endif

CL_DEVICE float load(float x) { return x; }
CL_DEVICE float load(Bf16 x) { return __uint_as_float(static_cast<u32>(x.bits) << 16); }
CL_DEVICE void store(float* to, float x) { *to = x; }
CL_DEVICE void store(Bf16* to, float x) {
  const u32 bits = __float_as_uint(x);
  to->bits = static_cast<u16>(x == x ? (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16 : 0x7fc0u);
}
#ifdef __CUDA_EMULATOR__
CL_DEVICE float load(F16 x) { return emulator::from_half(x.bits); }
CL_DEVICE void store(F16* to, float x) { to->bits = emulator::to_half(x); }
#else
CL_DEVICE float load(F16 x) {
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
  return y;
}
CL_DEVICE void store(F16* to, float x) {
  u16 bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
  to->bits = bits;
}
#endif

// x as T holds it.
CL_DEVICE float rounded(float x) {
  T y;
  store(&y, x);
  return load(y);
}

CL_DEVICE float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// Sums and maxima in one order whatever runs first, so that the same input gives the same bits.
CL_DEVICE float warp_sum(float x) {
  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
  return x;
}
// NaN wins, as in libtorch.
CL_DEVICE float greater(float a, float b) { return a > b || a != a ? a : b; }
CL_DEVICE float warp_max(float x) {
  for (int step = 16; step > 0; step /= 2) x = greater(x, __shfl_xor_sync(0xffffffffu, x, step));
  return x;
}
// The sum over a block of whole warps, for all its threads; `scratch` has room for 32.
CL_DEVICE float block_sum(float x, float* scratch) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  x = warp_sum(x);
  __syncthreads();  // who still reads the sum before
  if (lane == 0) scratch[warp] = x;
  __syncthreads();
  return warp_sum(lane < warps ? scratch[lane] : 0.0f);
}
CL_DEVICE float block_max(float x, float* scratch) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  x = warp_max(x);
  __syncthreads();
  if (lane == 0) scratch[warp] = x;
  __syncthreads();
  return warp_max(lane < warps ? scratch[lane] : -CL_INFINITY);
}

// Four neighbours of a row, read or written in one access where they lie so; nothing is touched at or beyond `width`.
template <class X>
struct alignas(4 * sizeof(X)) Four {
  X of[4];
};
template <class X>
CL_DEVICE bool are_four(const X* row, i64 at, i64 width) {
  return at + 4 <= width && reinterpret_cast<unsigned long long>(row + at) % sizeof(Four<X>) == 0;
}
// Zeros stand for what lies beyond.
template <class X>
CL_DEVICE void load_four(const X* row, i64 at, i64 width, float* to) {
  if (are_four(row, at, width)) {
    const Four<X> all = *reinterpret_cast<const Four<X>*>(row + at);
    for (int i = 0; i < 4; i++) to[i] = load(all.of[i]);
  } else {
    for (int i = 0; i < 4; i++) to[i] = at + i < width ? load(row[at + i]) : 0.0f;
  }
}
template <class X>
CL_DEVICE void store_four(X* row, i64 at, i64 width, const float* from) {
  if (are_four(row, at, width)) {
    Four<X> all;
    for (int i = 0; i < 4; i++) store(all.of + i, from[i]);
    *reinterpret_cast<Four<X>*>(row + at) = all;
  } else {
    for (int i = 0; i < 4; i++)
      if (at + i < width) store(row + at + i, from[i]);
  }
}
