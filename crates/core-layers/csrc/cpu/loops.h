// Loops that the compiler vectorises, compiled once for each kind of processor and picked when the program is loaded
// (by GCC 12 and later; elsewhere for the least processor); and bfloat16 as bits, so that conversions vectorise as well.
#pragma once
#include <cstdint>
#include <cstring>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12
#define CL_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CL_CLONES
#endif
#define CL_INLINE static inline __attribute__((always_inline))

namespace cl {

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
