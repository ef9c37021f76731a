// Vector quantisation (van den Oord et al., "Neural Discrete Representation Learning", 2017, section 3 and appendix A.1): the
// code nearest to each vector, argmin_k |e_k|^2 - 2 <x, e_k>, and how many vectors chose each code, with their sums.
// Letters: N vectors, G codebooks, K codes each, D numbers a code.
// Shapes: x [N, G D] of T; e [G, K, D], counts [G, K] and sums [G, K, D] float32; codes [N, G] int64.
//
// Sums have one order: a block sums what chose the same code among its TILE vectors, first to last, and leaves the sum where
// the first of them stands ("marks" and "members" say of what code and of how many); then a warp a code goes through those.

const int TILE = 64;   // vectors of a block, and codes that it looks at together
const int DEPTH = 16;  // numbers of a vector that stand in shared memory together
const int SIDE = 4;    // a thread has SIDE x SIDE distances; 16 x 16 threads

// NaN is nearest, as libtorch's argmin has it; of equals the lower code.
CL_DEVICE bool is_nearer(float a, i64 code, float b, i64 other) {
  const bool a_is_none = a != a, b_is_none = b != b;
  if (a_is_none != b_is_none) return a_is_none;
  if (!a_is_none && a != b) return a < b;
  return code < other;
}

// What chose the same code among `count` vectors that start at `first`.
CL_DEVICE void sum_alike(const T* xs, const int* chosen, float* partial, int* marks, int* members, i64 first, int count, i64 book,
                         i64 vectors, i64 books, i64 dim) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  for (int row = warp; row < count; row += warps) {
    const int code = chosen[row];
    bool is_first = true;
    int alike = 0;
    for (int other = 0; other < count; other++) {
      is_first = is_first && !(other < row && chosen[other] == code);
      alike += chosen[other] == code;
    }
    const i64 at = book * vectors + first + row;
    if (lane == 0) {
      marks[at] = is_first ? code : -1;
      members[at] = alike;
    }
    if (!is_first) continue;
    for (i64 d = lane; d < dim; d += 32) {
      float sum = 0.0f;
      for (int other = row; other < count; other++)
        if (chosen[other] == code) sum += load(xs[((first + other) * books + book) * dim + d]);
      partial[at * dim + d] = sum;
    }
  }
}

