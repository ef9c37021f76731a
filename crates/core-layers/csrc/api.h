// The C ABI of core-layers over libtorch. Each function returns 0, or 1 with cl_last_error() set:
// nothing unwinds into Rust.
#pragma once
#include <c10/util/Exception.h>
#include <exception>
#include <string>

namespace cl {
std::string& last_error();
}

// First in a backward pass whose own operations no graph records.
#define CL_FIRST_DERIVATIVE(what) TORCH_CHECK(!at::GradMode::is_enabled(), what " has no second derivative")

#define CL_TRY(...)                                    \
  try {                                                \
    __VA_ARGS__;                                       \
    return 0;                                          \
  } catch (const c10::Error& e) {                      \
    cl::last_error() = e.what_without_backtrace();     \
    return 1;                                          \
  } catch (const std::exception& e) {                  \
    cl::last_error() = e.what();                       \
    return 1;                                          \
  } catch (...) {                                      \
    cl::last_error() = "unknown C++ exception";        \
    return 1;                                          \
  }
