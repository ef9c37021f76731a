// Turns the pairs of heads by the angles of their positions (Su et al., "RoFormer", 2021): with x_i and x_j, j = i + E/2, a pair,
// y_i = x_i cos - x_j sin and y_j = x_j cos + x_i sin; its gradient turns by the opposite angle, `sign` -1.
// Letters: T positions, N heads of a position, E width of a head, M rows of the tables: T, or as many as there are positions.
// Shapes: x and y [.., T, N, E] of T, which may be the same memory; cosines and sines [M, E/2]. The first `turned` heads of a
// position are turned, the rest copied. A thread has four pairs.

CL_KERNEL rope(const T* xs, const float* cosines, const float* sines, T* ys, i64 heads, i64 turned, i64 half, i64 table, i64 count,
               float sign) {
  const i64 fours = (half + 3) / 4;
  for (i64 i = blockIdx.x * static_cast<i64>(blockDim.x) + threadIdx.x; i < count; i += static_cast<i64>(gridDim.x) * blockDim.x) {
    const i64 head = i / fours, at = i % fours * 4, row = head / heads % table * half;
    const T* x = xs + head * 2 * half;
    T* y = ys + head * 2 * half;
    float a[4], b[4];
    load_four(x, at, half, a);
    load_four(x + half, at, half, b);
    if (head % heads < turned) {
      float cos[4], sin[4];
      load_four(cosines + row, at, half, cos);
      load_four(sines + row, at, half, sin);
      for (int k = 0; k < 4; k++) {
        const float first = a[k], second = b[k], s = sign * sin[k];
        a[k] = first * cos[k] - second * s;
        b[k] = second * cos[k] + first * s;
      }
    }
    store_four(y, at, half, a);
    store_four(y + half, at, half, b);
  }
}
CL_EXPORT(rope)