// Codes of TILE vectors of one codebook a block; with `partial`, their sums in the same pass. Blocks: (tiles, G).
CL_KERNEL nearest(const T* xs, const float* es, i64* codes, float* partial, int* marks, int* members, i64 vectors, i64 books,
                  i64 count, i64 dim) {
  __shared__ float x_part[DEPTH][TILE + 1], e_part[DEPTH][TILE + 1];
  __shared__ float squares[TILE], best_of[TILE][TILE / SIDE];
  __shared__ i64 code_of[TILE][TILE / SIDE];
  __shared__ int chosen[TILE];
  const i64 book = blockIdx.y, first = blockIdx.x * static_cast<i64>(TILE);
  const int across = threadIdx.x % 16, down = threadIdx.x / 16;
  const float* own = es + book * count * dim;
  float best[SIDE];
  i64 code[SIDE];
  for (int i = 0; i < SIDE; i++) {
    best[i] = CL_INFINITY;
    code[i] = count;  // behind all codes: even an infinite distance is nearer
  }
  for (i64 start = 0; start < count; start += TILE) {
    float dots[SIDE][SIDE] = {};
    float square = 0.0f;  // of code start + threadIdx.x, for the first TILE threads
    for (i64 depth = 0; depth < dim; depth += DEPTH) {
      __syncthreads();  // who still reads the numbers before
      for (int i = threadIdx.x; i < DEPTH * TILE; i += blockDim.x) {
        const int row = i / DEPTH, d = i % DEPTH;
        const bool is_inside = depth + d < dim;
        x_part[d][row] = is_inside && first + row < vectors ? load(xs[((first + row) * books + book) * dim + depth + d]) : 0.0f;
        e_part[d][row] = is_inside && start + row < count ? own[(start + row) * dim + depth + d] : 0.0f;
      }
      __syncthreads();
      for (int d = 0; d < DEPTH; d++) {
        float x[SIDE], e[SIDE];
        for (int i = 0; i < SIDE; i++) {
          x[i] = x_part[d][down + 16 * i];
          e[i] = e_part[d][across + 16 * i];
        }
        for (int i = 0; i < SIDE; i++)
          for (int j = 0; j < SIDE; j++) dots[i][j] += x[i] * e[j];
      }
      if (threadIdx.x < TILE)
        for (int d = 0; d < DEPTH; d++) square += e_part[d][threadIdx.x] * e_part[d][threadIdx.x];
    }
    if (threadIdx.x < TILE) squares[threadIdx.x] = square;
    __syncthreads();
    for (int i = 0; i < SIDE; i++)
      for (int j = 0; j < SIDE; j++) {
        const i64 k = start + across + 16 * j;
        const float distance = squares[across + 16 * j] - 2.0f * dots[i][j];
        if (k < count && is_nearer(distance, k, best[i], code[i])) {
          best[i] = distance;
          code[i] = k;
        }
      }
  }
  for (int i = 0; i < SIDE; i++) {
    best_of[down + 16 * i][across] = best[i];
    code_of[down + 16 * i][across] = code[i];
  }
  __syncthreads();
  const int rows = static_cast<int>(vectors - first < TILE ? vectors - first : TILE);
  if (threadIdx.x < rows) {
    const int row = threadIdx.x;
    float least = best_of[row][0];
    i64 found = code_of[row][0];
    for (int i = 1; i < TILE / SIDE; i++)
      if (is_nearer(best_of[row][i], code_of[row][i], least, found)) {
        least = best_of[row][i];
        found = code_of[row][i];
      }
    codes[(first + row) * books + book] = found;
    chosen[row] = static_cast<int>(found);
  }
  if (partial == nullptr) return;
  __syncthreads();
  sum_alike(xs, chosen, partial, marks, members, first, rows, book, vectors, books, dim);
}
CL_EXPORT(nearest)

// The same sums where codes are known. Blocks: (tiles, G).
CL_KERNEL alike(const T* xs, const i64* codes, float* partial, int* marks, int* members, i64 vectors, i64 books, i64 dim) {
  __shared__ int chosen[TILE];
  const i64 book = blockIdx.y, first = blockIdx.x * static_cast<i64>(TILE);
  const int rows = static_cast<int>(vectors - first < TILE ? vectors - first : TILE);
  if (threadIdx.x < rows) {
    const i64 code = codes[(first + threadIdx.x) * books + book];
    chosen[threadIdx.x] = code >= 0 && code <= 0x7fffffff ? static_cast<int>(code) : -1;
  }
  __syncthreads();
  sum_alike(xs, chosen, partial, marks, members, first, rows, book, vectors, books, dim);
}
CL_EXPORT(alike)

// Counts and sums of each code from those of tiles, in their order: a warp a code, 32 marks at a time. Blocks: (codes / warps, G).
CL_KERNEL totals(const float* partial, const int* marks, const int* members, float* counts, float* sums, i64 vectors, i64 count,
                 i64 dim) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  const i64 book = blockIdx.y, code = blockIdx.x * static_cast<i64>(warps) + warp;
  if (code >= count) return;  // a whole warp
  const i64 out = book * count + code;
  i64 all = 0;
  for (i64 depth = 0; depth < dim; depth += 32 * SIDE) {
    float sum[SIDE] = {};
    for (i64 first = 0; first < vectors; first += 32) {
      const bool is_mine = first + lane < vectors && marks[book * vectors + first + lane] == code;
      for (u32 found = __ballot_sync(0xffffffffu, is_mine); found != 0; found &= found - 1) {
        const i64 row = book * vectors + first + __ffs(found) - 1;
        for (int i = 0; i < SIDE; i++)
          if (depth + 32 * i + lane < dim) sum[i] += partial[row * dim + depth + 32 * i + lane];
        if (depth == 0) all += members[row];
      }
    }
    for (int i = 0; i < SIDE; i++)
      if (depth + 32 * i + lane < dim) sums[out * dim + depth + 32 * i + lane] = sum[i];
  }
  if (lane == 0) counts[out] = static_cast<float>(all);
}
CL_EXPORT(totals)
