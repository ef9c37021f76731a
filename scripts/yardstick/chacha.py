"""The order of training images as crate pixelcnn has it (`data::order`), so that both train on the same batches."""

import numpy as np

ORDER = 1  # the purpose in the generator's key


def words(key: bytes, count: int) -> np.ndarray:
    """The first `count` 32-bit words of ChaCha with 8 rounds, a block a column."""
    blocks = (count + 15) // 16
    state = np.zeros((16, blocks), np.uint32)
    state[:4] = np.frombuffer(b"expand 32-byte k", "<u4")[:, None]
    state[4:12] = np.frombuffer(key, "<u4")[:, None]
    state[12] = np.arange(blocks)
    xs = state.copy()

    def rotate(x: np.ndarray, by: int) -> np.ndarray:
        return (x << np.uint32(by)) | (x >> np.uint32(32 - by))

    def quarter(a: int, b: int, c: int, d: int) -> None:
        for to, added, turned, by in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            xs[to] += xs[added]
            xs[turned] = rotate(xs[turned] ^ xs[to], by)

    for _ in range(4):
        for column in range(4):
            quarter(column, 4 + column, 8 + column, 12 + column)
        for column in range(4):
            quarter(column, 4 + (column + 1) % 4, 8 + (column + 2) % 4, 12 + (column + 3) % 4)
    return (xs + state).T.reshape(-1)[:count]


def order(seed: int, epoch: int, n: int) -> np.ndarray:
    """Fisher and Yates' shuffle of 0..n by the generator keyed (seed, epoch, ORDER)."""
    key = seed.to_bytes(8, "little") + epoch.to_bytes(8, "little") + bytes([ORDER]) + bytes(15)
    draws = words(key, 2 * max(n - 1, 0)).view("<u8")
    permutation = list(range(n))
    for last, draw in zip(range(n - 1, 0, -1), draws.tolist()):
        index = draw * (last + 1) >> 64
        permutation[last], permutation[index] = permutation[index], permutation[last]
    return np.array(permutation)


assert order(0, 0, 8).tolist() == [1, 2, 7, 0, 3, 4, 6, 5], "the order differs from crate pixelcnn's"
