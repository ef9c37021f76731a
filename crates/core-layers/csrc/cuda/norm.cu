// Layer norms and root mean square norms over the last axis, of x or of x + r, and their gradients.
//
// With s = x + r, m the mean of s (0 without biases), q = 1 / sqrt(mean((s - m)^2) + epsilon) and n = (s - m) q:
// y = n w + b. With g = dy w, and ds the gradient that comes to s from elsewhere,
// dx = dr = ds + q (g - mean(g) - n mean(g n)), where mean(g) is left out without biases; dw = sum dy n, db = sum dy over rows.
// Letters: R rows, D width, P parts of the rows, X the type of x and s: T, or float where float32 runs between layers in T.
// Shapes: x, s and their gradients [R, D] of X, r, y and their gradients [R, D] of T; w and b [D], stats (m and q) [R, 2] and
// parts (of dw and db) [P, 2, D] float.
// A block has a row at a time and each thread N of its numbers, in registers, four neighbours at a time. With N = 16 the
// gradient may keep some in local memory.

CL_DEVICE i64 column(int k) { return 4 * (threadIdx.x + static_cast<i64>(k / 4) * blockDim.x) + k % 4; }

template <int N, class X>
CL_DEVICE void load_row(const X* row, i64 width, float* to) {
#pragma unroll
  for (int k = 0; k < N; k += 4) load_four(row, column(k), width, to + k);
}

template <int N, class X>
CL_DEVICE void store_row(X* row, i64 width, const float* from) {
#pragma unroll
  for (int k = 0; k < N; k += 4) store_four(row, column(k), width, from + k);
}

template <int N, class X>
CL_DEVICE void forward(const X* xs, const T* residual, const float* ws, const float* bs, X* sums, T* ys, float* stats, i64 rows,
                       i64 width, float epsilon) {
  __shared__ float scratch[32];
  const float share = 1.0f / static_cast<float>(width);
  for (i64 row = blockIdx.x; row < rows; row += gridDim.x) {
    float s[N], w[4], b[4];
    load_row<N>(xs + row * width, width, s);
    if (residual) {
      float r[N];
      load_row<N>(residual + row * width, width, r);
#pragma unroll
      for (int k = 0; k < N; k++) {
        X sum;
        store(&sum, s[k] + r[k]);
        s[k] = load(sum);  // as the gradient reads it
      }
      store_row<N>(sums + row * width, width, s);
    }
    float mean = 0.0f, squares = 0.0f;
    if (bs) {
#pragma unroll
      for (int k = 0; k < N; k++) mean += s[k];
      mean = block_sum(mean, scratch) * share;
    }
#pragma unroll
    for (int k = 0; k < N; k++)
      if (column(k) < width) squares += (s[k] - mean) * (s[k] - mean);
    const float scale = 1.0f / sqrtf(block_sum(squares, scratch) * share + epsilon);
    if (threadIdx.x == 0) {
      stats[2 * row] = mean;
      stats[2 * row + 1] = scale;
    }
#pragma unroll
    for (int k = 0; k < N; k += 4) {
      load_four(ws, column(k), width, w);
      if (bs) load_four(bs, column(k), width, b);
#pragma unroll
      for (int i = 0; i < 4; i++) s[k + i] = (s[k + i] - mean) * scale * w[i] + (bs ? b[i] : 0.0f);
    }
    store_row<N>(ys + row * width, width, s);
  }
}

// dx, dr where it is asked for, and the sums of dw and db over the rows of each block [P, 2, D].
template <int N, class X>
CL_DEVICE void gradient(const X* sums, const float* stats, const float* ws, const T* dys, const X* dsums, X* dxs, T* dresidual,
                        float* parts, i64 rows, i64 width, i64 is_centred) {
  __shared__ float scratch[32];
  const float share = 1.0f / static_cast<float>(width);
  float dw[N], db[N];
#pragma unroll
  for (int k = 0; k < N; k++) dw[k] = db[k] = 0.0f;
  for (i64 row = blockIdx.x; row < rows; row += gridDim.x) {
    const float mean = stats[2 * row], scale = stats[2 * row + 1];
    float n[N], g[N], w[4], shift = 0.0f, product = 0.0f;
    load_row<N>(sums + row * width, width, n);
    load_row<N>(dys + row * width, width, g);
#pragma unroll
    for (int k = 0; k < N; k += 4) {
      load_four(ws, column(k), width, w);
#pragma unroll
      for (int j = 0; j < 4; j++) {
        const int i = k + j;
        n[i] = (n[i] - mean) * scale;
        dw[i] += g[i] * n[i];
        db[i] += g[i];
        g[i] *= w[j];
        shift += g[i];
        product += g[i] * n[i];
      }
    }
    shift = is_centred ? block_sum(shift, scratch) * share : 0.0f;
    product = block_sum(product, scratch) * share;
#pragma unroll
    for (int k = 0; k < N; k += 4) {
      float d[4] = {0.0f, 0.0f, 0.0f, 0.0f};
      if (dsums) load_four(dsums + row * width, column(k), width, d);
#pragma unroll
      for (int j = 0; j < 4; j++) d[j] += scale * (g[k + j] - shift - n[k + j] * product);
      store_four(dxs + row * width, column(k), width, d);
      if (dresidual) store_four(dresidual + row * width, column(k), width, d);
    }
  }
  store_row<N>(parts + 2 * blockIdx.x * width, width, dw);
  store_row<N>(parts + (2 * blockIdx.x + 1) * width, width, db);
}

// Kernels for rows of up to N numbers a thread.
#define CL_NORM(suffix, N, X)                                                                                                \
  CL_KERNEL __launch_bounds__(1024)                                                                                          \
      norm_rows##suffix(const X* xs, const T* residual, const float* ws, const float* bs, X* sums, T* ys, float* stats,      \
                        i64 rows, i64 width, float epsilon) {                                                                \
    forward<N, X>(xs, residual, ws, bs, sums, ys, stats, rows, width, epsilon);                                              \
  }                                                                                                                          \
  CL_EXPORT(norm_rows##suffix)                                                                                               \
  CL_KERNEL __launch_bounds__(1024)                                                                                          \
      norm_rows_gradient##suffix(const X* sums, const float* stats, const float* ws, const T* dys, const X* dsums, X* dxs,   \
                                 T* dresidual, float* parts, i64 rows, i64 width, i64 is_centred) {                          \
    gradient<N, X>(sums, stats, ws, dys, dsums, dxs, dresidual, parts, rows, width, is_centred);                             \
  }                                                                                                                          \
  CL_EXPORT(norm_rows_gradient##suffix)

CL_NORM(, 4, T)
CL_NORM(_wide, 16, T)
CL_NORM(_of_floats, 4, float)
CL_NORM(_of_floats_wide, 16, float)

// The sums of each of `width` columns over `count` parts, always in the same order. A block of 8 warps has 32 columns.
CL_KERNEL norm_sums(const float* parts, float* sums, i64 count, i64 width) {
  __shared__ float scratch[8][32];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (i64 first = blockIdx.x * 32LL; first < width; first += gridDim.x * 32LL) {
    const i64 at = first + lane;
    float sum = 0.0f;
    if (at < width) {
#pragma unroll 4
      for (i64 part = warp; part < count; part += 8) sum += parts[part * width + at];
    }
    __syncthreads();  // who still reads the sums before
    scratch[warp][lane] = sum;
    __syncthreads();
    if (warp == 0 && at < width) {
      for (int i = 1; i < 8; i++) sum += scratch[i][lane];
      sums[at] = sum;
    }
  }
}
CL_EXPORT(norm_sums)
