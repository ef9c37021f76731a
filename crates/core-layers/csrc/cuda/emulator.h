// Runs CUDA kernels on the host: a fibre for each thread of a block, blocks one after another, for tests on machines
// without a GPU. It stands before prelude.cuh and a .cu file, all compiled as C++ into a library with one entry, cl_emulate.
// It sees wrong indices, wrong reductions and barriers that not all threads reach; fibres may run in forward, reversed or
// shuffled order, in which most races show. It knows nothing of the memory model, of tensor cores, of speed.
#pragma once
#include <ucontext.h>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <map>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#define __CUDA_EMULATOR__ 1
#define __global__
#define __device__
#define __shared__ static  // blocks follow one another on one thread, so a static is a block's own
#define __forceinline__ inline
#define __restrict__
#define __launch_bounds__(...)

namespace emulator {

struct Dim {
  unsigned x = 1, y = 1, z = 1;
};
enum Wait { RUNNING, AT_BARRIER, AT_WARP };
enum Order { FORWARD, REVERSED, SHUFFLED };

struct Fibre {
  ucontext_t context;
  Dim index;
  Wait waits = RUNNING;
  bool is_done = false;
};

const size_t STACK = 64 << 10;
inline Dim thread_index, block_index, block_size, grid_size;
inline std::vector<Fibre> fibres;
inline std::vector<char> stacks, dynamic;
inline std::vector<uint64_t> exchanged;  // what each lane of each warp shows the others
inline size_t current = 0;
inline ucontext_t scheduler;
inline void (*body)(void**) = nullptr;
inline void** arguments = nullptr;
inline std::map<std::string, void (*)(void**)>& table() {
  static std::map<std::string, void (*)(void**)> kernels;
  return kernels;
}

inline void wait(Wait why) {
  fibres[current].waits = why;
  swapcontext(&fibres[current].context, &scheduler);
}

inline void enter() {
  body(arguments);
  fibres[current].is_done = true;
  swapcontext(&fibres[current].context, &scheduler);
}

inline void run_until_all_wait(Order order, unsigned& seed) {
  std::vector<size_t> turns(fibres.size());
  for (size_t i = 0; i < turns.size(); i++) turns[i] = order == REVERSED ? turns.size() - 1 - i : i;
  if (order == SHUFFLED) {
    for (size_t i = turns.size(); i > 1; i--) {
      seed = seed * 1664525u + 1013904223u;
      std::swap(turns[i - 1], turns[(seed >> 8) % i]);
    }
  }
  for (size_t turn : turns) {
    Fibre& fibre = fibres[turn];
    if (fibre.is_done || fibre.waits != RUNNING) continue;
    current = turn;
    thread_index = fibre.index;
    swapcontext(&scheduler, &fibre.context);
  }
}

// Lets go who waits for what has come; false when all are done.
inline bool release() {
  size_t alive = 0, at_barrier = 0;
  bool is_released = false;
  for (size_t first = 0; first < fibres.size(); first += 32) {
    const size_t last = std::min(fibres.size(), first + 32);
    size_t of_warp = 0, waiting = 0;
    for (size_t i = first; i < last; i++) {
      of_warp += !fibres[i].is_done;
      waiting += !fibres[i].is_done && fibres[i].waits == AT_WARP;
      at_barrier += !fibres[i].is_done && fibres[i].waits == AT_BARRIER;
    }
    alive += of_warp;
    if (waiting == 0 || waiting < of_warp) continue;
    if (of_warp < last - first) throw std::runtime_error("lanes exchange values after others of their warp returned");
    for (size_t i = first; i < last; i++) fibres[i].waits = RUNNING;
    is_released = true;
  }
  if (alive == 0) return false;
  if (is_released) return true;
  if (at_barrier != alive) throw std::runtime_error("some threads wait at a barrier, others for their warp");
  if (alive != fibres.size()) throw std::runtime_error("a barrier after some threads returned");
  for (Fibre& fibre : fibres) fibre.waits = RUNNING;
  return true;
}

inline void run_block(Order order) {
  unsigned seed = 12345 + block_index.x;
  std::memset(dynamic.data(), 0xcd, dynamic.size());  // reading what nobody wrote shows
  for (size_t i = 0; i < fibres.size(); i++) {
    Fibre& fibre = fibres[i];
    fibre.waits = RUNNING;
    fibre.is_done = false;
    const unsigned at = static_cast<unsigned>(i);
    fibre.index = {at % block_size.x, at / block_size.x % block_size.y, at / block_size.x / block_size.y};
    getcontext(&fibre.context);
    fibre.context.uc_stack.ss_sp = stacks.data() + i * STACK;
    fibre.context.uc_stack.ss_size = STACK;
    fibre.context.uc_link = &scheduler;
    makecontext(&fibre.context, enter, 0);
  }
  do {
    run_until_all_wait(order, seed);
  } while (release());
}

inline void launch(const char* name, Dim grid, Dim block, size_t shared, void** args, Order order) {
  const auto kernel = table().find(name);
  if (kernel == table().end()) throw std::runtime_error(std::string("no kernel is called ") + name);
  if (block.x * block.y * block.z > 1024) throw std::runtime_error("a block has more than 1024 threads");
  if (shared > 227 * 1024) throw std::runtime_error("a block wants more than 227 KiB of shared memory");
  if (grid.y > 65535 || grid.z > 65535) throw std::runtime_error("a grid has more than 65535 rows or layers");
  body = kernel->second;
  arguments = args;
  grid_size = grid;
  block_size = block;
  fibres.resize(block.x * block.y * block.z);
  stacks.resize(fibres.size() * STACK);
  exchanged.assign((fibres.size() + 31) / 32 * 32, 0);
  dynamic.resize(shared + 16);
  for (unsigned z = 0; z < grid.z; z++)
    for (unsigned y = 0; y < grid.y; y++)
      for (unsigned x = 0; x < grid.x; x++) {
        block_index = {x, y, z};
        run_block(order);
      }
}

template <class V>
V exchange(V value, size_t lane) {
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  exchanged[current] = bits;
  wait(AT_WARP);
  bits = exchanged[current / 32 * 32 + lane % 32];
  wait(AT_WARP);
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

template <auto kernel>
struct Kernel;
template <class... A, void (*kernel)(A...)>
struct Kernel<kernel> {
  template <size_t... I>
  static void call(void** args, std::index_sequence<I...>) {
    kernel(*static_cast<A*>(args[I])...);
  }
  static void run(void** args) { call(args, std::index_sequence_for<A...>{}); }
};

struct Export {
  Export(const char* name, void (*run)(void**)) { table()[name] = run; }
};

inline float from_half(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16, exponent = half >> 10 & 31, mantissa = half & 1023;
  if (exponent == 0) return (sign ? -1.0f : 1.0f) * static_cast<float>(mantissa) * 0x1p-24f;
  const uint32_t bits = sign | (exponent == 31 ? 0x7f800000u : (exponent + 112) << 23) | mantissa << 13;
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}

inline uint16_t to_half(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  const uint16_t sign = static_cast<uint16_t>(bits >> 16 & 0x8000);
  if (x != x) return sign | 0x7e00;
  const float size = std::fabs(x);
  if (size >= 65520.0f) return sign | 0x7c00;
  if (size < 0x1p-14f) return static_cast<uint16_t>(sign | static_cast<uint16_t>(std::nearbyint(size * 0x1p24f)));
  bits &= 0x7fffffff;
  return static_cast<uint16_t>(sign | (bits - (112u << 23) + 0xfffu + (bits >> 13 & 1u)) >> 13);
}

}  // namespace emulator

#define threadIdx emulator::thread_index
#define blockIdx emulator::block_index
#define blockDim emulator::block_size
#define gridDim emulator::grid_size
#define __syncthreads() emulator::wait(emulator::AT_BARRIER)
#define CL_EXPORT(name) static const emulator::Export export_##name(#name, emulator::Kernel<name>::run);
#define CL_DYNAMIC_SHARED(type, name) \
  type* name = reinterpret_cast<type*>((reinterpret_cast<uintptr_t>(emulator::dynamic.data()) + 15) & ~uintptr_t(15))

inline size_t emulated_lane() { return emulator::current % 32; }
template <class V>
V __shfl_sync(unsigned, V value, int lane) {
  return emulator::exchange(value, static_cast<size_t>(lane));
}
template <class V>
V __shfl_xor_sync(unsigned, V value, int mask) {
  return emulator::exchange(value, emulated_lane() ^ static_cast<size_t>(mask));
}
template <class V>
V __shfl_up_sync(unsigned, V value, int step) {
  const size_t lane = emulated_lane(), back = static_cast<size_t>(step);
  return emulator::exchange(value, lane >= back ? lane - back : lane);
}
inline unsigned __ballot_sync(unsigned, bool is_so) {
  emulator::exchanged[emulator::current] = is_so;
  emulator::wait(emulator::AT_WARP);
  unsigned all = 0;
  for (size_t lane = 0; lane < 32; lane++) all |= static_cast<unsigned>(emulator::exchanged[emulator::current / 32 * 32 + lane]) << lane;
  emulator::wait(emulator::AT_WARP);
  return all;
}
inline int __ffs(unsigned bits) { return __builtin_ffs(static_cast<int>(bits)); }
inline float __uint_as_float(unsigned bits) {
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}
inline unsigned __float_as_uint(float x) {
  unsigned bits;
  std::memcpy(&bits, &x, 4);
  return bits;
}
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }

// Runs a kernel by its name; null, or what went wrong.
extern "C" const char* cl_emulate(const char* name, const unsigned* grid, const unsigned* block, unsigned shared, void** args, int order) {
  static std::string message;
  try {
    emulator::launch(name, {grid[0], grid[1], grid[2]}, {block[0], block[1], block[2]}, shared, args, static_cast<emulator::Order>(order));
    return nullptr;
  } catch (const std::exception& error) {
    message = error.what();
    return message.c_str();
  }
}
