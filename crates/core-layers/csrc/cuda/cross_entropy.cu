// log softmax(x)[symbol], log Z and their gradient, in one pass over the logits each.
// Letters: P positions (rows), L levels.
// Shapes: x [P, L] of T, symbols [P], y and log_z [P] float. A row belongs to a warp where blocks are 32 wide and of several
// rows, else to a block. With y = x[symbol] - log Z and p = softmax(x): dx = (dz - dy) p, and dy more at the symbol.

#define IGNORED (-100)  // a symbol that is no level: y, log_z and dx are 0
#define NOT_A_NUMBER __uint_as_float(0x7fc00000u)

CL_DEVICE float row_sum(float x, float* scratch) { return blockDim.x == 32 ? warp_sum(x) : block_sum(x, scratch); }
CL_DEVICE float row_max(float x, float* scratch) { return blockDim.x == 32 ? warp_max(x) : block_max(x, scratch); }

CL_KERNEL cross_entropy(const T* xs, const i64* symbols, float* ys, float* log_zs, i64 levels, i64 rows) {
  __shared__ float scratch[32];
  const i64 stride = static_cast<i64>(gridDim.x) * blockDim.y;
  for (i64 row = blockIdx.x * static_cast<i64>(blockDim.y) + threadIdx.y; row < rows; row += stride) {
    const T* x = xs + row * levels;
    const i64 symbol = symbols[row];
    if (symbol == IGNORED) {
      if (threadIdx.x == 0) ys[row] = log_zs[row] = 0.0f;
      continue;
    }
    float max = -CL_INFINITY, sum = 0.0f;  // of this thread's: sum of e^(x - max)
    for (i64 i = threadIdx.x; i < levels; i += blockDim.x) {
      const float here = load(x[i]);
      if (here > max) {
        sum = sum * expf(max - here) + 1.0f;
        max = here;
      } else {
        sum += here == max ? 1.0f : expf(here - max);  // infinite alike: no NaN yet
      }
    }
    const float greatest = row_max(max, scratch);
    const float log_sum = logf(row_sum(sum * expf(max - greatest), scratch));
    if (threadIdx.x == 0) {
      const bool is_level = symbol >= 0 && symbol < levels;
      ys[row] = is_level ? (load(x[symbol]) - greatest) - log_sum : NOT_A_NUMBER;
      log_zs[row] = is_level ? greatest + log_sum : NOT_A_NUMBER;
    }
  }
}
CL_EXPORT(cross_entropy)

// dx of dy and dz; it may lie where x lies, since each thread writes what only it has read.
CL_KERNEL cross_entropy_gradient(const T* xs, const i64* symbols, const float* log_zs, const float* dys, const float* dzs, T* dxs,
                                 i64 levels, i64 rows) {
  const i64 stride = static_cast<i64>(gridDim.x) * blockDim.y;
  for (i64 row = blockIdx.x * static_cast<i64>(blockDim.y) + threadIdx.y; row < rows; row += stride) {
    const i64 symbol = symbols[row], first = row * levels;
    const float log_z = log_zs[row], dy = dys[row], dz = dzs[row];
    for (i64 i = threadIdx.x; i < levels; i += blockDim.x) {
      const float p = expf(load(xs[first + i]) - log_z);
      const float dx = i == symbol ? dy * (1.0f - p) + dz * p : (dz - dy) * p;
      store(dxs + first + i, symbol == IGNORED ? 0.0f : dx);
    }
  }
}
CL_EXPORT(cross_entropy_gradient)
