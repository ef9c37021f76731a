// Attention of one query a row over a cache of keys and values, softmax(q k^T / sqrt(E)) v, cut along the sequence so that one
// long text fills a GPU (Dao et al., "Flash-Decoding for long-context inference", 2023,
// https://crfm.stanford.edu/2023/10/12/flashdecoding.html).
// Letters: R rows, C rows of the cache, N its room, H heads, K key and value heads, E width of a head.
// Shapes: q [R, H, E] and caches [C, K, N, E] of T, y [R, H, E]; of row r, spans [R, 2] int64 says which positions it sees,
// rows [R] int64 in which row of the cache (its own without). What lies outside is not read.
//
// A block has SPAN positions of one row and key head and up to HEADS of the queries that read it; a warp a position, and of it
// a lane every 32nd number. Each warp keeps m = max s, l = sum exp(s - m) and a = sum exp(s - m) v of what it has seen.

const int SPAN = 64;
const int HEADS = 4;
const int WARPS = 4;
const int WIDEST = 8;  // numbers of a head that a lane has: E is 256 at most

CL_DEVICE i64 within(i64 x, i64 least, i64 most) { return x < least ? least : x > most ? most : x; }

// exp(x - most), where nothing seen yet counts nothing.
CL_DEVICE float share(float x, float most) { return x == -CL_INFINITY ? 0.0f : expf(x - most); }

// Blocks: (R K ceil(H / K / HEADS), splits), of WARPS warps. One split writes y; several leave m, l and a, E + 2 numbers each,
// [R, H, splits, E + 2], for `combine`.
CL_KERNEL attend(const T* qs, const T* keys, const T* values, const i64* rows, const i64* spans, T* ys, float* partial, i64 heads,
                 i64 kv_heads, i64 cache_rows, i64 room, i64 width, float scale) {
  __shared__ float most[WARPS][HEADS], total[WARPS][HEADS], sums[WARPS][HEADS][32 * WIDEST];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const i64 alike = heads / kv_heads, groups = (alike + HEADS - 1) / HEADS;
  const i64 group = blockIdx.x % groups, kv = blockIdx.x / groups % kv_heads, row = blockIdx.x / groups / kv_heads;
  const i64 first_head = kv * alike + group * HEADS, split = blockIdx.y, splits = gridDim.y;
  const int count = static_cast<int>(within(alike - group * HEADS, 0, HEADS));
  const i64 of = rows ? within(rows[row], 0, cache_rows - 1) : row;
  const i64 begin = within(spans[2 * row], 0, room) + split * SPAN;
  const i64 end = within(spans[2 * row + 1], 0, begin + SPAN < room ? begin + SPAN : room);
  float q[HEADS][WIDEST], sum[HEADS][WIDEST], m[HEADS], l[HEADS];
#pragma unroll
  for (int h = 0; h < HEADS; h++) {
    m[h] = -CL_INFINITY;
    l[h] = 0.0f;
#pragma unroll
    for (int i = 0; i < WIDEST; i++) {
      const bool is_inside = h < count && lane + 32 * i < width;
      q[h][i] = is_inside ? load(qs[(row * heads + first_head + h) * width + lane + 32 * i]) * scale : 0.0f;
      sum[h][i] = 0.0f;
    }
  }
  for (i64 place = begin + warp; place < end; place += WARPS) {
    const i64 at = ((of * kv_heads + kv) * room + place) * width + lane;
    float k[WIDEST], v[WIDEST];
#pragma unroll
    for (int i = 0; i < WIDEST; i++) {
      const bool is_inside = lane + 32 * i < width;
      k[i] = is_inside ? load(keys[at + 32 * i]) : 0.0f;
      v[i] = is_inside ? load(values[at + 32 * i]) : 0.0f;
    }
#pragma unroll
    for (int h = 0; h < HEADS; h++) {
      if (h >= count) continue;
      float score = 0.0f;
#pragma unroll
      for (int i = 0; i < WIDEST; i++)
        if (32 * i < width) score += q[h][i] * k[i];
      score = warp_sum(score);
      const float above = greater(m[h], score), kept = share(m[h], above), added = share(score, above);
      m[h] = above;
      l[h] = l[h] * kept + added;
#pragma unroll
      for (int i = 0; i < WIDEST; i++)
        if (32 * i < width) sum[h][i] = sum[h][i] * kept + added * v[i];
    }
  }
#pragma unroll
  for (int h = 0; h < HEADS; h++) {
    most[warp][h] = m[h];
    total[warp][h] = l[h];
#pragma unroll
    for (int i = 0; i < WIDEST; i++) sums[warp][h][lane + 32 * i] = sum[h][i];
  }
  __syncthreads();
  for (int i = threadIdx.x; i < count * width; i += blockDim.x) {
    const int h = static_cast<int>(i / width), e = static_cast<int>(i % width);
    float above = -CL_INFINITY, weight = 0.0f, y = 0.0f;
    for (int w = 0; w < WARPS; w++) above = greater(above, most[w][h]);
    for (int w = 0; w < WARPS; w++) {
      const float kept = share(most[w][h], above);
      weight += kept * total[w][h];
      y += kept * sums[w][h][e];
    }
    const i64 head = row * heads + first_head + h;
    if (splits == 1) {
      store(ys + head * width + e, weight == 0.0f ? 0.0f : y / weight);
    } else {
      float* to = partial + (head * splits + split) * (width + 2);
      to[2 + e] = y;
      if (e == 0) {
        to[0] = above;
        to[1] = weight;
      }
    }
  }
}
CL_EXPORT(attend)

// y of the parts of each row and head, in their order; a warp a head, `count` heads in all.
CL_KERNEL combine(const float* partial, T* ys, i64 splits, i64 width, i64 count) {
  const int lane = threadIdx.x % 32, warps = blockDim.x / 32;
  const i64 head = blockIdx.x * static_cast<i64>(warps) + threadIdx.x / 32;
  if (head >= count) return;  // a whole warp
  const float* from = partial + head * splits * (width + 2);
  float above = -CL_INFINITY, weight = 0.0f;
  for (i64 split = lane; split < splits; split += 32) above = greater(above, from[split * (width + 2)]);
  above = warp_max(above);
  for (i64 split = 0; split < splits; split++) weight += share(from[split * (width + 2)], above) * from[split * (width + 2) + 1];
  for (i64 e = lane; e < width; e += 32) {
    float y = 0.0f;
    for (i64 split = 0; split < splits; split++) y += share(from[split * (width + 2)], above) * from[split * (width + 2) + 2 + e];
    store(ys + head * width + e, weight == 0.0f ? 0.0f : y / weight);
  }
}
CL_EXPORT(combine)
