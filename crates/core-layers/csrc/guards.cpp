// Modes: autocast on the CPU, thread by thread; the allocator's and the instructions of loops, of the process.
#include "api.h"
#include "cpu/loops.h"
#include <ATen/autocast_mode.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <algorithm>
#include <atomic>

namespace cl {

namespace {

int widest_simd() {
#ifdef CL_HAS_TARGETS
  if (__builtin_cpu_supports("x86-64-v4")) return AVX512;
  if (__builtin_cpu_supports("x86-64-v3")) return AVX2;
#elif defined(__x86_64__)  // for the files that name their instructions themselves
  const bool is_v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  const bool is_v4 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                     __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                     __builtin_cpu_supports("avx512vl");
  if (is_v3) return is_v4 ? AVX512 : AVX2;
#endif
  return PORTABLE;
}

std::atomic<int> in_use{widest_simd()};

}  // namespace

int simd() { return in_use.load(std::memory_order_relaxed); }

std::string& last_error() {
  thread_local std::string message;
  return message;
}
}  // namespace cl

extern "C" {

const char* cl_last_error() { return cl::last_error().c_str(); }

// Switches autocast of `device` (0 CPU, 1 CUDA) to `dtype` (15 is bfloat16); the previous state is returned for the guard.
int cl_autocast_set(int device, int on, int dtype, int* previous_on, int* previous_dtype) {
  CL_TRY(
      auto type = static_cast<at::DeviceType>(device);
      *previous_on = at::autocast::is_autocast_enabled(type);
      *previous_dtype = static_cast<int>(at::autocast::get_autocast_dtype(type));
      at::autocast::set_autocast_dtype(type, static_cast<at::ScalarType>(dtype));
      at::autocast::set_autocast_enabled(type, on != 0))
}

// Weight casts are cached until the nesting falls back to zero.
int cl_autocast_nest(int up) {
  CL_TRY(if (up) { at::autocast::increment_nesting(); } else if (at::autocast::decrement_nesting() == 0) {
    at::autocast::clear_cache();
  })
}

// Loops use the instructions `most` (of loops.h), or fewer where the processor has no more.
void cl_set_simd(int most) { cl::in_use = std::min(most, cl::widest_simd()); }

// Keeps freed memory instead of returning it page by page: a training step asks for the same again.
void cl_keep_memory() {
#ifdef __GLIBC__
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, 0x7fffffff);
#endif
}

}  // extern "C"
