// Loops that the compiler vectorises, compiled once for each kind of processor and picked when they are called (by GCC 12 and
// later; elsewhere for the least processor); and bfloat16 as bits, so that conversions vectorise as well.
#pragma once
#include <cstdint>
#include <cstring>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12
#define CL_HAS_TARGETS 1
#define CL_AVX512 __attribute__((target("arch=x86-64-v4"), noinline))
#define CL_AVX2 __attribute__((target("arch=x86-64-v3"), noinline))
#else
#define CL_AVX512
#define CL_AVX2
#endif
#define CL_WORK __attribute__((always_inline))
#define CL_INLINE static inline __attribute__((always_inline))

namespace cl {

const int PORTABLE = 0, AVX2 = 1, AVX512 = 2;

// The instructions that loops use: the widest of this processor, or fewer where CHAINRULE_SIMD asks.
int simd();

template <typename Work>
CL_AVX512 auto with_avx512(const Work& work) {
  return work();
}

template <typename Work>
CL_AVX2 auto with_avx2(const Work& work) {
  return work();
}

// Calls `work`, a lambda marked CL_WORK over loops marked CL_INLINE, as compiled for the instructions in use.
template <typename Work>
auto widest(const Work& work) {
  switch (simd()) {
    case AVX512: return with_avx512(work);
    case AVX2: return with_avx2(work);
    default: return work();
  }
}

struct Bf16 {
  uint16_t bits;
};

CL_INLINE float load(float x) { return x; }

CL_INLINE float load(Bf16 x) {
  uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  float y;
  std::memcpy(&y, &bits, 4);
  return y;
}

CL_INLINE void store(float* to, float x) { *to = x; }

// Rounds to the nearest, ties to even; NaN stays NaN.
CL_INLINE void store(Bf16* to, float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  to->bits = static_cast<uint16_t>(x == x ? rounded : 0x7fc0);
}

// e^x for |x| <= 80, to 2 units in the last place: 2^n times a polynomial of degree 6 in the remainder.
CL_INLINE float exponential(float x) {
  const float round = 12582912.0f;  // adding 1.5 * 2^23 leaves the nearest integer
  const float n = (x * 1.44269504f + round) - round;
  const float r = (x - n * 0.693145752f) - n * 1.42860677e-6f;
  float p = 1.38889e-3f;
  p = p * r + 8.3333333e-3f;
  p = p * r + 4.1666667e-2f;
  p = p * r + 1.6666667e-1f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const int32_t bits = (static_cast<int32_t>(n) + 127) << 23;
  float scale;
  std::memcpy(&scale, &bits, 4);
  return p * scale;
}

CL_INLINE float bounded(float x, float limit) {
  x = x > limit ? limit : x;  // NaN stays NaN
  return x < -limit ? -limit : x;
}

// e^-x for x >= 0; 0 where x is beyond 80, so that no large factor brings it back.
CL_INLINE float decayed(float x) { return x > 80.0f ? 0.0f : exponential(bounded(-x, 80.0f)); }

// ln x for normal positive x, to 2 units in the last place: that of the exponent, and a polynomial in what x lacks to the
// power of two that is nearest in ratio (the coefficients of Moshier's Cephes library, logf). NaN stays NaN.
CL_INLINE float logarithm(float x) {
  int32_t bits;
  std::memcpy(&bits, &x, 4);
  const int32_t exponent = (bits - 0x3f3504f3) >> 23;  // of x / sqrt(1/2)
  bits -= exponent * (1 << 23);
  float f;
  std::memcpy(&f, &bits, 4);
  f -= 1.0f;
  float p = 7.0376836292e-2f;
  p = p * f - 1.1514610310e-1f;
  p = p * f + 1.1676998740e-1f;
  p = p * f - 1.2420140846e-1f;
  p = p * f + 1.4249322787e-1f;
  p = p * f - 1.6668057665e-1f;
  p = p * f + 2.0000714765e-1f;
  p = p * f - 2.4999993993e-1f;
  p = p * f + 3.3333331174e-1f;
  const float n = static_cast<float>(exponent), square = f * f;
  const float y = f + (square * (f * p - 0.5f) - 2.12194440e-4f * n) + 0.693359375f * n;
  return x == x ? y : x;
}

}  // namespace cl
