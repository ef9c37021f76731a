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

}  // namespace cl
