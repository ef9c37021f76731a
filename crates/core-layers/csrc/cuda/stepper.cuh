// What kernels share that step through a network, a value after the other. It stands before wavenet.cu and program.cu.
// Letters: V examples that a block has side by side.
//
// A matrix of T lies [inputs][outputs], outputs padded to whole quads. Threads share out its quads and, where there are more
// threads, the inputs in slices; slices depend on the matrix and the block only and are added in order, so an example's
// bits do not depend on V or on the examples beside it.

struct alignas(4 * sizeof(T)) Quad {
  T of[4];
};
// A number of each example.
template <int V>
struct alignas(V < 4 ? 4 * V : 16) Numbers {
  float of[V];
};

CL_DEVICE int slices_of(int quads) {
  const int slices = static_cast<int>(blockDim.x) / quads;
  return slices < 1 ? 1 : slices > 16 ? 16 : slices;
}

// NaN passes.
CL_DEVICE float rectified(float x) { return x > 0.0f || x != x ? x : 0.0f; }

// The products of W [ins][outs] and xs [ins][V], summed over each slice of the inputs: parts [slices][outs][V], of the first
// `live` outputs at least.
template <int V>
CL_DEVICE void multiply(const T* ws, const float* xs, int ins, int outs, int live, float* parts) {
  const int quads = (outs + 3) / 4, slices = slices_of(quads);
  for (int unit = threadIdx.x; unit < quads * slices; unit += blockDim.x) {
    const int quad = unit % quads, slice = unit / quads;
    if (4 * quad >= live) continue;
    const int first = ins * slice / slices, last = ins * (slice + 1) / slices;
    const Quad* row = reinterpret_cast<const Quad*>(ws) + static_cast<i64>(first) * quads + quad;
    float sums[4][V] = {};
#pragma unroll 4
    for (int k = first; k < last; k++, row += quads) {
      const Quad w = *row;
      const Numbers<V> x = reinterpret_cast<const Numbers<V>*>(xs)[k];
#pragma unroll
      for (int out = 0; out < 4; out++)
#pragma unroll
        for (int v = 0; v < V; v++) sums[out][v] += load(w.of[out]) * x.of[v];
    }
#pragma unroll
    for (int out = 0; out < 4; out++) {
      Numbers<V> sum;
#pragma unroll
      for (int v = 0; v < V; v++) sum.of[v] = sums[out][v];
      reinterpret_cast<Numbers<V>*>(parts)[(slice * quads + quad) * 4 + out] = sum;
    }
  }
}

// `sum` and the parts of one output of example v.
template <int V>
CL_DEVICE float total(const float* parts, int outs, int out, int v, float sum) {
  const int quads = (outs + 3) / 4, slices = slices_of(quads);
  for (int slice = 0; slice < slices; slice++) sum += parts[(slice * quads * 4 + out) * V + v];
  return sum;
}

// The level at u of the distribution whose log-probabilities, up to a constant, are ys[level * stride]: the first whose
// cumulated probability exceeds u; 0 where they are no numbers. For a warp; each lane has a run of levels.
CL_DEVICE i64 quantile(const float* ys, int stride, int levels, float u) {
  const int lane = threadIdx.x % 32, share = (levels + 31) / 32;
  const int first = lane * share < levels ? lane * share : levels, last = first + share < levels ? first + share : levels;
  float greatest = -CL_INFINITY;
  for (int level = first; level < last; level++) greatest = greater(greatest, ys[level * stride]);
  greatest = warp_max(greatest);
  float own = 0.0f;
  for (int level = first; level < last; level++) own += expf(ys[level * stride] - greatest);
  float through = own;  // of this lane and those before it
  for (int step = 1; step < 32; step *= 2) {
    const float before = __shfl_up_sync(0xffffffffu, through, step);
    if (lane >= step) through += before;
  }
  const float target = u * __shfl_sync(0xffffffffu, through, 31);
  const float before = __shfl_up_sync(0xffffffffu, through, 1);
  // the first lane that passes the target; if rounding leaves none, the last in which a level can occur
  float passes = through > target && own > 0.0f ? static_cast<float>(lane) : 32.0f;
  float occurs = own > 0.0f ? static_cast<float>(lane) : -1.0f;
  passes = -warp_max(-passes);
  occurs = warp_max(occurs);
  const int chosen = static_cast<int>(passes < 32.0f ? passes : occurs);
  if (chosen < 0) return 0;
  int symbol = first;
  float sum = lane == 0 ? 0.0f : before;
  for (int level = first; level < last; level++) {
    const float weight = expf(ys[level * stride] - greatest);
    if (weight > 0.0f) symbol = level;
    sum += weight;
    if (weight > 0.0f && sum > target) break;
  }
  return __shfl_sync(0xffffffffu, symbol, chosen);
}
