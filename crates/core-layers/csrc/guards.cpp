// Modes that tch does not bind: autocast on the CPU, thread by thread, and the allocator's, of the process.
#include "api.h"
#include <ATen/autocast_mode.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace cl {
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

// Keeps freed memory instead of returning it page by page: a training step asks for the same again.
void cl_keep_memory() {
#ifdef __GLIBC__
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, 0x7fffffff);
#endif
}

}  // extern "C"
